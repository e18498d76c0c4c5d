"""Values in structures, of both frameworks: carried over, listed, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from torch2mlx.load import mlx_array
from torch2mlx.read.tensors import borrow


def to_mlx(value: Any) -> Any:
    """Torch tensors and numpy arrays as MLX arrays, in any nesting; other values as they are.

    Dataclasses become dicts of their fields, as translated models take and give them."""
    if hasattr(value, "detach"):
        return mlx_array(borrow("input", value.detach()).load().dense()).reshape(tuple(value.shape))
    if isinstance(value, np.ndarray):
        import mlx.core as mx

        return mx.array(value)
    if isinstance(value, dict):
        return {key: to_mlx(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_mlx(item) for item in value)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {key: to_mlx(getattr(value, key)) for key in value.__dataclass_fields__}
    return value


def arrays_of(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays of a structure with their place in it."""
    if hasattr(value, "dtype"):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from arrays_of(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from arrays_of(item, f"{name}[{i}]")
    elif hasattr(value, "__dataclass_fields__"):
        for key in value.__dataclass_fields__:
            yield from arrays_of(getattr(value, key), f"{name}.{key}" if name else key)


def numpy_of(value: Any) -> Any:
    """A tensor or an array as a numpy array; bfloat16 as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    import mlx.core as mx

    return np.array(value.astype(mx.float32) if value.dtype == mx.bfloat16 else value)


def difference(a: Any, b: Any) -> float:
    """max|a - b| / max(1, max|a|); equal infinities and NaNs do not count, others are NaN."""
    if a.size == 0:
        return 0.0
    a, b = (np.asarray(v, np.complex128 if np.iscomplexobj(v) else np.float64) for v in (a, b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        gap = np.where(same, 0, np.abs(a - b)).max()
    finite = np.abs(a[np.isfinite(a)])
    return float(gap / max(1.0, finite.max(initial=0)))
