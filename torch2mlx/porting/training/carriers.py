"""Names that hold what uses the weights of modules without being these modules.

encode = lambda x: net(x)                   all of these, and what is made of them, lead to the
wrapped = Wrapper(net)                      weights of `net` where they are called
nets = {"a": net}
def helper(x): return encode(x)

Names are those of a file, whichever function has them: what is taken for one too many moves into
the function of a step, where it is computed all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import children, of_kinds, walk
from torch2mlx.porting.types.known import Types

#: Kinds of values in which no module is found again.
_PLAIN = ("tensor", "number", "text", "none", "optimizer", "scheduler", "shape", "size", "array")
#: Calls whose result does not use what they are given: copies, and questions.
_APART = ("copy.deepcopy", "deepcopy", "len", "isinstance", "id", "type", "print", "str", "repr")
#: Methods that give the module itself.
_ITSELF: tuple[str, ...] = (
    "to",
    "cuda",
    "cpu",
    "train",
    "eval",
    "float",
    "double",
    "half",
    "apply",
)
_ITSELF += ("requires_grad_",)
_FILLING = ("append", "add", "insert", "extend", "setdefault")
_DISPLAYS = (cst.List, cst.Tuple, cst.Set, cst.Dict)


class Carriers:
    """Answers for the names of one file."""

    def __init__(self, module: cst.Module, types: Types, scan: Scanner) -> None:
        self._types, self._scan = types, scan
        self._given = list(self._bindings(module))
        self._functions = [
            f for f in of_kinds(module, cst.FunctionDef) if f not in _methods(module)
        ]
        self._known: dict[frozenset[str], set[str]] = {}

    def of(self, modules: set[str]) -> set[str]:
        """Those names, and all that hold what uses them."""
        key = frozenset(modules)
        if key not in self._known:
            self._known[key] = self._grown(set(modules))
        return self._known[key]

    def _grown(self, found: set[str]) -> set[str]:
        while True:
            before = len(found)
            for name, value in self._given:
                if name not in found and self._carries(value, found):
                    found.add(name)
                elif name in found:
                    found |= self._same(value)
            for function in self._functions:
                if function.name.value not in found and self._reads(function, found):
                    found.add(function.name.value)
            if len(found) == before:
                return found

    def _reads(self, function: Any, found: set[str]) -> bool:
        return bool(self._scan.loads(function) & found)

    def _bindings(self, module: cst.Module) -> Iterator[tuple[str, Any]]:
        """Names, and what each is given or gets as an item."""
        kinds = (cst.Assign, cst.AnnAssign, cst.AugAssign, cst.For, cst.Call)
        for node in of_kinds(module, *kinds):
            if isinstance(node, cst.Call):
                func: Any = node.func
                if isinstance(func, cst.Attribute) and func.attr.value in _FILLING:
                    yield from ((dotted(func.value), a.value) for a in node.args)
            elif isinstance(node, cst.For):
                yield from ((name, node.iter) for name in _names(node.target))
            elif node.value is not None:
                targets = node.targets if isinstance(node, cst.Assign) else [node]
                for target in targets:
                    yield from _pairs(target.target, node.value)

    def _same(self, value: Any) -> set[str]:
        """The names of what a name is, and of the modules in the module that it is."""
        value = _itself(value)
        if dotted(value):
            return {dotted(value)} if self._may_be_module(value) else set()
        if not isinstance(value, cst.Call) or self._types.of(value).kind != "module":
            return set()
        given = [a.value for a in value.args]
        given += [e.value for a in given if isinstance(a, _DISPLAYS) for e in a.elements]
        return {dotted(a) for a in given if self._types.of(a).kind == "module"} - {""}

    def _may_be_module(self, node: Any) -> bool:
        return self._types.of(node).kind in ("module", "modules", "unknown", "object", "instance")

    def _carries(self, node: Any, found: set[str]) -> bool:
        """Whether an expression gives something that uses one of these names when it is called."""
        node = _itself(node)
        if isinstance(node, (cst.Name, cst.Attribute)):
            return dotted(node) in found or self._is_part(node, found)
        if isinstance(node, cst.Lambda):
            own = {p.name.value for p in walk(node.params) if isinstance(p, cst.Param)}
            return bool((self._scan.loads(node.body) - own) & found)
        rule = _RULES.get(type(node))
        if rule is None or self._types.of(node).kind in _PLAIN or self._types.of(node).tensor:
            return False
        return any(self._carries(part, found) for part in rule(node))

    def _is_part(self, node: Any, found: set[str]) -> bool:
        """`net.encoder`, `net.forward`."""
        if not isinstance(node, cst.Attribute) or dotted(node.value) not in found:
            return False
        held = self._types.of(node)
        return not held.tensor and (
            held.kind in ("module", "modules", "function") or node.attr.value == "forward"
        )


def _of_call(node: Any) -> list[Any]:
    return [] if dotted(node.func) in _APART else [a.value for a in node.args]


def _of_display(node: Any) -> list[Any]:
    return [e.value for e in node.elements]


def _of_subscript(node: Any) -> list[Any]:
    return [node.value]


def _of_choice(node: Any) -> list[Any]:
    return [node.body, node.orelse] if isinstance(node, cst.IfExp) else [node.left, node.right]


def _of_comprehension(node: Any) -> list[Any]:
    made = node.value if isinstance(node, cst.DictComp) else node.elt
    return [made, node.for_in.iter] if isinstance(made, (cst.Name, cst.Lambda)) else [made]


_RULES: dict[type, Callable[[Any], list[Any]]] = {
    cst.Call: _of_call,
    **dict.fromkeys(_DISPLAYS, _of_display),
    cst.Subscript: _of_subscript,
    cst.IfExp: _of_choice,
    cst.BooleanOperation: _of_choice,
    **dict.fromkeys((cst.ListComp, cst.DictComp, cst.GeneratorExp), _of_comprehension),
}


def _itself(node: Any) -> Any:
    """The module in `net.to(device)` and its like."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        if node.func.attr.value not in _ITSELF:
            break
        node = node.func.value
    return node


def _pairs(target: Any, value: Any) -> Iterator[tuple[str, Any]]:
    parts = target.elements if isinstance(target, (cst.Tuple, cst.List)) else ()
    values = value.elements if isinstance(value, (cst.Tuple, cst.List)) else ()
    if parts and len(parts) == len(values):
        for one, other in zip(parts, values, strict=True):
            yield from _pairs(one.value, other.value)
    else:
        yield from ((name, value) for name in _names(target))


def _names(target: Any) -> Iterator[str]:
    """The names that a target gives something to; of an item, what holds it."""
    if isinstance(target, (cst.Tuple, cst.List)):
        for part in target.elements:
            yield from _names(part.value)
    else:
        while isinstance(target, cst.Subscript):
            target = target.value
        if dotted(target):
            yield dotted(target)


def _methods(module: cst.Module) -> set[Any]:
    """Functions that stand in a class: they are called by what an object is named."""
    return {f for c in of_kinds(module, cst.ClassDef) for f in children(c.body)}
