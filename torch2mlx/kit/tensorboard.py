"""`torch.utils.tensorboard.SummaryWriter`, over tensorboardX: the same calls, given arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.common.optional import need


class SummaryWriter:
    """Writes what TensorBoard shows; its arguments and methods are torch's.

    Arrays that are given, in lists and dicts too, are computed and handed to tensorboardX's writer
    as numpy's; half formats as float32. A graph is torch's own: `add_graph` is no method.

    Raises MissingLibraryError without tensorboardX.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        need("SummaryWriter", "tensorboardX")
        import tensorboardX

        self._writer = tensorboardX.SummaryWriter(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("_writer", "add_graph"):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        found = getattr(self._writer, name)
        return _given_numpy(found) if callable(found) else found

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _given_numpy(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})

    return call


def _plain(value: Any) -> Any:
    """A value with numpy's arrays for MLX's."""
    if isinstance(value, mx.array):
        half = value.dtype in (mx.bfloat16, mx.float16)
        return np.array(value.astype(mx.float32) if half else value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item) for item in value])
    return value
