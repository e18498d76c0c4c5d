"""What attributes, indexing, methods and Python's own functions give: types for the data flow."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst

from torch2mlx.porting.types.kinds import (
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
    element,
)
from torch2mlx.porting.types.torch_calls import is_of_tensors, returned, says_dim

#: The class whose layers are a list in MLX, with a name of its own.
SEQUENTIAL = "torch.nn.Sequential"


#: Weights of recurrent layers and of attentions, by torch's names.
_WEIGHTS = re.compile(
    r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?|(in|q|k|v)_proj_weight|in_proj_bias|bias_[kv]"
)
#: Tensors that layers have in MLX under the same name.
_ARRAYS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
#: Options of layers that are one number.
_NUMBERS = frozenset(
    [
        *("in_features", "out_features", "in_channels", "out_channels", "num_features", "groups"),
        *("num_embeddings", "embedding_dim", "hidden_size", "input_size", "num_layers"),
        *("embed_dim", "num_heads", "head_dim", "num_groups", "num_channels", "kdim", "vdim"),
    ]
)
#: Options that are one for each spatial axis, or each axis.
_SIZES = ("kernel_size", "stride", "padding", "dilation", "output_padding", "normalized_shape")


def is_weight(name: str) -> bool:
    """Whether layers have an array of this name that other modules do not."""
    return _WEIGHTS.fullmatch(name) is not None


def option(name: Any) -> Type:
    """What a layer's option is, of which the name is given as a node."""
    text = name.value.strip("\"'") if isinstance(name, cst.SimpleString) else ""
    if text in _NUMBERS:
        return INT
    return SIZE if text in _SIZES else UNKNOWN


#: What a dataset like MNIST holds as tensors, by old names too.
_OF_DIGITS = ("data", "targets", "train_data", "train_labels", "test_data", "test_labels")


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
    if name == "saved_tensors":
        return Type("list", (TENSOR,))
    if owner.kind == "module" and name in _ARRAYS:
        return TENSOR
    if owner.kind == "module" and is_weight(name):
        return TENSOR
    if owner.kind == "module" and name == "module":
        return owner  # of DistributedDataParallel: what it wraps
    if owner.kind == "tuple" and name in ("values", "indices"):
        return TENSOR
    if owner.kind == "dataset" and owner.name.endswith("MNIST"):
        return TENSOR if name in _OF_DIGITS else UNKNOWN
    if owner.kind == "distribution":
        return SIZE if name.endswith("_shape") else TENSOR
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
    if owner.kind == "dict" and owner.items:
        return owner.items[1]
    if owner.kind == "module" and owner.name == SEQUENTIAL:
        return _layer_at(owner, places[0])
    return UNKNOWN


def _layer_at(owner: Type, place: Any) -> Type:
    """A layer of an nn.Sequential, or some of them, which are another one."""
    if isinstance(place, cst.Slice):
        return Type("module", name=SEQUENTIAL)
    at = place.value if isinstance(place, cst.Index) else None
    count = None
    if isinstance(at, cst.Integer):
        count = int(at.value)
    elif isinstance(at, cst.UnaryOperation) and isinstance(at.expression, cst.Integer):
        count = -int(at.expression.value) if isinstance(at.operator, cst.Minus) else None
    if count is not None and -len(owner.items) <= count < len(owner.items):
        return owner.items[count]
    return Type("module")


#: Methods of modules that answer the module.
_MODULE_ITSELF: tuple[str, ...] = (
    "to",
    "cuda",
    "cpu",
    "train",
    "eval",
    "double",
    "float",
    "half",
    "apply",
)
_MODULE_ITSELF += ("requires_grad_", "type", "bfloat16")


def method(owner: Type, name: str, node: Any, given: list[Type]) -> Type:
    """A method of a value of a known type."""
    if owner.kind == "class" and name == "apply":
        return TENSOR
    if owner.tensor or (owner.kind == "unknown" and (says_dim(node) or is_of_tensors(name))):
        found = returned(f"torch.{name}", node, given, 0)
        return found or _tensor_method(name, node)
    said = name in ("parameters", "named_parameters")  # that it is a module
    if owner.kind == "module" or (said and owner.kind == "unknown"):
        return _of_module(owner, name)
    if owner.kind == "dict":
        return _of_dict(owner, name)
    if owner.kind == "distribution":
        return TENSOR
    if owner.kind == "numpy":
        return NUMPY
    return STR if owner.kind == "str" else UNKNOWN


def _of_module(owner: Type, name: str) -> Type:
    if name in _MODULE_ITSELF:
        return owner
    if name == "state_dict":
        return Type("dict", (STR, TENSOR))
    if name == "named_parameters":
        return Type("list", (Type("tuple", (STR, TENSOR)),))
    if name in ("modules", "children"):
        return Type("list", (Type("module"),))
    if name in ("named_modules", "named_children"):
        return Type("list", (Type("tuple", (STR, Type("module"))),))
    return Type("parameters") if name == "parameters" else UNKNOWN


def _of_dict(owner: Type, name: str) -> Type:
    key, value = owner.items or (UNKNOWN, UNKNOWN)
    views = {"items": Type("tuple", (key, value)), "keys": key, "values": value}
    if name in views:
        return Type("list", (views[name],))
    return value if name in ("get", "pop", "setdefault") and owner.items else UNKNOWN


def _tensor_method(name: str, node: Any) -> Type:
    """A method of a tensor that is no function of the catalogue."""
    if name == "size":
        return INT if node.args else SIZE
    if name == "get_device":
        return INT
    if name == "is_contiguous":
        return BOOL
    return NONE if name in ("backward", "requires_grad") else TENSOR


def _paired(name: str, first: Type, given: list[Type]) -> Type:
    """`enumerate`, `zip` and a dict of pairs."""
    if name == "enumerate":
        return Type("list", (Type("tuple", (INT, element(first))),))
    if name == "zip":
        return Type("list", (Type("tuple", tuple(element(g) for g in given)),))
    pair = element(first) if len(given) == 1 else UNKNOWN
    return Type("dict", pair.items) if len(pair.items) == 2 else UNKNOWN


def builtin(name: str, given: list[Type]) -> Type:
    """Python's own functions."""
    first = given[0] if given else UNKNOWN
    simple = {"len": INT, "int": INT, "float": FLOAT, "str": STR, "bool": BOOL, "round": FLOAT}
    if name in simple:
        return simple[name]
    if name == "range":
        return Type("range")
    if name in ("list", "tuple", "reversed", "sorted"):
        if first.kind in ("list", "tuple", "modules"):
            return first
        held = element(first)
        return Type("list", (held,) if held.kind != "unknown" else ())
    if name == "map" and first.kind == "lambda":
        return Type("list", first.items)
    if name in ("enumerate", "zip", "dict"):
        return _paired(name, first, given)
    if name in ("sum", "max", "min", "abs"):
        return (
            first
            if first.kind in ("tensor", "int", "float")
            else (first.items[0] if first.items else UNKNOWN)
        )
    if name in ("iter", "next"):
        return first if name == "iter" else element(first)
    return UNKNOWN
