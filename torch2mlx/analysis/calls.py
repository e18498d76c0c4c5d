"""Facts that the text of a function shows: calls of what MLX, or translate, has not."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch2mlx.analysis.functions import Names, read
from torch2mlx.catalog.op_mapping import lookup_op

#: Methods that bring a value to the host.
_HOST = {"item", "tolist"}
_DEVICE = {"cuda", "cpu", "mps", "to_device", "pin_memory", "record_stream"}
#: torch names that are no operators: types, modes, constants, checks.
_NO_OPS = set(
    [
        "Tensor",
        "Size",
        "dtype",
        "device",
        "jit",
        "onnx",
        "fx",
        "export",
        "library",
        "ops",
        "overrides",
        "profiler",
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "bool",
        "long",
        "half",
        "double",
        "finfo",
        "iinfo",
        "is_tensor",
        "is_grad_enabled",
        "set_grad_enabled",
        "enable_grad",
        "strided",
        "inference_mode",
        "utils",
        "autograd",
        "float",
        "int",
        "inf",
        "pi",
        "nan",
        "Generator",
        "manual_seed",
        "autocast",
        "short",
        "get_default_dtype",
        "is_floating_point",
        "is_complex",
        "promote_types",
        "result_type",
        "complex64",
        "compiler",
        "contiguous_format",
        "channels_last",
        "preserve_format",
        "_check",
    ]
)
#: Names of operators that torch.export writes as others, or that are no computation.
_NO_OPERATORS = {"narrow_copy", "tensor", "as_tensor", "asarray", "from_numpy", "type", "to"}
_PACKED = {
    f"torch.nn.utils.rnn.{name}"
    for name in ("pack_padded_sequence", "pad_packed_sequence", "pack_sequence")
}
_DEVICE_MODULES = ("torch.cuda", "torch.mps", "torch.backends", "torch.distributed", "torch.xpu")
_RANDOM = set(
    ["rand", "randn", "randint", "rand_like", "randn_like", "bernoulli", "multinomial", "normal"]
)


@dataclass(frozen=True)
class Fact:
    """One finding in a class: its kind (a name of `_core.fact_kinds()`), where, and what."""

    kind: str
    file: str
    line: int
    what: str


class _Visitor(ast.NodeVisitor):
    def __init__(self, names: Names, lowered: frozenset[str]) -> None:
        self.names, self.lowered = names, lowered
        self.found: list[tuple[str, ast.AST, str]] = []

    def add(self, kind: str, node: ast.AST, what: str) -> None:
        self.found.append((kind, node, what))

    def visit_Compare(self, node: ast.Compare) -> None:
        """A dtype that is compared is not made."""
        for side in (node.left, *node.comparators):
            if not (isinstance(side, (ast.Attribute, ast.Tuple, ast.List))):
                self.visit(side)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if self.names.dotted(node) in ("torch.float64", "torch.double", "torch.complex128"):
            self.add("wide_float", node, ast.unparse(node))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = self.names.dotted(node.func)
        if name is not None:
            self._function(node, name)
        elif isinstance(node.func, ast.Attribute):
            self._method(node, node.func.attr)
        elif isinstance(node.func, ast.Name) and node.func.id == "print":
            self.add("print", node, "print")
        self.generic_visit(node)

    def _function(self, node: ast.Call, name: str) -> None:
        if name.startswith(_DEVICE_MODULES):
            self.add("device", node, name)
        elif name.startswith("numpy.") or name in ("torch.from_numpy",):
            self.add("numpy", node, name)
        elif name.startswith("torch."):
            self._torch_function(node, name)
        elif name.endswith(".apply") and self._is_autograd(node.func):
            self.add("autograd_function", node, name.removesuffix(".apply"))

    def _is_autograd(self, func: ast.expr) -> bool:
        owner = func.value if isinstance(func, ast.Attribute) else None
        cls = self.names.scope.get(owner.id) if isinstance(owner, ast.Name) else None
        return isinstance(cls, type) and any(c.__name__ == "Function" for c in cls.__mro__[1:])

    def _torch_function(self, node: ast.Call, name: str) -> None:
        name = name.replace("torch._C._nn.", "torch.nn.functional.")
        short = name.rsplit(".", 1)[1]
        parts = name.split(".")
        if (len(parts) > 1 and parts[1] in _NO_OPS - {"nn"}) or name.startswith(
            "torch.nn.modules."
        ):
            return
        if name in _PACKED:
            self.add("data_shape", node, name)
        if parts[1] == "nn" and parts[2:3] != ["functional"]:
            return  # a layer made in forward
        if short in _RANDOM:
            self.add("random", node, name)
        self._known(node, name)

    def _known(self, node: ast.Call, name: str) -> None:
        op, lowered = lookup_op(name), self._lowered(name)
        if op is not None and op.status == "data_dependent":
            self.add("data_shape", node, name)
        elif op is not None and op.status == "none" and lowered is not True:
            self.add("missing_op", node, f"{name}: {op.note}")
        elif op is None and lowered is not True:
            self.add("unknown_op", node, name)
        elif lowered is False:
            self.add("not_lowered", node, name)

    def _lowered(self, name: str) -> bool | None:
        """Whether translate has a function of torch; None where it is no operator itself."""
        *groups, short = name.removeprefix("torch.").rstrip("_").split(".")
        group = f"{groups[-1]}_" if groups[-1:] in (["linalg"], ["fft"], ["special"]) else ""
        names = {f"aten::{group}{short}", f"aten::{short}" if not group else ""}
        if names & self.lowered or not self.lowered:
            return True if self.lowered else None
        return False if any(map(_is_operator, names)) else None

    def _method(self, node: ast.Call, name: str) -> None:
        if name == "double" and not node.args:
            self.add("wide_float", node, ".double()")
        elif name in _HOST:
            self.add("host_read", node, f".{name}()")
        elif name == "numpy":
            self.add("numpy", node, ".numpy()")
        elif name in _DEVICE:
            self.add("device", node, f".{name}()")
        elif name == "to" and any(
            _names_device(a) for a in [*node.args, *(k.value for k in node.keywords)]
        ):
            self.add("device", node, ".to(device)")
        elif name.endswith("_") and not name.startswith("_") and lookup_op(f"torch.{name[:-1]}"):
            self.add("in_place", node, f".{name}()")
        else:
            op = lookup_op(f"torch.{name}")
            if op is not None and (op.status != "direct" or self._lowered(op.torch) is False):
                self._known(node, f"torch.{name}")


@lru_cache(maxsize=4096)
def _is_operator(name: str) -> bool:
    """Whether torch has an operator on tensors of a name, which torch.export keeps whole."""
    torch = sys.modules.get("torch")
    if torch is None or not name or name.removeprefix("aten::") in _NO_OPERATORS:
        return False
    overloads = torch._C._jit_get_schemas_for_operator(name)
    kept = torch._C._dispatch_has_kernel if overloads else None
    return any(
        kept is not None
        and kept(f"{name}.{schema.overload_name}" if schema.overload_name else name)
        and any(str(part.type).startswith(("Tensor", "List[Tensor]")) for part in schema.returns)
        for schema in overloads
    )


def _names_device(node: ast.expr) -> bool:
    """Whether an argument of .to() is a device: "cuda", self.device, x.device."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return any(
        isinstance(part, ast.Attribute) and part.attr == "device" for part in ast.walk(node)
    ) or (isinstance(node, ast.Name) and "device" in node.id)


@lru_cache(maxsize=8192)
def calls_of(function: Any, lowered: frozenset[str]) -> tuple[Fact, ...]:
    """What a function calls that is worth a word; `lowered`: operators that translate has."""
    source = read(function)
    if source is None:
        return ()
    visitor = _Visitor(source.names, lowered)
    visitor.visit(source.tree)
    return tuple(Fact(k, source.file, source.line(n), what) for k, n, what in visitor.found)
