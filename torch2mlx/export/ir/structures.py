"""Values in structures, of both frameworks: carried over, listed, compared."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from torch2mlx.checkpoint.source.converted import mlx_array
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.errors import VerificationError

_NOT_IN_NUMPY = ("torch.bfloat16", "torch.float8_e4m3fn", "torch.float8_e5m2")


def to_mlx(value: Any) -> Any:
    """Torch tensors and numpy arrays as MLX arrays, in any nesting; other values as they are.

    Dataclasses become dicts of their fields, as translated models take and give them."""
    if hasattr(value, "detach"):
        plain = plain_tensor(value.detach())
        return mlx_array(borrow("input", plain).load().dense()).reshape(tuple(plain.shape))
    if isinstance(value, np.ndarray):
        import mlx.core as mx

        return mx.array(value)
    if isinstance(value, Mapping):
        return {key: to_mlx(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _like(value, [to_mlx(item) for item in value])
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {key: to_mlx(getattr(value, key)) for key in value.__dataclass_fields__}
    return value


def _like(value: Any, items: list[Any]) -> Any:
    """A list or tuple of a sequence's own type."""
    kind = type(value)
    if kind.__module__ in ("torch.nn.utils.rnn", "torch2mlx.kit.packed"):
        kind = _packed(items)
    return kind(*items) if hasattr(value, "_fields") else kind(items)


def _packed(items: list[Any]) -> Any:
    """The class of packed sequences that takes these parts: torch's of tensors, or the kit's."""
    if hasattr(items[0], "detach"):
        from torch.nn.utils.rnn import PackedSequence

        return PackedSequence
    from torch2mlx.kit import packed

    return packed.PackedSequence


def rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """A list, tuple or dict with its items changed, of its own type; other values as they are."""
    if type(value) in (dict, OrderedDict):
        return type(value)((key, change(item)) for key, item in value.items())
    if isinstance(value, Mapping) and not hasattr(value, "__dataclass_fields__"):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _like(value, [change(item) for item in value])
    return value


def holds_foreign(value: Any) -> bool:
    """Whether torch tensors or numpy arrays are anywhere in a structure."""
    if isinstance(value, (list, tuple)):
        return any(map(holds_foreign, value))
    if isinstance(value, Mapping):
        return any(map(holds_foreign, value.values()))
    return hasattr(value, "detach") or isinstance(value, np.ndarray)


def plain_tensor(value: Any) -> Any:
    """A tensor of a subclass as the torch.Tensor that it is.

    Raises VerificationError for one that wraps others and has no values of its own.
    """
    import torch

    if hasattr(value, "__tensor_flatten__") or value.is_nested:
        raise VerificationError(
            f"a {type(value).__name__} wraps other tensors and has no values of its own: give "
            "torch.Tensor"
        )
    return value if type(value) is torch.Tensor else value.as_subclass(torch.Tensor)


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


def copied(value: Any) -> Any:
    """A copy of a structure: tensors and arrays with memory of their own, shared where they share.

    Tensors that are results of others become leaves.
    """
    import torch
    from torch.utils import _pytree as pytree

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.detach().clone().requires_grad_(leaf.requires_grad)

    leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    try:
        return copy.deepcopy(value, {id(t): own(t) for t in leaves if not t.is_leaf})
    except (TypeError, RuntimeError, NotImplementedError, AttributeError):
        return pytree.tree_map(own, value)  # something in it knows no copy


def numpy_of(value: Any) -> Any:
    """A tensor or an array as a numpy array; bfloat16 as float32."""
    if hasattr(value, "detach"):
        value = plain_tensor(value.detach()).cpu().resolve_conj().resolve_neg()
        value = value.to_dense() if value.is_sparse else value
        return (value.float() if str(value.dtype) in _NOT_IN_NUMPY else value).numpy()
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
