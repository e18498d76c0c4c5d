"""Facts of a class's forward, found in its source. Nothing is run; once for each class."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch2mlx.op_mapping import lookup_op

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
_DEVICE_MODULES = ("torch.cuda", "torch.mps", "torch.backends", "torch.distributed", "torch.xpu")
_RANDOM = set(
    ["rand", "randn", "randint", "rand_like", "randn_like", "bernoulli", "multinomial", "normal"]
)
_LOOKS = set(["any", "all", "item", "equal", "allclose", "isnan"])


@dataclass(frozen=True)
class Fact:
    """One finding in a class: its kind (a name of `_core.fact_kinds()`), where, and what."""

    kind: str
    file: str
    line: int
    what: str


class _Names:
    """What names mean in the module that defines a class: `F` -> torch.nn.functional."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self._scope = scope

    def dotted(self, node: ast.expr) -> str | None:
        """The full name of an expression like F.pad or torch.linalg.norm, if it is one."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        base = self._scope.get(node.id)
        name = getattr(base, "__name__", None) if inspect.ismodule(base) else self._function(base)
        return ".".join([name, *reversed(parts)]) if name else None

    @staticmethod
    def _function(value: Any) -> str | None:
        """The full name of a function or class that was imported by name."""
        module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
        if isinstance(value, type) and isinstance(module, str):
            return f"{module}.{name}"
        if not isinstance(name, str) or not callable(value):
            return None
        if module == "torch.nn.functional":
            return f"torch.nn.functional.{name}"
        # builtin functions of torch say no module
        return (
            f"torch.{name}"
            if module in (None, "torch._C", "torch") and lookup_op(f"torch.{name}")
            else None
        )


class _Visitor(ast.NodeVisitor):
    def __init__(self, names: _Names) -> None:
        self.names = names
        self.found: list[tuple[str, int, str]] = []
        self.tensors: set[str] = set()  # locals that came from reading values

    def add(self, kind: str, node: ast.AST, what: str) -> None:
        self.found.append((kind, node.lineno, what))

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
        cls = self.names._scope.get(func.value.id) if isinstance(func.value, ast.Name) else None
        return isinstance(cls, type) and any(c.__name__ == "Function" for c in cls.__mro__[1:])

    def _torch_function(self, node: ast.Call, name: str) -> None:
        name = name.replace("torch._C._nn.", "torch.nn.functional.")
        short = name.rsplit(".", 1)[1]
        parts = name.split(".")
        if (len(parts) > 1 and parts[1] in _NO_OPS - {"nn"}) or name.startswith(
            "torch.nn.modules."
        ):
            return
        if parts[1] == "nn" and parts[2:3] != ["functional"]:
            return  # a layer made in forward
        if short in _RANDOM:
            self.add("random", node, name)
        self._known(node, name)

    def _known(self, node: ast.Call, name: str) -> None:
        op = lookup_op(name)
        if op is None:
            self.add("unknown_op", node, name)
        elif op.status == "none":
            self.add("missing_op", node, f"{name}: {op.note}")
        elif op.status == "data_dependent":
            self.add("data_shape", node, name)

    def _method(self, node: ast.Call, name: str) -> None:
        if name in _HOST:
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
            if op is not None and op.status in ("data_dependent", "none"):
                self._known(node, f"torch.{name}")

    def _reads_value(self, test: ast.expr) -> bool:
        """Whether a condition calls something that looks at values: .any(), .item(), torch.all."""
        for part in ast.walk(test):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                name = self.names.dotted(part.func) or ""
                if part.func.attr in (
                    "any",
                    "all",
                    "item",
                    "equal",
                    "allclose",
                    "isnan",
                ) and not name.startswith("numpy"):
                    return True
        return False

    def _branch(self, node: ast.If | ast.While | ast.IfExp) -> None:
        if self._reads_value(node.test):
            self.add("data_branch", node, ast.unparse(node.test))
        self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = _branch


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _names_device(node: ast.expr) -> bool:
    """Whether an argument of .to() is a device: "cuda", self.device, x.device."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return any(
        isinstance(part, ast.Attribute) and part.attr == "device" for part in ast.walk(node)
    ) or (isinstance(node, ast.Name) and "device" in node.id)


def _methods(cls: type) -> Iterator[Any]:
    """forward, and the methods of the class itself that forward calls by self.name()."""
    seen, waiting = set(), ["forward"]
    while waiting:
        name = waiting.pop()
        function = inspect.unwrap(getattr(cls, name, None)) if hasattr(cls, name) else None
        if name in seen or not inspect.isfunction(function):
            continue
        seen.add(name)
        if function.__module__.startswith("torch."):
            continue
        yield function
        waiting += [n for n in function.__code__.co_names if n in vars(cls) and n not in seen]


@lru_cache(maxsize=4096)
def class_facts(cls: type) -> tuple[Fact, ...]:
    """All facts of a class, in order of their lines."""
    if any(base.__name__ == "ScriptModule" for base in cls.__mro__):
        return (Fact("scripted", "", 0, cls.__name__),)
    facts: list[Fact] = []
    for function in _methods(cls):
        try:
            lines, start = inspect.getsourcelines(function)
            file = inspect.getsourcefile(function) or "?"
            tree = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, TypeError, SyntaxError):
            facts.append(Fact("no_source", "?", 0, f"{cls.__qualname__}.{function.__name__}"))
            continue
        closure = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
        visitor = _Visitor(_Names({**function.__globals__, **closure}))
        visitor.visit(tree)
        facts += [Fact(kind, file, start + line - 1, what) for kind, line, what in visitor.found]
    return tuple(sorted(facts, key=lambda fact: (fact.file, fact.line, fact.kind)))
