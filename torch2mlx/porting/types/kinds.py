"""What an expression may be: the little that a rewrite has to know of its type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Type:
    """`kind` is a word ("tensor", "int", "module", ...); `items` are what a tuple or list holds;
    of an nn.Sequential its layers, where all are known; `name` is the class of a module or of an
    instance."""

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
#: A number that a function of numpy gives.
NUMPY_NUMBER = Type("numpy", name="number")
NUMBERS = ("int", "float", "bool", "complex")


def join(a: Type | None, b: Type | None) -> Type:
    """What a name is that is one or the other: unknown when they differ; None gives way."""
    if a is None or a.kind in ("none", "unknown"):
        return b or UNKNOWN
    if b is None or b.kind in ("none", "unknown") or a == b:
        return a
    if a.kind == b.kind == "module" and len(a.items) != len(b.items):
        return Type("module", name=a.name if a.name == b.name else "")
    if a.kind == b.kind and len(a.items) == len(b.items):
        items = tuple(join(x, y) for x, y in zip(a.items, b.items, strict=True))
        return Type(a.kind, items, a.name if a.name == b.name else "")
    if a.kind in NUMBERS and b.kind in NUMBERS:
        return FLOAT if "float" in (a.kind, b.kind) else INT
    if {a.kind, b.kind} <= {"numpy", *NUMBERS}:
        return NUMPY if NUMPY in (a, b) else NUMPY_NUMBER
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


#: Attributes of tensors that ask for memory which arrays of MLX are never in, or for other forms.
ELSEWHERE = frozenset(
    f"is_{kind}" for kind in ("cuda", "xpu", "mps", "meta", "sparse", "quantized", "hpu", "mtia")
)
