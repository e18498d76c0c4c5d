"""The functions of a file: what each binds, who calls it, and what calls give its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.reaching import Bindings, bound_within
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types.known import Types

_PROPERTIES = ("property", "cached_property", "functools.cached_property")
_FORWARD = ("forward", "__call__")


class Callers:
    """Looks at all functions of a file by their names: methods of any class among them."""

    def __init__(self, module: cst.Module, types: Types) -> None:
        self.module, self._types = module, types
        self._scopes: dict[Any, Any] = {}  # nodes -> the function around each
        self._calls: dict[str, list[cst.Call]] = {}
        self._functions: dict[str, list[Any]] = {}
        self._classes: dict[Any, Any] = {}  # methods -> class
        self._given: dict[str, list[Any]] = {}  # attributes -> values
        self._bindings: dict[Any, Bindings] = {}
        waiting = [(module, module, None)]
        while waiting:
            node, around, kind = waiting.pop()
            self._scopes[node] = around
            self._enter(node, kind)
            inner = node if isinstance(node, cst.FunctionDef) else around
            within = node if isinstance(node, cst.ClassDef) else None if inner is node else kind
            waiting += [(child, inner, within) for child in children(node)]

    def _enter(self, node: Any, kind: Any) -> None:
        if isinstance(node, cst.Call):
            self._calls.setdefault(last(node.func), []).append(node)
            if last(node.func) in _REGISTERING and len(node.args) > 1:
                first = node.args[0].value
                if isinstance(first, cst.SimpleString):
                    name = str(first.evaluated_value)
                    self._given.setdefault(name, []).append(node.args[1].value)
        elif isinstance(node, cst.FunctionDef):
            self._functions.setdefault(node.name.value, []).append(node)
            self._classes[node] = kind
        elif isinstance(node, cst.Assign):
            for target in node.targets:
                for one, value in _pairs(target.target, node.value):
                    if isinstance(one, cst.Attribute):
                        self._given.setdefault(one.attr.value, []).append(value)

    def scope(self, node: Any) -> Any:
        """The function that a node is in, or the file."""
        return self._scopes.get(node, self.module)

    def class_of(self, function: Any) -> Any:
        """The class that a function is a method of; None of others."""
        return self._classes.get(function)

    def bindings(self, scope: Any) -> Bindings:
        """What a function binds."""
        if scope not in self._bindings:
            self._bindings[scope] = Bindings(scope)
        return self._bindings[scope]

    def statement(self, node: Any) -> Any:
        """The statement that a node is in."""
        return self.bindings(self.scope(node)).statement(node)

    def assigned(self, name: str) -> list[Any]:
        """Values that attributes of a name are given anywhere in the file."""
        return self._given.get(name, [])

    def calls_of(self, function: Any) -> list[cst.Call]:
        """The calls of a function of the file, by its name; of a constructor those of its class, of
        a forward those of modules of its class."""
        if not isinstance(function, cst.FunctionDef):
            return []
        kind, name = self._classes.get(function), function.name.value
        if kind is None or name not in ("__init__", *_FORWARD):
            return self._calls.get(name, [])
        if name == "__init__":
            return self._calls.get(kind.name.value, [])
        of_class = (c for held in self._calls.values() for c in held)
        return [
            *self._calls.get(name, []),
            *(c for c in of_class if self._types.of(c.func).name == kind.name.value),
        ]

    def named(self, name: str) -> list[Any]:
        """The functions of a name."""
        return self._functions.get(name, [])

    def called(self, call: cst.Call) -> list[Any]:
        """The functions of the file that a call may be of, lambdas of a name too."""
        found = list(self.named(last(call.func)))
        if isinstance(call.func, cst.Name):
            held = self.bindings(self.scope(call)).reaching(call.func.value, call)
            found += [b.value for b in held if isinstance(b.value, cst.Lambda)]
        return found

    def properties(self, name: str) -> Iterator[Any]:
        """The functions that an attribute of a name may be."""
        for function in self.named(name):
            if any(dotted(d.decorator) in _PROPERTIES for d in function.decorators):
                yield function

    def of_lambda(self, node: Any) -> bool:
        """Whether a name is bound by the lambda or comprehension that it stands in."""
        return bound_within(self.bindings(self.scope(node)), node) is not None

    def argument(self, function: Any, name: str, call: cst.Call) -> Any:
        """What a call gives a parameter; None where it gives nothing that is seen."""
        plain = [*function.params.posonly_params, *function.params.params]
        names = [p.name.value for p in plain][self._bound(function) :]
        given = next((a.value for a in call.args if a.keyword and a.keyword.value == name), None)
        if given is not None or name not in names:
            return given
        place = names.index(name)
        before = [a for a in call.args if a.keyword is None]
        starred = any(a.star for a in before[: place + 1])
        return before[place].value if place < len(before) and not starred else None

    def arguments(self, function: Any, name: str, call: cst.Call) -> Iterator[tuple[Any, bool]]:
        """What a call may give a parameter, `*args` and `**kwargs` too: the expression, and whether
        it is one of its items."""
        given = self.argument(function, name, call)
        if given is not None:
            yield given, False
            return
        star, words = function.params.star_arg, function.params.star_kwarg
        plain = [*function.params.posonly_params, *function.params.params]
        count = len(plain) - self._bound(function)
        known = {p.name.value for p in (*plain, *function.params.kwonly_params)}
        for place, argument in enumerate(call.args):
            word = argument.keyword.value if argument.keyword is not None else ""
            if argument.star:
                yield argument.value, True
                continue
            more = _is(star, name) and not word and place >= count
            if more or (_is(words, name) and word and word not in known):
                yield argument.value, False

    def _bound(self, function: Any) -> int:
        """How many parameters a call does not give: the object of a method."""
        static = any(dotted(d.decorator) == "staticmethod" for d in function.decorators)
        return int(self._classes.get(function) is not None and not static)


_REGISTERING = ("register_buffer", "register_parameter")


def _pairs(target: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Targets and what they are given, those of tuples one by one."""
    several = isinstance(target, (cst.Tuple, cst.List)) and isinstance(value, (cst.Tuple, cst.List))
    if not several or len(target.elements) != len(value.elements):
        yield target, value
        return
    for one, other in zip(target.elements, value.elements, strict=True):
        yield one.value, other.value


def _is(parameter: Any, name: str) -> bool:
    return isinstance(parameter, cst.Param) and parameter.name.value == name


def last(func: Any) -> str:
    """The name that a call calls, without what it is an attribute of."""
    return func.attr.value if isinstance(func, cst.Attribute) else dotted(func)
