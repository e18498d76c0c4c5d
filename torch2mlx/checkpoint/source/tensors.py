"""Anything that holds numbers becomes a borrowed `_core.Tensor`, or is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.common.resolve import problem, resolve
from torch2mlx.errors import UnsupportedTensorError
from torch2mlx.types import Borrowed, Deferred, TensorSource

#: Called with a key and the tensor of a file that is about to be read.
Check = Callable[[str, _core.Tensor], None]

_NAMES = {torch for torch, *_ in _core.DTYPES}
# numpy's own names, and those that ml_dtypes gives its types
_NUMPY = {
    **{name: name for name in _NAMES if name in np.sctypeDict},
    "bool": "bool",
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2",
}
_ARRAYS = (_core.Tensor, np.ndarray, np.generic, _core.Unresolved)
_BYTES = {1: np.uint8, 2: np.uint16}


def _refuse(key: str, what: str, advice: str) -> UnsupportedTensorError:
    return UnsupportedTensorError(f"tensor {key!r}: {what}; {advice}")


def array_types() -> tuple[type, ...]:
    """The tensors of all libraries that `borrow` reads or refuses."""
    torch = sys.modules.get("torch")
    return _ARRAYS if torch is None else (torch.Tensor, *_ARRAYS)


def is_array(value: Any) -> bool:
    """Whether a value is such a tensor."""
    return isinstance(value, array_types())


def borrow_plain(entries: Mapping[str, Any], check: Check | None = None) -> dict[str, Any]:
    """Entries of a state dict, with `Borrowed` for those whose memory holds their values as they
    are; the rest is as it was, for `borrow`."""
    torch = sys.modules.get("torch")
    if torch is None:
        return _core.borrow_plain(dict(entries), Borrowed, check, (), frozenset(), None, None)
    kinds = (torch.nn.Parameter, torch.Tensor)
    dtypes = {value.dtype for value in entries.values() if type(value) in kinds}
    return _core.borrow_plain(
        dict(entries),
        Borrowed,
        check,
        kinds,
        frozenset(filter(_has_form, dtypes)),
        torch.strided,
        torch.utils.dlpack.to_dlpack,
    )


def borrow(key: str, value: Any, check: Check | None = None) -> TensorSource:
    """A tensor without a copy where its memory allows that.

    Copied, one at a time and only when needed: tensors on a device, with the lazy conj or neg
    bit, of foreign byte order. `check` is called with key and tensor before the bytes of a file's
    tensor are read. Raises UnsupportedTensorError for what has no exact MLX form.
    """
    if isinstance(value, _core.Tensor):
        return Borrowed.of(key, value, check)
    if isinstance(value, _core.Unresolved):
        return _resolved(key, value, check)
    if isinstance(value, (np.ndarray, np.generic)):
        if isinstance(value, np.ma.MaskedArray):
            raise _refuse(key, "a masked array has no MLX form", "call .filled() first")
        return Borrowed.of(key, _from_numpy(key, np.asarray(value)))
    return _from_torch(key, value)


@lru_cache(maxsize=64)
def numpy_name(dtype: np.dtype[Any]) -> tuple[str | None, bool]:
    """(torch name of a dtype, whether numpy itself knows it); numpy takes its time to name one."""
    own = dtype.kind != "V" and dtype.name in np.sctypeDict
    return _NUMPY.get(dtype.name), own


def _resolved(key: str, value: _core.Unresolved, check: Check | None) -> TensorSource:
    what = problem(value)
    if what is not None:
        raise _refuse(key, what, "save a plain tensor")

    def make() -> _core.Tensor:
        if check is not None:
            check(key, value.tensor)
        return resolve(value)

    return Deferred(key, value.tensor.shape, value.tensor.dtype, make)


def _from_numpy(key: str, array: np.ndarray) -> _core.Tensor:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    name, own = numpy_name(array.dtype)
    if name is None:
        raise _refuse(key, f"dtype {array.dtype} has no MLX form", "cast it to another one")
    if not own:
        array = array.view(_BYTES[array.dtype.itemsize])
    return _core.from_buffer(array, name)


@lru_cache(maxsize=64)
def _torch_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _subclass_problem(torch: Any, tensor: Any) -> tuple[str, str] | None:
    """Why an object of a subclass of torch.Tensor cannot be read."""
    if type(tensor).__name__.startswith("Uninitialized"):
        return "a lazy module's parameter has no shape yet", "run one forward pass first"
    if tensor.is_meta:
        return None  # said below, like all that is not about the subclass
    if hasattr(tensor, "full_tensor"):
        return "it is a shard of a distributed tensor", "call .full_tensor() first"
    wrapper = getattr(torch.utils, "_python_dispatch", None)
    if wrapper is not None and wrapper.is_traceable_wrapper_subclass(tensor):
        return f"{type(tensor).__name__} wraps other tensors", "turn it into a plain tensor first"
    return None


def _torch_problem(torch: Any, tensor: Any) -> tuple[str, str] | None:
    """Why a torch tensor cannot be read: (what it is, what to do)."""
    if type(tensor) is not torch.Tensor and type(tensor) is not torch.nn.Parameter:
        problem = _subclass_problem(torch, tensor)
        if problem:
            return problem
    if tensor.is_meta:
        return "it is on the meta device, so it has no values", "load its weights first"
    if tensor.is_quantized:
        return "torch's quantized tensors have no MLX form", "call .dequantize() first"
    if tensor.is_nested:
        return "a nested tensor has no MLX form", "call .unbind() and give its parts names first"
    if tensor.layout is not torch.strided:
        return f"layout {tensor.layout} has no MLX form", "call .to_dense() first"
    name = _torch_name(tensor.dtype)
    if name not in _NAMES:
        return f"dtype {name} has no MLX form", "cast it to another one"
    return None


@lru_cache(maxsize=64)
def _has_form(dtype: Any) -> bool:
    return _torch_name(dtype) in _NAMES


def _is_plain(torch: Any, tensor: Any) -> bool:
    """Whether a tensor's memory holds its values as they are, and nothing has to be asked."""
    return (
        tensor.is_cpu
        and _has_form(tensor.dtype)
        and tensor.layout is torch.strided
        and not (tensor.is_nested or tensor.is_conj() or tensor.is_neg())
    )


def _from_torch(key: str, tensor: Any) -> TensorSource:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(tensor, torch.Tensor):
        raise _refuse(key, f"{type(tensor).__name__} is not a tensor", "pass torch or numpy")
    own = type(tensor) is torch.nn.Parameter or type(tensor) is torch.Tensor
    if own and _is_plain(torch, tensor):
        return Borrowed.of(key, _borrow_cpu(tensor))
    problem = _torch_problem(torch, tensor)
    if problem:
        raise _refuse(key, *problem)
    if _is_plain(torch, tensor):
        return Borrowed.of(key, _borrow_cpu(tensor))
    tensor = tensor.detach()
    make = lambda: _borrow_cpu(tensor.cpu().resolve_conj().resolve_neg())  # noqa: E731
    return Deferred(key, tuple(tensor.shape), _torch_name(tensor.dtype), make)


def _borrow_cpu(tensor: Any) -> _core.Tensor:
    """DLPack, or the buffer protocol where this torch's DLPack lacks the dtype."""
    torch = sys.modules["torch"]
    try:
        return _core.from_dlpack(torch.utils.dlpack.to_dlpack(tensor))
    except (BufferError, TypeError, RuntimeError, _core.CoreError):
        plain = tensor.detach().view({1: torch.uint8, 2: torch.int16}[tensor.element_size()])
        return _core.from_buffer(plain.numpy(), _torch_name(tensor.dtype))
