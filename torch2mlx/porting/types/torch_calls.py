"""What torch's functions, methods, attributes and layers give: types for the data flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.catalog.processes import find_shared
from torch2mlx.porting.scopes.import_table import TYPED
from torch2mlx.porting.types.kinds import (
    BOOL,
    DEVICE,
    DTYPE,
    FLOAT,
    INT,
    NONE,
    NUMBERS,
    NUMPY,
    NUMPY_NUMBER,
    SIZE,
    STR,
    TENSOR,
    UNKNOWN,
    Type,
)
from torch2mlx.porting.types.layers import NORMALIZED

ANNOTATED = {
    **{f"torch.{name}": TENSOR for name in ("Tensor", *TYPED)},
    **{"int": INT, "float": FLOAT, "bool": BOOL, "str": STR, "None": NONE, "dict": Type("dict")},
    **{"torch.nn.Module": Type("module"), "torch.device": DEVICE, "torch.dtype": DTYPE},
    **{"numpy.ndarray": NUMPY, "torch.optim.Optimizer": Type("optimizer"), "list": Type("list")},
    "torch.utils.data.DataLoader": Type("loader"),
    "torch.utils.data.Dataset": Type("dataset"),
}
PAIR = Type("tuple", (TENSOR, TENSOR))
_DTYPES = frozenset(
    [
        *("float32", "float64", "float16", "bfloat16", "float", "double", "half", "int"),
        *("int8", "int16", "int32", "int64", "long", "short", "uint8", "bool", "complex64"),
        *("complex128",),
    ]
)
#: Functions of numpy that give one of its numbers where they are given numbers.
_OF_ITEMS = frozenset(
    [
        *("sqrt", "cbrt", "exp", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan"),
        *("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "floor", "ceil"),
        *("deg2rad", "rad2deg", "float32", "float64", "clip", "maximum", "minimum", "power"),
        *("abs", "round", "mod", "int64", "int32"),
    ]
)
#: numpy's random numbers, by how many arguments come before the size.
_DRAWN = {"beta": 2, "uniform": 2, "normal": 2, "gamma": 2, "exponential": 1, "poisson": 1}
_DRAWN |= {
    "rand": 0,
    "randn": 0,
    "random": 0,
    "random_sample": 0,
    "randint": 2,
    "standard_normal": 0,
}
_RECURRENT = {"LSTM": Type("tuple", (TENSOR, PAIR)), "GRU": PAIR, "RNN": PAIR}
_RECURRENT |= {"LSTMCell": PAIR, "MultiheadAttention": PAIR}
#: What is called under torch. and is no function of tensors.
_OTHERS = frozenset(
    [
        *("Generator", "Size", "compile", "device", "inference_mode", "load", "no_grad", "save"),
        *("seed", "set_default_dtype", "set_grad_enabled", "set_printoptions"),
    ]
)
#: Methods in place that have no function of their name, but a tensor.
_IN_PLACE = frozenset(
    [
        *("zero_", "fill_", "copy_", "normal_", "uniform_", "exponential_", "random_"),
        *("log_normal_", "cauchy_"),
    ]
)


def says_dim(node: Any) -> bool:
    """Whether a call has an argument `dim` or `keepdim`: numpy says axis."""
    return any(a.keyword is not None and a.keyword.value in ("dim", "keepdim") for a in node.args)


def _several(node: Any) -> Type:
    """What `unique` gives with its flags."""
    flags = ("return_inverse", "return_counts")
    asked = sum(a.keyword is not None and a.keyword.value in flags for a in node.args)
    return Type("tuple", (TENSOR,) * (1 + asked)) if asked else TENSOR


def _placed(node: Any, place: int) -> Type:
    """What `nonzero` and `where` give: places may come as a tuple, an array for each axis."""
    said = any(a.keyword is not None and a.keyword.value == "as_tuple" for a in node.args)
    alone = place == 1 and len(node.args) == 1
    return Type("list", (TENSOR,)) if said or alone else TENSOR


#: Types of what the catalogue says that functions return.
_RETURNS = {
    "tensor": TENSOR,
    "pair": PAIR,
    "triple": Type("tuple", (TENSOR, TENSOR, TENSOR)),
    "list": Type("list", (TENSOR,)),
    "numbers": Type("list"),
    "bool": BOOL,
    "int": INT,
    "float": FLOAT,
    "numpy": NUMPY,
    "unknown": UNKNOWN,
}


def returned(full: str, node: Any, given: list[Type], place: int) -> Type | None:
    """What a function returns by its entry, or a tensor method by the entry of its name; `place`
    of the first argument after the tensor: 1, of a method 0. None without an entry."""
    entry = find_function(full)
    if entry is None or not entry.written:
        return None
    if entry.returns == "by_dim":
        several = given_as(node, "dim", place) and not (len(given) > place and given[place].tensor)
        return PAIR if several else TENSOR
    if entry.returns == "by_flags":
        return _several(node)
    if entry.returns == "by_tuple":
        return _placed(node, place)
    return _RETURNS.get(entry.returns, TENSOR)


def takes_tensor(full: str) -> bool:
    """Whether a function's first argument is a tensor."""
    entry = find_function(full)
    if entry is not None:
        return not entry.made
    group, _, name = full.rpartition(".")
    if group in ("torch.nn.functional", "torch.fft", "torch.linalg"):
        return True
    return group == "torch" and name not in _OTHERS and name[:1].islower()


def is_of_tensors(method: str) -> bool:
    """Whether nothing but a tensor has a method: no number, string, container, array of numpy or
    module."""
    if method == "backward" or method in _IN_PLACE:
        return True
    entry = find_function(f"torch.{method}")
    if entry is not None:
        return entry.tensor_only
    if not method.endswith("_"):
        return False
    groups = ("torch", "torch.nn.functional")  # F.elu_(x) is read as x.elu_()
    found = (find_function(f"{group}.{method[:-1]}") for group in groups)
    return any(entry is not None and entry.written for entry in found)


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
    known_type = returned(full, node, given, 1) or _of_processes(full, given)
    if known_type is not None:
        return known_type
    if _drawn(full, node):
        return NUMPY_NUMBER
    group, _, name = full.rpartition(".")
    if group == "torch":
        return _torch(name, given)
    for prefix, rule in _GROUPS.items():
        if full.startswith(prefix):
            return rule(name, given)
    known = {
        "torch.cuda.is_available": BOOL,
        "torch.cuda.current_accelerator": DEVICE,
        "torch.amp.GradScaler": Type("scaler"),
        "copy.deepcopy": given[0] if given else UNKNOWN,
    }
    return known.get(full, TENSOR if full == "torch.autograd.Variable" else UNKNOWN)


def _of_processes(full: str, given: list[Type]) -> Type | None:
    """What a call for several processes gives; None of others."""
    shared = find_shared(full)
    if shared is None:
        return None
    if shared.wraps:
        return given[0] if given and given[0].kind == "module" else Type("module")
    plain = {"int": INT, "bool": BOOL, "str": STR, "none": NONE, "list": Type("list", (TENSOR,))}
    return plain.get(shared.returns, UNKNOWN)


def _functional(name: str, given: list[Type]) -> Type:
    pair = name == "multi_head_attention_forward" or "with_indices" in name
    return PAIR if pair else TENSOR


def _utility(name: str, given: list[Type]) -> Type:
    if f"torch.nn.utils.{name}" in NORMALIZED:
        return given[0] if given else UNKNOWN
    tensors = ("clip_grad_norm_", "clip_grad_value_", "parameters_to_vector")
    return TENSOR if name in tensors else _sequence(name)


def _layer(name: str, given: list[Type]) -> Type:
    if name in ("ModuleList", "Sequential"):
        return _children(name, given)
    if not name[:1].isupper():
        return UNKNOWN
    held = name in ("Parameter", "Buffer")
    return TENSOR if held else Type("module", name=f"torch.nn.{name}")


def _math(name: str, given: list[Type]) -> Type:
    return INT if name in ("ceil", "floor", "prod", "comb", "factorial") else FLOAT


def _sequence(name: str) -> Type:
    return PAIR if name == "pad_packed_sequence" else TENSOR if "pad" in name else UNKNOWN


def _children(name: str, given: list[Type]) -> Type:
    if name == "Sequential":
        whole = all(layer.kind == "module" for layer in given)  # no lists after a star, no dict
        return Type("module", tuple(given) if whole else (), "torch.nn.Sequential")
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


def _numpy(name: str, given: list[Type]) -> Type:
    """numpy's functions give arrays; of numbers, those that treat every item alike, a number."""
    scalar = name in _OF_ITEMS and bool(given) and all(_is_number(g) for g in given)
    return NUMPY_NUMBER if scalar else NUMPY


def _drawn(full: str, node: Any) -> bool:
    """Whether a call gives one number of a random function of numpy: nothing says a size."""
    places = _DRAWN.get(full.removeprefix("numpy.random."), -1)
    plain = all(a.keyword is None and not a.star for a in node.args)
    return full.startswith("numpy.random.") and plain and len(node.args) <= places


def _is_number(held: Type) -> bool:
    return held.kind in NUMBERS or held == NUMPY_NUMBER


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
    "torchvision.datasets.": lambda name, given: Type("dataset", name=f"torchvision.{name}"),
    "torch.distributions.": _distribution,
    "torch.linalg.": lambda name, given: TENSOR,
    "torch.fft.": lambda name, given: TENSOR,
    "torch.special.": lambda name, given: TENSOR,
    "numpy.": _numpy,
    "einops.layers.": lambda name, given: Type("module", name=f"einops.{name}"),
    "einops.": _pattern,
    "math.": _math,
}


def _torch(name: str, given: list[Type]) -> Type:
    if name == "device":
        return DEVICE
    if name == "is_grad_enabled":
        return BOOL
    if name == "Size":
        return SIZE
    if name == "compile":
        return given[0] if given else UNKNOWN
    function = name[:1].islower() or name.endswith("Tensor")
    return TENSOR if function and name not in _OTHERS else UNKNOWN


def layer(full: str) -> Type:
    """What calling one of torch's layers gives."""
    return _RECURRENT.get(full.rpartition(".")[2], TENSOR if full else UNKNOWN)
