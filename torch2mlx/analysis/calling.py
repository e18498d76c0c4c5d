"""Calls in a forward, followed: builtins, functions of torch, methods, modules, helpers."""

from __future__ import annotations

import ast
import inspect
import math
from typing import Any

from torch2mlx.analysis.functions import Function, is_read, read
from torch2mlx.analysis.values import (
    COUNTED,
    HOST,
    LOOKS,
    MASK,
    MASKS,
    OF_TENSORS,
    READ,
    SEVERAL,
    STATIC,
    TENSOR,
    TRACING,
    UNKNOWN,
    Value,
    element,
    is_a,
    join,
    listed,
    of_object,
)

Given = list[Value]
Named = dict[str, Value]

_READING = {int, float, bool, complex}
_LISTING = (list, tuple, set, frozenset, reversed)
#: Functions of torch that say whether the program is being traced.
_TRACING = (
    "is_tracing",
    "is_compiling",
    "is_exporting",
    "is_scripting",
    "is_torchdynamo_compiling",
)
#: Functions of torch whose answer is a value of Python that no tensor decides.
_ASKS = STATIC | {"is_tensor", "finfo", "iinfo", "device", "result_type", "promote_types"}
_ASKS |= {
    "get_default_dtype",
    "is_grad_enabled",
    "is_autocast_enabled",
    "can_cast",
    "Size",
    "is_storage",
}
_READS = ("item", "tolist", "__int__", "__float__", "__index__")
_RECURRENT = ("torch.nn.modules.rnn.RNNBase", "torch.nn.modules.activation.MultiheadAttention")


class Calls:
    """Follows calls. `env`: locals; `returned`: what the function may give."""

    run: Any  # the Run of facts.py
    function: Function
    env: dict[str, Value]
    returned: list[Value]
    owner: Value
    defined: type | None

    def value(self, node: ast.expr | None) -> Value:
        """In evaluation.py."""
        raise NotImplementedError

    def attribute(self, base: Value, name: str) -> Value:
        """In evaluation.py."""
        raise NotImplementedError

    def combined(self, left: Value, right: Value, bitwise: bool = False) -> Value:
        """In evaluation.py."""
        raise NotImplementedError

    def fact(self, kind: str, node: Any, what: str) -> None:
        """Notes a fact of the class that is looked at."""
        self.run.note(kind, self.function.file, self.function.line(node), what)

    def _Call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            return Value("super", (self.owner,), held=self.defined)
        func = self.value(node.func)
        given = self._given(node)
        named = {k.arg: self.value(k.value) for k in node.keywords if k.arg}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.value(keyword.value)
        if isinstance(node.func, ast.Attribute) and func.kind == "method":
            return self._method(node, func, given, named)
        if func.kind == "object":
            return self._object(node, func.held, given, named)
        if func.kind == "module":
            return self.call_module(func, given, named)
        if func.kind == "lambda":
            return self._local(func, given, named)
        name = self._builtin_name(node.func)
        return self._builtin(node, name, given) if name else UNKNOWN

    def _given(self, node: ast.Call) -> Given:
        given: Given = []
        for part in node.args:
            value = self.value(part)
            if isinstance(part, ast.Starred):
                self.run.unsure = True
            given.append(value)
        return given

    def _builtin_name(self, func: ast.expr) -> str:
        """The name that is called; empty where it is no bare name, or one that is bound here."""
        if not isinstance(func, ast.Name):
            return ""
        return "" if func.id in self.env or func.id in self.function.scope else func.id

    def _builtin(self, node: ast.Call, name: str, given: Given) -> Value:
        import builtins

        held = getattr(builtins, name, None)
        return UNKNOWN if held is None else self._object(node, held, given, {})

    def _object(self, node: ast.Call, held: Any, given: Given, named: Named) -> Value:
        """A call of an object that is known: a builtin, a function, a class."""
        if getattr(held, "__module__", None) == "builtins" or held is print:
            return self._of_python(node, held, given)
        if isinstance(getattr(math, getattr(held, "__name__", ""), None), type(math.sqrt)) and (
            held is getattr(math, held.__name__)
        ):
            return self._number(node, given)
        name = self.function.names.dotted(node.func) or _torch_name(held)
        if getattr(held, "__name__", "") in _TRACING and not _of_torchscript(name):
            return TRACING
        if name and name.startswith("torch."):
            return self._of_torch(node, name, given, named)
        unwrapped = inspect.unwrap(held) if inspect.isroutine(held) else held
        if inspect.ismethod(unwrapped):
            own = of_object(unwrapped.__self__)
            return self.call_function(unwrapped.__func__, own, given, named)
        if is_read(unwrapped):
            return self.call_function(unwrapped, None, given, named)
        if isinstance(held, type) and any(c.__name__ == "Function" for c in held.__mro__[1:]):
            return TENSOR
        return UNKNOWN

    def _of_python(self, node: ast.Call, held: Any, given: Given) -> Value:
        first = given[0] if given else HOST
        if held in _READING:
            return self._number(node, given)
        if held in (round, abs, divmod, pow):
            return self.combined(first, given[-1] if given else HOST)
        if held is range:
            return self._range(node, given)
        if held in _LISTING:
            return listed(element(first)) if first.kind != "host" else HOST
        if held in (max, min, any, all, sorted):
            return self._search(node, held, given)
        return self._of_pairs(held, given, first)

    def _of_pairs(self, held: Any, given: Given, first: Value) -> Value:
        if held is enumerate:
            return listed(Value("tuple", (HOST, element(first))))
        if held is zip:
            return listed(Value("tuple", tuple(map(element, given))))
        if held is sum:
            found = element(first)
            return TENSOR if found.is_tensor else found
        if held is getattr:
            return UNKNOWN
        return HOST if held not in (map, filter, next, iter) else listed(UNKNOWN)

    def _number(self, node: ast.Call, given: Given) -> Value:
        """int(x), math.sqrt(x): of a tensor a read."""
        if any(value.is_tensor for value in given):
            self.fact("host_read", node, _short(node))
            return READ
        return READ if any(v.kind == "read" for v in given) else HOST

    def _range(self, node: ast.Call, given: Given) -> Value:
        if any(value.depends for value in given):
            if any(value.is_tensor for value in given):
                self.fact("host_read", node, _short(node))
            return COUNTED
        return listed(HOST)

    def _search(self, node: ast.Call, held: Any, given: Given) -> Value:
        """max(a, b), any(...), sorted(...): they compare what they are given."""
        items = given if len(given) > 1 and held is not sorted else [element(v) for v in given[:1]]
        if any(value.is_tensor for value in items):
            self.fact("data_branch", node, _short(node))
            return READ if held in (any, all) else listed(TENSOR) if held is sorted else TENSOR
        return READ if any(v.kind == "read" for v in items) else HOST

    def _of_torch(self, node: ast.Call, name: str, given: Given, named: Named) -> Value:
        """A call of a function of torch, by its full name."""
        short = name.rpartition(".")[2]
        if short in _TRACING:
            return HOST if _of_torchscript(name) else TRACING
        if short in LOOKS:
            return READ
        if name.startswith("torch.utils.checkpoint") and given:
            return self.apply(given[0], given[1:], {})
        if name.startswith(("torch.cuda.", "torch.backends.", "torch.distributed.", "torch.mps.")):
            return HOST
        if short in _ASKS or short.startswith(("is_", "set_", "_check")):
            return HOST
        if name == "torch.where" and len(given) == 1:
            return listed(TENSOR)
        if short in SEVERAL:
            return listed(TENSOR)
        if short in MASKS or (short in ("any", "all") and given):
            return MASK
        if name.startswith("torch.nn.") and not name.startswith(
            ("torch.nn.functional", "torch.nn.utils")
        ):
            return UNKNOWN
        return UNKNOWN if short[:1].isupper() else TENSOR

    def _method(self, node: ast.Call, func: Value, given: Given, named: Named) -> Value:
        base, name = func.items[0], func.name
        if base.kind == "super":
            return self._of_super(base, name, given, named)
        if base.kind == "module":
            return self.call_function(func.held, base, given, named)
        if name in _READS:  # calls.py notes the two that have names
            if name.startswith("__"):
                self.fact("host_read", node, f".{name}()")
            return listed(READ) if name == "tolist" else READ
        if name in LOOKS:
            return READ
        if base.kind in ("list", "tuple"):
            return self._of_list(node, base, name, given)
        if base.is_tensor or base.kind == "unknown":
            return self._of_tensor(base, name)
        return UNKNOWN if base.kind != "host" else HOST

    def _of_tensor(self, base: Value, name: str) -> Value:
        if name in STATIC and name != "type":
            return HOST
        if name in MASKS or name in ("any", "all"):
            return MASK
        if base.is_tensor:
            if name in SEVERAL:
                return listed(TENSOR)
            return Value(base.kind) if name in ("clone", "detach", "view", "reshape") else TENSOR
        return TENSOR if name in OF_TENSORS else UNKNOWN

    def _of_list(self, node: ast.Call, base: Value, name: str, given: Given) -> Value:
        if name in ("append", "extend", "insert", "add") and isinstance(node.func, ast.Attribute):
            added = element(given[-1]) if name == "extend" and given else join(given[-1:])
            items = [v for v in (*base.items, added) if v != UNKNOWN] or [UNKNOWN]
            self.env[ast.unparse(node.func.value)] = listed(join(items))
            return HOST
        if name in ("items",):
            return listed(Value("tuple", (HOST, element(base))))
        if name in ("keys", "index", "count"):
            return HOST
        if name in ("values", "copy"):
            return listed(element(base))
        return element(base)

    def _of_super(self, base: Value, name: str, given: Given, named: Named) -> Value:
        owner = base.items[0]
        mro = type(owner.held).__mro__ if owner.kind == "module" else ()
        after = mro[mro.index(base.held) + 1 :] if base.held in mro else ()
        found = next((vars(cls)[name] for cls in after if name in vars(cls)), None)
        found = inspect.unwrap(found) if inspect.isroutine(found) else None
        if found is not None and is_read(found):
            return self.call_function(found, owner, given, named)
        return TENSOR if name == "forward" else UNKNOWN

    def apply(self, func: Value, given: Given, named: Named) -> Value:
        """A call of what is a value already."""
        if func.kind == "module":
            return self.call_module(func, given, named)
        if func.kind == "lambda":
            return self._local(func, given, named)
        if func.kind == "method" and func.held is not None:
            return self.call_function(func.held, func.items[0], given, named)
        if func.kind == "object" and is_read(inspect.unwrap(func.held)):
            return self.call_function(inspect.unwrap(func.held), None, given, named)
        return UNKNOWN

    def call_module(self, module: Value, given: Given, named: Named) -> Value:
        """What a module gives; a layer of torch gives tensors."""
        held = module.held
        forward = inspect.unwrap(getattr(type(held), "forward", None) or call_nothing)
        if str(getattr(forward, "__module__", "")).startswith("torch."):
            if is_a(held, "torch.nn.modules.container.Sequential"):
                for child in vars(held)["_modules"].values():
                    given = [self.call_module(of_object(child), given, {})]
                return given[0] if given else UNKNOWN
            for child in _called(held):
                self.call_module(of_object(child), [TENSOR], {})
            return Value("tuple", (TENSOR, TENSOR)) if _pairs(held) else TENSOR
        return self.call_function(forward, module, given, named)

    def call_function(self, function: Any, own: Value | None, given: Given, named: Named) -> Value:
        """What a function or method gives, read where it stands."""
        function = inspect.unwrap(function) if inspect.isroutine(function) else function
        if not is_read(function) or read(function) is None:
            return UNKNOWN  # its source is not there
        return self.run.follow(function, own, given, named)

    def _local(self, func: Value, given: Given, named: Named) -> Value:
        """A lambda, or a function that stands in this one."""
        tree, env = func.held
        return self.run.local(self, tree, env, given, named)


def call_nothing() -> None:
    """Stands for a forward that is not there."""


def _called(held: Any) -> list[Any]:
    """Modules of the user's inside a layer of torch: TransformerEncoder runs what it is given."""
    children = vars(held).get("_modules", {}).values()
    return [c for c in children if c is not None and not type(c).__module__.startswith("torch.")]


def _of_torchscript(name: str | None) -> bool:
    """Whether a function speaks of torch.jit, which is no tracing of torch.export's."""
    return (name or "").startswith(("torch.jit.", "torch.onnx."))


def _pairs(held: Any) -> bool:
    return any(is_a(held, name) for name in _RECURRENT)


def _torch_name(held: Any) -> str | None:
    """The name of a function of torch that stands in no module that is named here."""
    module, name = getattr(held, "__module__", None), getattr(held, "__name__", None)
    return f"{module}.{name}" if isinstance(module, str) and module.startswith("torch.") else None


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 100 else f"{text[:97]}..."
