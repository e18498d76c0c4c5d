"""Short-time Fourier transforms, as torch.stft and torch.istft."""

from __future__ import annotations

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
    """torch.stft(return_complex=True): (..., L) -> (..., frequencies, frames), complex64."""
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
    spectrum = mx.fft.rfft(frames, norm=norm) if onesided else mx.fft.fft(frames, norm=norm)
    return mx.swapaxes(spectrum, -1, -2)


def istft(
    spectrum: mx.array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: mx.array | None = None,
    center: bool = True,
    normalized: bool = False,
    length: int | None = None,
) -> mx.array:
    """torch.istft of a one-sided spectrum: (..., frequencies, frames) -> (..., L)."""
    hop = hop_length or n_fft // 4
    shape = _window(window, n_fft, win_length or n_fft)
    norm = "ortho" if normalized else "backward"
    frames = mx.fft.irfft(mx.swapaxes(spectrum, -1, -2), n=n_fft, norm=norm) * shape
    count = frames.shape[-2]
    total = n_fft + hop * (count - 1)
    place = (mx.arange(count)[:, None] * hop + mx.arange(n_fft)[None]).reshape(-1)
    flat = frames.reshape(*frames.shape[:-2], -1)
    summed = mx.zeros((*flat.shape[:-1], total)).at[..., place].add(flat)
    weight = mx.zeros((total,)).at[place].add(mx.tile(mx.square(shape), count))
    start = n_fft // 2 if center else 0
    end = total - start if length is None else min(start + length, total)
    signal = summed[..., start:end] / mx.where(weight > 1e-11, weight, 1)[start:end]
    short = 0 if length is None else length - signal.shape[-1]
    return mx.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, short)]) if short > 0 else signal
