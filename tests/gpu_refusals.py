"""MLX's CPU device, refusing what MLX refuses to put on a GPU's stream.

MLX decides that while it makes a graph, before any backend is asked, so it is the same on Apple's
GPUs and on NVIDIA's: no decomposition of mx.linalg, and no write of 8 bytes at indices that are
arrays, but for complex numbers that are added. float64, the third, is looked for in the source
(`torch2mlx.common.apple`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import pytest

from torch2mlx.common.apple import CPU_LINALG


class NotOnAGPU(ValueError):
    """What MLX would raise where the default device is a GPU."""


class _Streams:
    """mx.stream, counting how many of the contexts around are of the CPU."""

    def __init__(self) -> None:
        self.make, self.inside = mx.stream, 0

    @contextmanager
    def __call__(self, place: Any) -> Iterator[None]:
        self.inside += 1
        try:
            with self.make(place):
                yield
        finally:
            self.inside -= 1


class _At:
    """`x.at` or `x.at[where]`, whose updates are refused where a GPU has none."""

    def __init__(self, streams: _Streams, x: mx.array, at: Any, where: Any = None) -> None:
        self.streams, self.x, self.at, self.where = streams, x, at, where

    def __getitem__(self, where: Any) -> _At:
        return _At(self.streams, self.x, self.at[where], where)

    def __getattr__(self, name: str) -> Any:
        added = self.x.dtype == mx.complex64 and name in ("add", "subtract")
        update = getattr(self.at, name)

        def refusing(values: Any) -> mx.array:
            if not added:
                _written(self.streams, self.x, self.where)
            return update(values)

        return refusing


def _written(streams: _Streams, x: mx.array, where: Any) -> None:
    parts = where if isinstance(where, tuple) else (where,)
    indexed = any(isinstance(p, (mx.array, list)) for p in parts)
    masked = any(isinstance(p, mx.array) and p.dtype == mx.bool_ for p in parts)
    if indexed and not masked and not streams.inside and x.dtype.size == 8:
        raise NotOnAGPU(f"no GPU scatters {x.dtype}")


def _linalg(streams: _Streams, name: str, run: Any) -> Any:
    def refusing(*args: Any, **options: Any) -> Any:
        if not streams.inside and options.get("stream") is None:
            raise NotOnAGPU(f"no GPU has mx.linalg.{name}")
        return run(*args, **options)

    return refusing


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Within this, the default device refuses as a GPU does; what asks for mx.cpu is served."""
    streams, at, put = _Streams(), mx.array.__dict__["at"], mx.array.__setitem__

    def assign(x: mx.array, where: Any, values: Any) -> None:
        _written(streams, x, where)
        put(x, where, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx, "stream", streams)
        patch.setattr(mx.array, "at", property(lambda x: _At(streams, x, at.__get__(x))))
        patch.setattr(mx.array, "__setitem__", assign)
        for name in CPU_LINALG:
            if hasattr(mx.linalg, name):
                patch.setattr(mx.linalg, name, _linalg(streams, name, getattr(mx.linalg, name)))
        yield
