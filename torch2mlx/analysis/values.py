"""What an expression of a forward may be: a tensor, a number read from one, a number of Python."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Attributes of a tensor that are no tensors: known without its values.
STATIC = _words(
    """
    shape dtype device ndim requires_grad is_cuda is_mps is_cpu is_meta is_sparse is_quantized
    is_nested is_leaf layout names itemsize nbytes grad_fn type size dim ndimension numel
    nelement stride is_contiguous element_size get_device is_floating_point is_complex is_signed
    data_ptr storage_offset storage untyped_storage is_shared is_pinned is_conj is_inference
    __class__ _version is_same_size has_names retains_grad
    """
)
#: Methods and functions that answer a bool of Python about values.
LOOKS = frozenset(["equal", "allclose", "is_nonzero", "__bool__"])
#: Methods and functions that answer several tensors, which are true or false by their number.
SEVERAL = _words(
    """
    split chunk unbind tensor_split hsplit vsplit dsplit split_with_sizes meshgrid
    broadcast_tensors topk sort kthvalue cummax cummin frexp std_mean var_mean aminmax slogdet
    unsafe_chunk unsafe_split atleast_1d block_diag
    """
)
#: Results with one item for each place, true or false.
MASKS = _words(
    """
    eq ne lt le gt ge logical_and logical_or logical_not logical_xor isnan isinf isfinite isin
    isposinf isneginf isclose greater less greater_equal less_equal not_equal bool
    """
)
#: Methods that tensors have, and hardly anything else that a forward is given.
OF_TENSORS = _words(
    """
    mean norm sum prod any all abs argmax argmin std var isnan isinf isfinite softmax
    log_softmax sigmoid relu tanh view reshape permute transpose unsqueeze squeeze flatten
    expand expand_as repeat_interleave masked_fill masked_fill_ masked_select gather scatter
    scatter_ index_select index_add cumsum detach contiguous float half double long clamp clamp_
    chunk unbind topk matmul bmm mm exp log sqrt rsqrt pow square max min amax amin median
    nonzero size dim numel to new_zeros new_ones new_full type_as eq ne lt le gt ge view_as roll
    flip tril triu item tolist narrow unfold addmm requires_grad_ clone sign round floor ceil
    """
)

UNKNOWN_KIND, HOST_KIND, READ_KIND, TENSOR_KIND = "unknown", "host", "read", "tensor"


@dataclass(frozen=True)
class Value:
    """What is known of a value: its kind; `items` of a tuple; `held`, the object, if it is live.

    Kinds: unknown; host, a value of Python; read, one that was read from a tensor; tensor; mask, a
    tensor of booleans; tuple; list, of any number of `items[0]`; module; object; method, `name` of
    `items[0]`; tracing, which says whether the program is being traced.
    """

    kind: str
    items: tuple[Value, ...] = ()
    held: Any = field(default=None, compare=False)
    name: str = ""

    @property
    def is_tensor(self) -> bool:
        """Whether this is a tensor."""
        return self.kind in ("tensor", "mask")

    @property
    def depends(self) -> bool:
        """Whether Python cannot know it without a tensor's values."""
        return self.is_tensor or self.kind == READ_KIND


UNKNOWN, HOST, READ, TENSOR = map(Value, (UNKNOWN_KIND, HOST_KIND, READ_KIND, TENSOR_KIND))
MASK, TRACING = Value("mask"), Value("tracing")
#: range(n), where n was read from a tensor.
COUNTED = Value("list", (READ,), name="counted")


def listed(item: Value) -> Value:
    """A list of any length."""
    return Value("list", (item,))


def join(values: Iterable[Value]) -> Value:
    """What a value is that is one of these: a tensor, if one of them may be one."""
    given = list(dict.fromkeys(values))
    if len(given) == 1:
        return given[0]
    if not given:
        return UNKNOWN
    kinds = {value.kind for value in given}
    if kinds == {"tuple"} and len({len(value.items) for value in given}) == 1:
        return Value("tuple", tuple(map(join, zip(*(v.items for v in given), strict=True))))
    if kinds <= {"tuple", "list"}:
        return listed(join(item for value in given for item in value.items))
    for kind in (TENSOR_KIND, "mask", READ_KIND):
        if kind in kinds:
            return Value(kind)
    return HOST if kinds <= {HOST_KIND, "tracing"} else UNKNOWN


def element(value: Value) -> Value:
    """What iterating gives."""
    if value.kind in ("tuple", "list"):
        return join(value.items)
    if value.is_tensor:
        return Value(value.kind)
    return value if value.kind == READ_KIND else HOST if value.kind == HOST_KIND else UNKNOWN


def parts(value: Value, count: int) -> list[Value]:
    """What unpacking into `count` names gives."""
    if value.kind == "tuple" and len(value.items) == count:
        return list(value.items)
    return [element(value)] * count


def is_a(value: Any, name: str) -> bool:
    """Whether an object is an instance of a class of torch, by its name."""
    return any(f"{cls.__module__}.{cls.__name__}" == name for cls in type(value).__mro__)


def of_object(held: Any) -> Value:
    """What a live object is."""
    if is_a(held, "torch.Tensor") or is_a(held, "torch.nn.parameter.UninitializedTensorMixin"):
        return TENSOR
    if is_a(held, "torch.nn.modules.module.Module"):
        return Value("module", held=held, name=f"{id(held)}")
    if held is None or isinstance(held, (bool, int, float, complex, str, bytes)):
        return Value(HOST_KIND, held=held)
    if isinstance(held, (list, tuple)) and type(held).__module__ == "builtins":
        items = tuple(map(of_object, held[:64]))
        return Value("tuple", items) if len(held) <= 64 else listed(join(items))
    if inspect.isroutine(held) or isinstance(held, (type, types.ModuleType)):
        return Value("object", held=held, name=f"{id(held)}")
    if type(held).__module__ == "torch":  # dtypes, devices, sizes
        return HOST
    return Value("object", held=held, name=f"{id(held)}")


_PLAIN = ("int", "float", "bool", "str", "Size", "dtype", "device", "SymInt", "torch.dtype")
_WRAPPED = ("Optional[", "Union[", "Final[", "Annotated[")


def of_annotation(text: str) -> Value | None:
    """What an annotation promises; None where it does not say."""
    text = text.strip("'\" ").replace("typing.", "").replace("torch.", "")
    for wrapper in _WRAPPED:
        if text.startswith(wrapper):
            return of_annotation(text[len(wrapper) : -1].split(",")[0])
    options = [part.strip() for part in text.split("|") if part.strip() != "None"]
    if len(options) == 1 and options[0] != text:
        return of_annotation(options[0])
    if any(option.endswith("Tensor") for option in options):
        return TENSOR
    if text.lower().startswith(("tuple[", "list[", "sequence[")):
        inner = of_annotation(text[text.index("[") + 1 : -1].split(",")[0])
        return listed(inner) if inner else listed(UNKNOWN)
    if options and all(option in _PLAIN for option in options):
        return HOST
    return None
