"""Short-time Fourier transforms, transforms of mirrored signals, and their frequencies."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.complexes import view_as_real
from torch2mlx.export.lower.ops.registry import lowers


def _given(**options: Any) -> dict[str, Any]:
    """Options that say something else than the kit's own defaults."""
    unsaid = (None, False)  # by identity: an axis 0 is said
    return {k: v for k, v in options.items() if not any(v is u for u in unsaid)}


def _window(window: Any) -> dict[str, Node]:
    if window is not None and "complex" in window.dtype:
        raise Refuse("with a complex window")
    return {} if window is None else {"window": window}


@lowers("aten::stft")
def stft(
    b: Builder,
    self: Node,
    n_fft: int,
    hop_length: Any = None,
    win_length: Any = None,
    window: Any = None,
    normalized: bool = False,
    onesided: Any = None,
    return_complex: Any = None,
    center: bool | None = None,
    pad_mode: str = "reflect",
    align_to_window: Any = None,
) -> Node:
    """The short-time Fourier transform."""
    if align_to_window:
        raise Refuse("with align_to_window")
    length = None if win_length == n_fft else win_length
    options = _given(win_length=length, normalized=normalized)
    if onesided is False and "complex" not in self.dtype:
        options["onesided"] = False
    options["center"] = bool(center)
    if center and pad_mode != "reflect":
        options["pad_mode"] = pad_mode
    hop = hop_length or n_fft // 4
    made = b.call("kit.signal.stft", self, n_fft, hop, **_window(window), **options)
    return made if return_complex or "complex" in self.dtype else view_as_real(b, made)


@lowers("aten::istft")
def istft(
    b: Builder,
    self: Node,
    n_fft: int,
    hop_length: Any = None,
    win_length: Any = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: Any = None,
    length: Any = None,
    return_complex: bool = False,
) -> Node:
    """The inverse of the short-time Fourier transform."""
    wide = None if win_length == n_fft else win_length
    options = _given(win_length=wide, normalized=normalized, return_complex=return_complex)
    if length is not None:
        options["length"] = length
    if not center:
        options["center"] = False
    if onesided is not None:
        options["onesided"] = onesided
    hop = hop_length or n_fft // 4
    return b.call("kit.signal.istft", self, n_fft, hop, **_window(window), **options)


def _mirrored(name: str) -> None:
    def function(
        b: Builder, self: Node, n: Any = None, dim: int = -1, norm: str | None = None
    ) -> Node:
        options = _given(n=n, dim=None if dim == -1 else dim, norm=norm)
        return b.call(f"kit.signal.{name}", self, **options)

    function.__name__ = name
    lowers(f"aten::fft_{name}")(function)


def _mirrored_along(name: str, theirs: str, usual: Any) -> None:
    def function(
        b: Builder, self: Node, s: Any = None, dim: Any = usual, norm: str | None = None
    ) -> Node:
        axes = None if dim is None else tuple(dim)
        options = _given(s=None if s is None else tuple(s), dim=axes, norm=norm)
        return b.call(f"kit.signal.{theirs}", self, **options)

    function.__name__ = name
    lowers(f"aten::fft_{name}")(function)


for _name in ("hfft", "ihfft"):
    _mirrored(_name)
    _mirrored_along(f"{_name}n", f"{_name}n", None)
    _mirrored_along(f"{_name}2", f"{_name}n", (-2, -1))


def _frequencies(name: str) -> None:
    def function(b: Builder, n: int, d: float = 1.0, **_: Any) -> Node:
        return b.call(f"mx.fft.{name}", n, *(() if d == 1 else (d,)))

    function.__name__ = name
    lowers(f"aten::fft_{name}")(function)


_frequencies("fftfreq")
_frequencies("rfftfreq")
