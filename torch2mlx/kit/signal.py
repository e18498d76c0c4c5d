"""Short-time Fourier transforms, as torch.stft and torch.istft."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from torch2mlx.kit.padding import pad_axes


def _window(window: mx.array | None, n_fft: int, length: int) -> mx.array:
    """The window in the middle of n_fft items."""
    made = mx.ones((length,)) if window is None else window
    before = (n_fft - length) // 2
    return mx.pad(made, [(before, n_fft - length - before)])


def stft(
    x: mx.array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: mx.array | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool = True,
) -> mx.array:
    """torch.stft(return_complex=True): (..., L) -> (..., frequencies, frames), complex64.

    A complex signal has all n_fft frequencies, a real one n_fft // 2 + 1 where `onesided`. Raises
    ValueError for a signal shorter than a frame.
    """
    hop, length = hop_length or n_fft // 4, win_length or n_fft
    if center:
        widths = [(0, 0)] * (x.ndim - 1) + [(n_fft // 2, n_fft // 2)]
        x = pad_axes(x, widths, pad_mode)
    count = (x.shape[-1] - n_fft) // hop + 1
    if count < 1:
        raise ValueError(f"{x.shape[-1]} samples are fewer than n_fft={n_fft}")
    frames = x[..., mx.arange(count)[:, None] * hop + mx.arange(n_fft)[None]]
    frames = frames * _window(window, n_fft, length)
    norm = "ortho" if normalized else "backward"
    half = onesided and not mx.issubdtype(x.dtype, mx.complexfloating)
    spectrum = (mx.fft.rfft if half else mx.fft.fft)(frames, norm=norm)
    return mx.swapaxes(spectrum, -1, -2)


def _overlapped(frames: mx.array, hop: int) -> mx.array:
    """Frames (..., frames, n), each `hop` items behind the one before, added up."""
    count, n = frames.shape[-2:]
    place = (mx.arange(count)[:, None] * hop + mx.arange(n)[None]).reshape(-1)
    flat = frames.reshape(*frames.shape[:-2], -1)
    return mx.zeros((*flat.shape[:-1], n + hop * (count - 1))).at[..., place].add(flat)


def istft(
    spectrum: mx.array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: mx.array | None = None,
    center: bool = True,
    normalized: bool = False,
    length: int | None = None,
    onesided: bool | None = None,
    return_complex: bool = False,
) -> mx.array:
    """torch.istft: (..., frequencies, frames) complex -> (..., L), float32 or complex64.

    `onesided` is taken from the number of frequencies unless it is told. Frames that no window
    reaches divide by nothing: torch refuses them, and here they are as they are added up.
    """
    hop = hop_length or n_fft // 4
    shape = _window(window, n_fft, win_length or n_fft)
    norm = "ortho" if normalized else "backward"
    turned = mx.swapaxes(spectrum, -1, -2)
    half = n_fft // 2 + 1
    onesided = turned.shape[-1] != n_fft if onesided is None else onesided
    if return_complex:
        made = mx.fft.ifft(turned, norm=norm)
        frames = mx.stack([mx.real(made), mx.imag(made)]) * shape
    else:
        turned = turned if onesided else turned[..., :half]
        frames = mx.fft.irfft(turned, n=n_fft, norm=norm) * shape
    summed = _overlapped(frames, hop)
    count = frames.shape[-2]
    weight = _overlapped(mx.broadcast_to(mx.square(shape), (count, n_fft)), hop)
    start, total = n_fft // 2 if center else 0, summed.shape[-1]
    end = total - start if length is None else min(start + length, total)
    signal = summed[..., start:end] / mx.where(weight > 1e-11, weight, 1)[start:end]
    short = 0 if length is None else length - signal.shape[-1]
    if short > 0:
        signal = mx.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, short)])
    return signal[0] + 1j * signal[1] if return_complex else signal


#: torch's norms the other way round, as of a transform that is another's inverse.
_OPPOSITE = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


def hfft(x: mx.array, n: int | None = None, dim: int = -1, norm: str | None = None) -> mx.array:
    """torch.fft.hfft: the real spectrum of a signal of which half is given, the rest mirrored."""
    return mx.fft.irfft(mx.conj(x), n=n, axis=dim, norm=_OPPOSITE[norm])


def ihfft(x: mx.array, n: int | None = None, dim: int = -1, norm: str | None = None) -> mx.array:
    """torch.fft.ihfft: the inverse of hfft, (..., L) real -> (..., L // 2 + 1) complex64."""
    return mx.conj(mx.fft.rfft(x, n=n, axis=dim, norm=_OPPOSITE[norm]))


def _axes(x: mx.array, s: Sequence[int] | None, dim: Sequence[int] | None) -> list[int]:
    if dim is not None:
        return [dim] if isinstance(dim, int) else list(dim)
    return list(range(-x.ndim if s is None else -len(s), 0))


def hfftn(
    x: mx.array,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: str | None = None,
) -> mx.array:
    """torch.fft.hfftn (hfft2 with dim=(-2, -1)): hfft over several axes, the last one mirrored."""
    sizes = None if s is None else tuple(s)
    return mx.fft.irfftn(mx.conj(x), s=sizes, axes=_axes(x, s, dim), norm=_OPPOSITE[norm])


def ihfftn(
    x: mx.array,
    s: Sequence[int] | None = None,
    dim: Sequence[int] | None = None,
    norm: str | None = None,
) -> mx.array:
    """torch.fft.ihfftn (ihfft2 with dim=(-2, -1)): the inverse of hfftn."""
    sizes = None if s is None else tuple(s)
    return mx.conj(mx.fft.rfftn(x, s=sizes, axes=_axes(x, s, dim), norm=_OPPOSITE[norm]))
