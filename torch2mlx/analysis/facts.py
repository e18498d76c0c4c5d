"""The facts of a model's classes: their forwards, and what these call, followed from the root."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from torch2mlx.analysis.calls import Fact, calls_of
from torch2mlx.analysis.flow import Body
from torch2mlx.analysis.functions import own_methods, read
from torch2mlx.analysis.parameters import given_to
from torch2mlx.analysis.values import HOST, UNKNOWN, Value, join, of_object

#: Expressions and statements looked at before giving up; no source of a model comes near.
BUDGET = 400_000
_DEPTH = 40


class Run:
    """One look at a model: what was found, by class, and what functions gave."""

    def __init__(self, lowered: frozenset[str]) -> None:
        self.lowered = lowered
        self.found: dict[type, dict[Fact, None]] = {}
        self.known: dict[Any, Value] = {}
        self.reached: set[Any] = set()
        self.cls: list[type] = []
        self.left, self.unsure = BUDGET, False

    def spend(self) -> bool:
        """Whether there is budget for one more expression."""
        self.left -= 1
        return self.left > 0

    def note(self, kind: str, file: str, line: int, what: str) -> None:
        """A fact of the class that is looked at."""
        if self.cls:
            what = what if len(what) <= 120 else f"{what[:117]}..."
            self.found.setdefault(self.cls[-1], {})[Fact(kind, file, line, what)] = None

    def follow(
        self, function: Any, own: Value | None, given: list[Value], named: Mapping[str, Value]
    ) -> Value:
        """What a function gives; what is found in it counts with the class that runs it."""
        source = read(function)
        assert source is not None
        is_forward = own is not None and own.kind == "module"
        cls = type(own.held) if is_forward and own is not None else self.cls[-1]
        env = given_to(source, own, given, named, self.unsure)
        self.unsure = False
        key = (function, cls, tuple(sorted((k, repr(_shape(v))) for k, v in env.items())))
        if key in self.known or len(self.cls) >= _DEPTH:
            return self.known.get(key, UNKNOWN)
        self.known[key] = UNKNOWN  # a recursion gives nothing
        self.cls.append(cls)
        if (function, cls) not in self.reached:
            self.reached.add((function, cls))
            for fact in calls_of(function, self.lowered):
                self.note(fact.kind, fact.file, fact.line, fact.what)
        defined = _defining(cls, function)
        self.known[key] = Body(self, source, own, env, defined).result()
        self.cls.pop()
        return self.known[key]

    def local(
        self, body: Body, tree: Any, env: dict[str, Value], given: list[Value], named: Any
    ) -> Value:
        """What a lambda or a function within a function gives."""
        if len(self.cls) >= _DEPTH or not self.spend():
            return UNKNOWN
        names = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args)]
        inner = dict(env)
        inner.update({a.arg: UNKNOWN for a in tree.args.kwonlyargs})
        inner.update({name: UNKNOWN for name in names})
        inner.update(zip(names, given, strict=False))
        inner.update({k: v for k, v in named.items() if k in names})
        one = Body(self, body.function, body.owner, inner, body.defined)
        self.cls.append(self.cls[-1])
        try:
            if isinstance(tree, ast.Lambda):
                return one.value(tree.body)
            one.block(tree.body)
            return join(one.returned) if one.returned else HOST
        finally:
            self.cls.pop()


def _shape(value: Value) -> Any:
    """A value, without which module of a class it is."""
    if value.kind == "module":
        return ("module", type(value.held).__qualname__, len(vars(value.held).get("_modules", ())))
    return (value.kind, value.name, tuple(map(_shape, value.items)))


def _defining(cls: type, function: Any) -> type | None:
    """The class that a method stands in, for its super()."""
    for base in cls.__mro__:
        if any(inspect.unwrap(v) is function for v in vars(base).values() if inspect.isroutine(v)):
            return base
    return None


def model_facts(
    root: Any, classes: Mapping[type, Any], lowered: frozenset[str]
) -> dict[type, tuple[Fact, ...]]:
    """The facts of each class, in order of their lines.

    `classes`: each class with its first module. `lowered`: names of operators that translate has
    ("aten::add"). Forwards are followed from the root; what nothing reached is looked at alone.
    """
    run = Run(lowered)
    for cls, module in ((type(root), root), *classes.items()):
        if any(base.__name__ == "ScriptModule" for base in cls.__mro__):
            run.found[cls] = {Fact("scripted", "", 0, cls.__name__): None}
            continue
        for function in own_methods(cls):
            if (function, cls) in run.reached:
                continue
            run.cls = [cls]
            if read(function) is None:
                run.note("no_source", "?", 0, f"{cls.__qualname__}.{function.__name__}")
            else:
                run.follow(function, of_object(module), [], {})
    key = lambda fact: (fact.file, fact.line, fact.kind)  # noqa: E731
    return {cls: tuple(sorted(run.found.get(cls, ()), key=key)) for cls in classes}


__all__ = ["Fact", "model_facts"]
