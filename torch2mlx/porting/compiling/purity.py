"""Whether the code of a step does nothing but compute: what a compiled program would lose or keep.

A program that was traced once does not print again, appends to no list, and holds the numbers that
it saw. What reads an array on the host is an error in a trace, and told here where it is seen.
"""

from __future__ import annotations

import ast
import builtins
from typing import Any

from torch2mlx.porting.compiling.source import (
    CONSTRUCTORS,
    FUNCTIONS,
    Source,
    dotted,
    loads,
    parameters,
    root,
    stores,
)
from torch2mlx.porting.compiling.tables import (
    BARRED,
    BUILTINS,
    CHANGING,
    HOST,
    LIBRARIES,
    METHODS,
    PUTTING,
)


class Purity:
    """Goes through the code of steps; `why` answers with what speaks against compiling them.
    `made`: functions of steps, which only their own step calls."""

    def __init__(self, source: Source, made: set[str]) -> None:
        self._source = source
        self._functions = {k: v for k, v in source.functions.items() if k not in made}
        self._attributes = {
            part.attr
            for part in ast.walk(source.tree)
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        }
        self._values = self._handed_over()
        self._modules = [c for c in source.classes.values() if self._is_module(c)]

    def _handed_over(self) -> list[Any]:
        """Functions that something holds, to call them by another name."""
        found: list[Any] = []
        for part in ast.walk(self._source.tree):
            name = part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "")
            lambdas = isinstance(part, ast.Lambda)
            if (lambdas or name in self._functions) and self._is_kept(part):
                found += [part] if lambdas else self._functions[name]
        return found

    def _is_kept(self, part: ast.AST) -> bool:
        """Whether a function becomes a value that a forward pass may call."""
        around = self._source.around
        holder = around.get(part)
        while isinstance(holder, (ast.keyword, ast.List, ast.Tuple, ast.Dict, ast.IfExp)):
            part, holder = holder, around.get(holder)
        if not isinstance(holder, ast.Call):
            return isinstance(holder, (ast.Assign, ast.AnnAssign, ast.Return))
        if holder.func is part:
            return False
        full = self._source.full(dotted(holder.func))
        if full:
            layers = full.startswith(("mlx.nn", "torch2mlx.kit")) and not full.startswith(BARRED)
            return layers and full.rpartition(".")[2][:1].isupper()
        if isinstance(holder.func, ast.Attribute):
            return holder.func.attr in self._functions
        return True

    def _is_module(self, node: ast.ClassDef) -> bool:
        return any(isinstance(f, ast.FunctionDef) and f.name == "__call__" for f in node.body)

    def why(self, statements: list[Any]) -> tuple[str, set[str], set[str]]:
        """What speaks against compiling statements, "" for nothing; the names of the file and the
        attributes that they and what they call read."""
        names: set[str] = set()
        attributes: set[str] = set()
        waiting: list[Any] = [*statements, *self._values]
        waiting += [
            f for c in self._modules for f in c.body if getattr(f, "name", "") == "__call__"
        ]
        seen: set[int] = set()
        while waiting:
            node = waiting.pop(0)
            if id(node) in seen:
                continue
            seen.add(id(node))
            reason = self._against(node)
            if reason:
                return reason + ("" if node in statements else self._place(node)), names, attributes
            if node not in statements:
                names |= loads([node]) - parameters(node) - stores(_body(node))
            attributes |= {p.attr for p in ast.walk(node) if isinstance(p, ast.Attribute)}
            waiting += self._called(node)
        return "", names, attributes

    def _place(self, node: Any) -> str:
        holder = self._source.around.get(node)
        owner = f"{holder.name}." if isinstance(holder, ast.ClassDef) else ""
        return f" in {owner}{node.name}()" if isinstance(node, FUNCTIONS) else ""

    def _called(self, node: Any) -> list[Any]:
        """Functions and methods of the file whose names stand in a node."""
        names = loads([node])
        names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        found = [f for name in sorted(names) for f in self._functions.get(name, ())]
        for name in sorted(
            names & self._source.classes.keys()
        ):  # a class that is called, or applied
            body = self._source.classes[name].body
            found += [f for f in body if getattr(f, "name", "") in ("forward", "backward")]
        return [f for f in found if f.name not in CONSTRUCTORS]

    def _against(self, node: Any) -> str:
        fresh = self._fresh(node)
        for part in ast.walk(node):
            reason = self._statement(part, fresh)
            if not reason and isinstance(part, ast.Call):
                reason = self._call(part, fresh)
            if reason:
                return reason
        return ""

    def _statement(self, part: Any, fresh: set[str]) -> str:
        if isinstance(part, (ast.Global, ast.Nonlocal)):
            return f"changes {', '.join(part.names)} of the file"
        if isinstance(part, (ast.Yield, ast.YieldFrom, ast.Await, ast.Try)):
            return f"has {type(part).__name__.lower()}"
        if isinstance(part, ast.With) and not all(
            isinstance(item.context_expr, ast.Call) for item in part.items
        ):
            return "runs a forward pass again, from the random state of the first"
        if isinstance(part, ast.AugAssign):
            base = root(part.target)
            plain = isinstance(base, ast.Name) and base.id in fresh
            return "" if plain else f"changes {ast.unparse(part.target)} in place"
        if isinstance(getattr(part, "ctx", None), (ast.Store, ast.Del)):
            if isinstance(part, ast.Attribute):
                return f"keeps state in {ast.unparse(part)}"
            if isinstance(part, ast.Subscript):
                base = root(part)
                plain = isinstance(base, ast.Name) and base.id in fresh
                return "" if plain else f"changes {ast.unparse(part)} in place"
        return ""

    def _fresh(self, node: Any) -> set[str]:
        """Names that hold nothing but what a node itself has computed."""
        found: dict[str, bool] = {}
        for part in ast.walk(node):
            if isinstance(part, (ast.Assign, ast.AnnAssign)) and part.value is not None:
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                new = not isinstance(
                    part.value, (ast.Name, ast.Attribute, ast.Subscript, ast.IfExp)
                )
                for name in (t.id for t in targets if isinstance(t, ast.Name)):
                    found[name] = found.get(name, True) and new
        taken = {name for f in ast.walk(node) if isinstance(f, FUNCTIONS) for name in parameters(f)}
        return {name for name, new in found.items() if new} - taken

    def _call(self, call: ast.Call, fresh: set[str]) -> str:
        func = call.func
        if isinstance(func, ast.Name):
            return self._by_name(func.id)
        if not isinstance(func, ast.Attribute):
            return ""
        full = self._source.full(dotted(func))
        if full:
            return self._library(full, dotted(func))
        name = func.attr
        if name in HOST:
            return f"reads numbers of arrays (.{name}())"
        if name in PUTTING:
            base = root(func.value)
            plain = isinstance(base, ast.Name) and base.id in fresh
            return "" if plain else f"changes {ast.unparse(func.value)} (.{name}())"
        known = name in self._source.functions or name in self._attributes or name in METHODS
        return "" if known else f"calls .{name}(), of which nothing is known"

    def _by_name(self, name: str) -> str:
        if name in self._source.functions or name in self._source.classes:
            return ""
        if name in self._source.imports:
            return self._library(self._source.imports[name], name)
        if hasattr(builtins, name):
            return "" if name in BUILTINS else f"calls {name}()"
        return ""

    def _library(self, full: str, name: str) -> str:
        known = f"{full}.".startswith(LIBRARIES) and not full.startswith(BARRED)
        return "" if known else f"calls {name}()"


def _body(node: Any) -> list[Any]:
    return node.body if isinstance(node.body, list) else [node.body]


def unsteady(source: Source, names: set[str]) -> str:
    """One of the names of a file that does not keep the value it was first given, or ""."""
    walked = list(ast.walk(source.tree))
    shared = {name for part in walked if isinstance(part, ast.Global) for name in part.names}
    bound: dict[str, list[Any]] = {}
    for part in walked:
        if not isinstance(part, ast.Name) or isinstance(part.ctx, ast.Load):
            continue
        if source.scope(part) is source.tree:
            bound.setdefault(part.id, []).append(part)
    own = source.imports.keys() | source.functions.keys() | source.classes.keys()
    inside = {name for name in _changed_inside(source, walked) if "." not in name}
    for name in sorted((names & bound.keys()) - own):
        once = len(bound[name]) == 1 and not source.in_loop(bound[name][0])
        if name in shared or name in inside or not once:
            return name
    return ""


def _changed_inside(source: Source, nodes: list[Any]) -> set[str]:
    """Dotted names whose items are set, or that a method changes."""
    found: set[str] = set()
    for part in nodes:
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            if part.func.attr in CHANGING:
                found.add(dotted(part.func.value))
        elif isinstance(part, ast.Subscript) and not isinstance(part.ctx, ast.Load):
            place: Any = part
            while isinstance(place, ast.Subscript):
                place = place.value
            found.add(dotted(place))
    return {name for name in found if name and not source.full(name)}


def kept_attributes(source: Source) -> set[str]:
    """Attributes that are set, or changed within, outside of constructors; those that are given a
    layer are not meant, which a compiled step sees by itself."""
    found: set[str] = set()
    for function in (source.tree, *(f for fs in source.functions.values() for f in fs)):
        if getattr(function, "name", "") in CONSTRUCTORS:
            continue
        parts = [p for p in ast.walk(function) if source.scope(p) is function]
        inside = _changed_inside(source, parts)
        for part in parts:
            if not isinstance(part, ast.Attribute) or isinstance(part.ctx, ast.Load):
                continue
            if not _is_layer(source, source.around.get(part)):
                inside.add(dotted(part) or f".{part.attr}")
        found |= {name.rpartition(".")[2] for name in inside if "." in name}
    return found


def _is_layer(source: Source, statement: Any) -> bool:
    """Whether a statement assigns a new layer."""
    value = getattr(statement, "value", None)
    if not isinstance(statement, ast.Assign) or not isinstance(value, ast.Call):
        return False
    full = source.full(dotted(value.func))
    layer = full.startswith(("mlx.nn.", "torch2mlx.kit.layers.", "torch2mlx.kit.", "mlx.nn"))
    return layer and full.rpartition(".")[2][:1].isupper()
