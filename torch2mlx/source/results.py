"""What torch's functions, methods, attributes and layers give: types for the data flow."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.source.kinds import (
    BOOL,
    DEVICE,
    DTYPE,
    FLOAT,
    INT,
    NONE,
    NUMPY,
    SIZE,
    STR,
    TENSOR,
    UNKNOWN,
    Type,
)

ANNOTATED = {
    **{name: TENSOR for name in ("torch.Tensor", "torch.FloatTensor", "torch.LongTensor")},
    **{"int": INT, "float": FLOAT, "bool": BOOL, "str": STR, "None": NONE, "dict": Type("dict")},
    **{"torch.nn.Module": Type("module"), "torch.device": DEVICE, "torch.dtype": DTYPE},
    **{"numpy.ndarray": NUMPY, "torch.optim.Optimizer": Type("optimizer"), "list": Type("list")},
    "torch.utils.data.DataLoader": Type("loader"),
    "torch.utils.data.Dataset": Type("dataset"),
}
_PAIR = Type("tuple", (TENSOR, TENSOR))
_LISTS = ("split", "chunk", "unbind", "meshgrid", "tensor_split", "broadcast_tensors")
_PAIRS = ("topk", "sort", "kthvalue", "mode", "cummax", "cummin", "std_mean", "var_mean", "slogdet")
_DTYPES = frozenset(
    [
        "float32",
        "float64",
        "float16",
        "bfloat16",
        "float",
        "double",
        "half",
        "int",
        "int8",
        "int16",
        "int32",
        "int64",
        "long",
        "short",
        "uint8",
        "bool",
        "complex64",
        "complex128",
    ]
)
_RECURRENT = {"LSTM": Type("tuple", (TENSOR, _PAIR)), "GRU": _PAIR, "RNN": _PAIR}
_RECURRENT |= {"LSTMCell": _PAIR, "MultiheadAttention": _PAIR}
#: Functions under torch. whose first argument is no tensor.
_PLAIN = ("zeros", "ones", "empty", "full", "arange", "linspace", "eye", "rand", "randn", "randint")
_PLAIN += ("randperm", "tensor", "as_tensor", "from_numpy", "cat", "stack", "device", "manual_seed")
_PLAIN += ("save", "load", "compile", "vmap", "no_grad", "Size", "meshgrid", "einsum", "normal")
_PLAIN += (
    "concat",
    "hstack",
    "vstack",
    "FloatTensor",
    "LongTensor",
    "Tensor",
    "Generator",
    "where",
)
_PLAIN += (
    "set_grad_enabled",
    "set_default_dtype",
    "is_tensor",
    "concatenate",
    "dstack",
    "logspace",
)
_PLAIN += (
    "block_diag",
    "cartesian_prod",
    "broadcast_tensors",
    "set_printoptions",
    "inference_mode",
)


def takes_tensor(full: str) -> bool:
    """Whether a function's first argument is a tensor."""
    group, _, name = full.rpartition(".")
    if group in ("torch.nn.functional", "torch.fft", "torch.linalg"):
        return True
    return group == "torch" and name not in _PLAIN and name[:1].islower()


def constant(full: str) -> Type:
    """A dotted name that starts with an import, not called."""
    if full.startswith("torch.") and full[6:] in _DTYPES:
        return DTYPE
    if full in ("math.pi", "math.inf", "numpy.pi", "torch.pi", "torch.inf"):
        return FLOAT
    if full.startswith("torch.nn.") and full[9:10].isupper():
        return Type("layer", name=full)
    return UNKNOWN


def _given(node: Any, name: str, place: int) -> bool:
    by_name = any(a.keyword is not None and a.keyword.value == name for a in node.args)
    return by_name or sum(a.keyword is None for a in node.args) > place


def called(full: str, node: Any, given: list[Type]) -> Type:
    """The result of a call by full name."""
    group, _, name = full.rpartition(".")
    if full.startswith("torch.nn.functional."):
        pair = name == "multi_head_attention_forward" or "with_indices" in name
        return _PAIR if pair else TENSOR
    if full.startswith("torch.nn.utils."):
        return TENSOR if name in ("clip_grad_norm_", "clip_grad_value_") else _sequence(name)
    if full in ("torch.nn.ModuleList", "torch.nn.Sequential"):
        return _children(name, given)
    if full.startswith("torch.nn.") and name[:1].isupper():
        return TENSOR if name == "Parameter" else Type("module", name=full)
    if full.startswith("torch.optim.lr_scheduler."):
        return Type("scheduler")
    if full.startswith("torch.optim."):
        return Type("optimizer")
    if full.startswith("torch.utils.data."):
        return _data(name, given)
    if group == "torch":
        return _torch(name, node, given)
    if group in ("torch.linalg", "torch.fft", "torch.special"):
        return _PAIR if name in ("qr", "eigh", "eig", "slogdet") else TENSOR
    if full.startswith("numpy."):
        return NUMPY
    if full.startswith("math."):
        return INT if name in ("ceil", "floor", "prod", "comb", "factorial") else FLOAT
    return {"torch.cuda.is_available": BOOL, "torch.amp.GradScaler": Type("scaler")}.get(
        full, TENSOR if full == "torch.autograd.Variable" else UNKNOWN
    )


def _sequence(name: str) -> Type:
    return _PAIR if name == "pad_packed_sequence" else TENSOR if "pad" in name else UNKNOWN


def _children(name: str, given: list[Type]) -> Type:
    if name == "Sequential":
        return Type("module", name="torch.nn.Sequential")
    item = given[0].items[0] if given and given[0].items else Type("module")
    return Type("modules", (item if item.kind == "module" else Type("module"),))


def _data(name: str, given: list[Type]) -> Type:
    if name == "DataLoader":
        held = given[0].items if given else ()
        return Type("loader", held)
    if name == "TensorDataset":
        return Type("dataset", tuple(TENSOR for _ in given))
    if name == "random_split":
        return Type("list", (Type("dataset", given[0].items if given else ()),))
    return Type("dataset" if name in ("Subset", "ConcatDataset") else "unknown")


def _torch(name: str, node: Any, given: list[Type]) -> Type:
    if name in ("max", "min", "median", "nanmedian"):
        several = _given(node, "dim", 1) and not (len(given) > 1 and given[1].tensor)
        return _PAIR if several else TENSOR
    if name in _PAIRS:
        return _PAIR
    if name in _LISTS:
        return Type("list", (TENSOR,))
    if name in ("device",):
        return DEVICE
    if name in ("is_tensor", "is_floating_point", "equal", "allclose", "is_grad_enabled"):
        return BOOL
    if name == "Size":
        return SIZE
    if name == "compile":
        return given[0] if given else UNKNOWN
    if name == "load":
        return UNKNOWN
    if name in ("manual_seed", "save", "set_default_dtype", "seed", "no_grad", "Generator"):
        return UNKNOWN
    return TENSOR if name[:1].islower() or name.endswith("Tensor") else UNKNOWN


def layer(full: str) -> Type:
    """What calling one of torch's layers gives."""
    return _RECURRENT.get(full.rpartition(".")[2], TENSOR if full else UNKNOWN)


def attribute(owner: Type, name: str) -> Type:
    """An attribute of a value of a known type."""
    if owner.tensor:
        known = {
            "shape": SIZE,
            "dtype": DTYPE,
            "device": DEVICE,
            "ndim": INT,
            "requires_grad": BOOL,
        }
        return known.get(
            name, TENSOR if name in ("T", "mT", "H", "data", "grad", "real", "imag") else UNKNOWN
        )
    if owner.kind == "module" and name in ("weight", "bias", "running_mean", "running_var"):
        return TENSOR
    if owner.kind == "tuple" and name in ("values", "indices"):
        return TENSOR
    if owner.kind == "numpy":
        return SIZE if name == "shape" else NUMPY if name == "T" else UNKNOWN
    return UNKNOWN


def subscript(owner: Type, places: list[Any]) -> Type:
    """x[...] of a value of a known type."""
    if owner.kind in ("tensor", "numpy"):
        return Type(owner.kind)
    if owner.kind == "size":
        return SIZE if isinstance(places[0], cst.Slice) else INT
    if owner.kind in ("list", "modules"):
        if isinstance(places[0], cst.Slice):
            return owner
        return owner.items[0] if owner.items else UNKNOWN
    if owner.kind == "tuple" and isinstance(places[0], cst.Index):
        at = places[0].value
        if isinstance(at, cst.Integer) and int(at.value) < len(owner.items):
            return owner.items[int(at.value)]
    if owner.kind == "module" and owner.name == "torch.nn.Sequential":
        return Type("module")
    return UNKNOWN


def method(owner: Type, name: str, node: Any, given: list[Type]) -> Type:
    """A method of a value of a known type."""
    if owner.tensor:
        return _tensor_method(name, node, given)
    if owner.kind == "module":
        if name in ("to", "cuda", "cpu", "train", "eval", "double", "float", "half", "apply"):
            return owner
        if name in ("requires_grad_", "type", "bfloat16"):
            return owner
        return Type("parameters") if name == "parameters" else UNKNOWN
    if owner.kind == "numpy":
        return NUMPY
    if owner.kind == "str":
        return STR
    if owner.kind == "optimizer" or owner.kind == "scheduler":
        return UNKNOWN
    return UNKNOWN


def _tensor_method(name: str, node: Any, given: list[Type]) -> Type:
    if name in ("size",):
        return INT if node.args else SIZE
    if name in ("dim", "numel", "ndimension", "nelement", "element_size", "get_device"):
        return INT
    if name in ("item",):
        return FLOAT
    if name in ("tolist",):
        return Type("list")
    if name == "numpy":
        return NUMPY
    if name in ("max", "min", "median"):
        several = _given(node, "dim", 0) and not (given and given[0].tensor)
        return _PAIR if several else TENSOR
    if name in _PAIRS:
        return _PAIR
    if name in _LISTS:
        return Type("list", (TENSOR,))
    if name in ("equal", "is_contiguous", "is_floating_point", "allclose"):
        return BOOL
    return NONE if name in ("backward", "requires_grad") else TENSOR


def builtin(name: str, given: list[Type]) -> Type:
    """Python's own functions."""
    first = given[0] if given else UNKNOWN
    simple = {"len": INT, "int": INT, "float": FLOAT, "str": STR, "bool": BOOL, "round": FLOAT}
    if name in simple:
        return simple[name]
    if name == "range":
        return Type("range")
    if name in ("list", "tuple", "reversed", "sorted"):
        return first if first.kind in ("list", "tuple", "modules") else Type("list")
    if name == "enumerate":
        from torch2mlx.source.kinds import element

        return Type("list", (Type("tuple", (INT, element(first))),))
    if name == "zip":
        from torch2mlx.source.kinds import element

        return Type("list", (Type("tuple", tuple(element(g) for g in given)),))
    if name in ("sum", "max", "min", "abs"):
        return (
            first
            if first.kind in ("tensor", "int", "float")
            else (first.items[0] if first.items else UNKNOWN)
        )
    if name in ("iter",):
        return first
    if name == "next":
        from torch2mlx.source.kinds import element

        return element(first)
    return UNKNOWN
