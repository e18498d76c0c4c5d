"""What torch's functions, methods, attributes and layers give: types for the data flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch2mlx.catalog.functions.table import find_function
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
)

ANNOTATED = {
    **{name: TENSOR for name in ("torch.Tensor", "torch.FloatTensor", "torch.LongTensor")},
    **{"int": INT, "float": FLOAT, "bool": BOOL, "str": STR, "None": NONE, "dict": Type("dict")},
    **{"torch.nn.Module": Type("module"), "torch.device": DEVICE, "torch.dtype": DTYPE},
    **{"numpy.ndarray": NUMPY, "torch.optim.Optimizer": Type("optimizer"), "list": Type("list")},
    "torch.utils.data.DataLoader": Type("loader"),
    "torch.utils.data.Dataset": Type("dataset"),
}
PAIR = Type("tuple", (TENSOR, TENSOR))
LISTS = ("split", "chunk", "unbind", "meshgrid", "tensor_split", "broadcast_tensors")
PAIRS = ("topk", "sort", "kthvalue", "mode", "cummax", "cummin", "std_mean", "var_mean", "slogdet")
_DTYPES = frozenset(
    [
        *("float32", "float64", "float16", "bfloat16", "float", "double", "half", "int"),
        *("int8", "int16", "int32", "int64", "long", "short", "uint8", "bool", "complex64"),
        *("complex128",),
    ]
)
_RECURRENT = {"LSTM": Type("tuple", (TENSOR, PAIR)), "GRU": PAIR, "RNN": PAIR}
_RECURRENT |= {"LSTMCell": PAIR, "MultiheadAttention": PAIR}
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


def says_dim(node: Any) -> bool:
    """Whether a call has an argument `dim` or `keepdim`: numpy says axis."""
    return any(a.keyword is not None and a.keyword.value in ("dim", "keepdim") for a in node.args)


def several_given(name: str, node: Any) -> Type | None:
    """What `unique` gives with its flags; None for other functions, and without them."""
    if name not in ("unique", "unique_consecutive"):
        return None
    flags = ("return_inverse", "return_counts")
    asked = sum(a.keyword is not None and a.keyword.value in flags for a in node.args)
    return Type("tuple", (TENSOR,) * (1 + asked)) if asked else None


def _in_tuple(name: str, node: Any) -> bool:
    """Whether places come as a tuple, an array for each axis."""
    said = any(a.keyword is not None and a.keyword.value == "as_tuple" for a in node.args)
    return said or (name == "where" and len(node.args) == 1)


#: Types of what the catalogue says that functions return.
_RETURNS = {
    "tensor": TENSOR,
    "pair": PAIR,
    "triple": Type("tuple", (TENSOR, TENSOR, TENSOR)),
    "list": Type("list", (TENSOR,)),
    "bool": BOOL,
    "nothing": NONE,
}


def returned(full: str) -> Type | None:
    """What a function (or tensor method) returns by its entry; None where that does not say."""
    entry = find_function(full)
    return None if entry is None or not entry.forms else _RETURNS.get(entry.returns)


def takes_tensor(full: str) -> bool:
    """Whether a function's first argument is a tensor."""
    entry = find_function(full)
    if entry is not None:
        return not entry.made
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


def given_as(node: Any, name: str, place: int) -> bool:
    by_name = any(a.keyword is not None and a.keyword.value == name for a in node.args)
    return by_name or sum(a.keyword is None for a in node.args) > place


def called(full: str, node: Any, given: list[Type]) -> Type:
    """The result of a call by full name."""
    known_type = returned(full)
    if known_type is not None:
        return known_type
    group, _, name = full.rpartition(".")
    if group == "torch":
        return _torch(name, node, given)
    for prefix, rule in _GROUPS.items():
        if full.startswith(prefix):
            return rule(name, given)
    known = {"torch.cuda.is_available": BOOL, "torch.amp.GradScaler": Type("scaler")}
    return known.get(full, TENSOR if full == "torch.autograd.Variable" else UNKNOWN)


def _functional(name: str, given: list[Type]) -> Type:
    pair = name == "multi_head_attention_forward" or "with_indices" in name
    return PAIR if pair else TENSOR


def _utility(name: str, given: list[Type]) -> Type:
    return TENSOR if name in ("clip_grad_norm_", "clip_grad_value_") else _sequence(name)


def _layer(name: str, given: list[Type]) -> Type:
    if name in ("ModuleList", "Sequential"):
        return _children(name, given)
    if not name[:1].isupper():
        return UNKNOWN
    held = name in ("Parameter", "Buffer")
    return TENSOR if held else Type("module", name=f"torch.nn.{name}")


def _algebra(name: str, given: list[Type]) -> Type:
    return PAIR if name in ("qr", "eigh", "eig", "slogdet") else TENSOR


def _math(name: str, given: list[Type]) -> Type:
    return INT if name in ("ceil", "floor", "prod", "comb", "factorial") else FLOAT


def _sequence(name: str) -> Type:
    return PAIR if name == "pad_packed_sequence" else TENSOR if "pad" in name else UNKNOWN


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


def _distribution(name: str, given: list[Type]) -> Type:
    return TENSOR if name == "kl_divergence" else Type("distribution")


def _pattern(name: str, given: list[Type]) -> Type:
    """einops gives what it gets: arrays of numpy, or tensors."""
    first = given[0] if given else UNKNOWN
    if name in ("rearrange", "repeat") and first.tensor:
        return first  # a mask stays one
    if name in ("rearrange", "repeat", "reduce", "einsum"):
        return NUMPY if first.kind == "numpy" else TENSOR
    if name == "pack":
        return Type("tuple", (TENSOR, Type("list")))
    return Type("list", (TENSOR,)) if name == "unpack" else UNKNOWN


_GROUPS: dict[str, Callable[[str, list[Type]], Type]] = {
    "torch.nn.functional.": _functional,
    "torch.nn.utils.": _utility,
    "torch.nn.": _layer,
    "torch.optim.lr_scheduler.": lambda name, given: Type("scheduler"),
    "torch.optim.": lambda name, given: Type("optimizer"),
    "torch.utils.data.": _data,
    "torchvision.datasets.": lambda name, given: Type("dataset"),
    "torch.distributions.": _distribution,
    "torch.linalg.": _algebra,
    "torch.fft.": _algebra,
    "torch.special.": _algebra,
    "numpy.": lambda name, given: NUMPY,
    "einops.layers.": lambda name, given: Type("module", name=f"einops.{name}"),
    "einops.": _pattern,
    "math.": _math,
}


def _torch(name: str, node: Any, given: list[Type]) -> Type:
    if name in ("max", "min", "median", "nanmedian"):
        several = given_as(node, "dim", 1) and not (len(given) > 1 and given[1].tensor)
        return PAIR if several else TENSOR
    several = several_given(name, node)
    if several is not None or name in PAIRS:
        return several or PAIR
    if name in LISTS or (name in ("nonzero", "where") and _in_tuple(name, node)):
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
