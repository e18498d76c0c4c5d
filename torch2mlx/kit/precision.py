"""Half formats, computed in float32 and rounded once at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx

_HALVES = (mx.float16, mx.bfloat16)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def _widened(value: Any) -> Any:
    is_half = isinstance(value, mx.array) and value.dtype in _HALVES
    return value.astype(mx.float32) if is_half else value


def in_float32(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Widens float16 and bfloat16 arguments, and gives the result the dtype of the first one.

    For functions of several steps: rounding after each would add up.
    """

    compute: Callable[..., Any] = function

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        first = args[0].dtype if args and isinstance(args[0], mx.array) else None
        if first not in _HALVES:
            return compute(*args, **kwargs)
        made = compute(*map(_widened, args), **{k: _widened(v) for k, v in kwargs.items()})
        parts = made if isinstance(made, tuple) else (made,)
        parts = tuple(p.astype(first) if p.dtype == mx.float32 else p for p in parts)
        return parts if isinstance(made, tuple) else parts[0]

    return call
