"""What an expression may be: the little that a rewrite has to know of its type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Type:
    """`kind` is a word ("tensor", "int", "module", ...); `items` are what a tuple or list holds;
    `name` is the class of a module or of an instance."""

    kind: str
    items: tuple[Type, ...] = ()
    name: str = ""

    @property
    def tensor(self) -> bool:
        """Whether it surely is a tensor."""
        return self.kind == "tensor"


UNKNOWN = Type("unknown")
TENSOR = Type("tensor")
INT, FLOAT, BOOL, STR, NONE = (Type(k) for k in ("int", "float", "bool", "str", "none"))
NUMPY, SIZE, DTYPE, DEVICE = (Type(k) for k in ("numpy", "size", "dtype", "device"))
NUMBERS = ("int", "float", "bool", "complex")


def join(a: Type | None, b: Type | None) -> Type:
    """What a name is that is one or the other: unknown when they differ; None gives way."""
    if a is None or a.kind in ("none", "unknown"):
        return b or UNKNOWN
    if b is None or b.kind in ("none", "unknown") or a == b:
        return a
    if a.kind == b.kind and len(a.items) == len(b.items):
        items = tuple(join(x, y) for x, y in zip(a.items, b.items, strict=True))
        return Type(a.kind, items, a.name if a.name == b.name else "")
    if a.kind in NUMBERS and b.kind in NUMBERS:
        return FLOAT if "float" in (a.kind, b.kind) else INT
    if {a.kind, b.kind} <= {"tensor", *NUMBERS} and "tensor" in (a.kind, b.kind):
        return TENSOR  # loss = 0; loss = loss + criterion(...)
    return UNKNOWN


def element(of: Type) -> Type:
    """What iterating gives."""
    if of.kind == "tensor":
        return TENSOR
    if of.kind in ("list", "modules"):
        return of.items[0] if of.items else UNKNOWN
    if of.kind == "tuple":
        found = of.items[0] if of.items else UNKNOWN
        for item in of.items[1:]:
            found = join(found, item)
        return found
    if of.kind == "range":
        return INT
    if of.kind == "loader":
        return Type("tuple", of.items) if of.items else Type("batch")
    if of.kind == "parameters":
        return Type("tensor")
    return UNKNOWN


#: Methods that a tensor has and no number, string, container, array of numpy or module.
TENSOR_ONLY = frozenset(
    [
        *(
            "numpy",
            "clamp_min",
            "clamp_max",
            "clamp_min_",
            "clamp_max_",
            "clip_",
            "erfinv",
            "erfinv_",
        ),
        *("scatter_reduce", "scatter_reduce_", "scatter_add_", "index_put_", "masked_scatter_"),
        *("sigmoid_", "softmax_", "relu", "relu_", "tril_", "triu_", "floor_", "ceil_", "round_"),
        *("squeeze_", "pow_", "rsqrt_", "reciprocal_", "addmm_", "addcmul_", "addcdiv_"),
        *("exponential_", "random_", "log_normal_", "cauchy_", "index_copy", "tensor_split"),
        *("logaddexp", "broadcast_to", "expm1", "log1p", "log2", "bitwise_and", "new_empty"),
        *("unflatten", "movedim", "swapdims", "cummax", "cummin", "logcumsumexp", "kthvalue"),
        *("norm", "unsqueeze", "permute", "contiguous", "masked_fill", "masked_fill_"),
        *("view_as", "expand_as", "unbind", "index_select", "scatter", "scatter_"),
        *("scatter_add", "scatter_add_", "index_add", "index_add_", "clamp", "clamp_"),
        *("detach", "detach_", "expand", "new_zeros", "new_ones", "new_full", "new_tensor"),
        *("requires_grad_", "backward", "addmm", "bmm", "matmul_", "mm", "softmax"),
        *("log_softmax", "sigmoid", "sigmoid_", "relu_", "tanh_", "sub_", "add_", "mul_"),
        *("div_", "copy_", "fill_", "zero_", "normal_", "uniform_", "triu", "tril", "topk"),
        *("gather", "type_as", "reshape_as", "unsqueeze_", "squeeze_", "logsumexp"),
        *("cumprod_", "numel", "addcmul", "addcdiv", "lerp", "lerp_", "argsort_"),
        *("logical_not", "logical_and", "logical_or", "chunk", "narrow", "index_fill"),
        *("index_copy_", "masked_select", "masked_scatter", "eq", "ne", "lt", "le", "gt"),
        *("ge", "unfold", "bernoulli", "bernoulli_", "multinomial", "erf", "rsqrt", "exp_"),
        *("log_", "sqrt_", "neg_", "abs_", "transpose_", "t_", "float_power", "nan_to_num"),
        *("repeat_interleave", "is_floating_point", "pin_memory"),
    ]
)
