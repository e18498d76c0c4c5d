"""A ported file as Python's own tree: what its names are, and where what is stored."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.While, ast.AsyncFor)
#: Methods in which objects get the attributes that they keep.
CONSTRUCTORS = ("__init__", "__post_init__", "__new__")


def dotted(node: ast.AST) -> str:
    """`a.b.c` of names and attributes; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def root(node: ast.AST) -> ast.AST:
    """What attributes, items and calls of methods are taken of in the end."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node


def loads(nodes: list[Any]) -> set[str]:
    """Names that are read somewhere in nodes; those that a lambda takes are its own."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Lambda):
            found |= loads([part.body]) - parameters(part)
            waiting.append(part.args)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(part.id)
        else:
            waiting += ast.iter_child_nodes(part)
    return found


def stores(nodes: list[Any]) -> set[str]:
    """Names that are bound somewhere in nodes, functions and classes too."""
    found: set[str] = set()
    for part in (part for node in nodes for part in ast.walk(node)):
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            found.add(part.id)
        elif isinstance(part, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler)) and part.name:
            found.add(part.name)
    return found


def changed(nodes: list[Any]) -> set[str]:
    """Dotted names whose value, items or attributes are set somewhere in nodes."""
    found = set()
    for part in (part for node in nodes for part in ast.walk(node)):
        if not isinstance(getattr(part, "ctx", None), (ast.Store, ast.Del)):
            continue
        while isinstance(part, ast.Subscript):
            part = part.value
        found.add(dotted(part))
    return found - {""}


def parameters(node: Any) -> set[str]:
    """Names of the parameters of a function."""
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {each.arg for each in named if each is not None}


@dataclass
class Source:
    """One file: `functions` by name, methods among them, `classes`, what names are imported as."""

    text: str
    tree: ast.Module
    functions: dict[str, list[Any]] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    around: dict[ast.AST, ast.AST] = field(default_factory=dict)  # node -> what holds it

    @staticmethod
    def of(text: str) -> Source:
        """A file from its text."""
        made = Source(text, ast.parse(text))
        for node in ast.walk(made.tree):
            for child in ast.iter_child_nodes(node):
                made.around[child] = node
            if isinstance(node, FUNCTIONS):
                made.functions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                made.classes[node.name] = node
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    made.imports[name] = alias.name if alias.asname else name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    full = f"{'.' * node.level}{node.module or ''}.{alias.name}"
                    made.imports[alias.asname or alias.name] = full
        return made

    def full(self, name: str) -> str:
        """A dotted name by what its first part was imported as; "" where it was not."""
        first, _, rest = name.partition(".")
        if first not in self.imports:
            return ""
        return f"{self.imports[first]}.{rest}" if rest else self.imports[first]

    def kit(self) -> str:
        """The name that a file has for the kit, or would have."""
        return next((k for k, full in self.imports.items() if full == "torch2mlx.kit"), "kit")

    def holders(self, node: ast.AST) -> Iterator[ast.AST]:
        """What holds a node, from the inside out."""
        while node in self.around:
            node = self.around[node]
            yield node

    def scope(self, node: ast.AST) -> Any:
        """The function that a node stands in, or the file."""
        return next((n for n in self.holders(node) if isinstance(n, FUNCTIONS)), self.tree)

    def in_loop(self, node: ast.AST) -> bool:
        """Whether a node stands in a loop of its function."""
        for holder in self.holders(node):
            if isinstance(holder, FUNCTIONS):
                return False
            if isinstance(holder, LOOPS):
                return True
        return False


def shared_names(source: Source) -> set[str]:
    """Names that functions set around them."""
    parts = (p for p in ast.walk(source.tree) if isinstance(p, (ast.Global, ast.Nonlocal)))
    return {name for part in parts for name in part.names}
