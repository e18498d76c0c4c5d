"""A translated file that needs MLX alone: what it calls of the kit stands in it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from torch2mlx.errors import TranslationError

_KIT = "torch2mlx.kit"
Name = tuple[str, str]  # a module of the kit ("" is the kit itself), and a name in it
Statement = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class _Module:
    """A file of the kit: its lines, what it defines, and what it imports by local names."""

    lines: list[bytes]
    defined: dict[str, Statement] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    names: dict[str, Name] = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)  # name -> the import that gives it


@cache
def _module(name: str) -> _Module:
    spec = find_spec(f"{_KIT}.{name}" if name else _KIT)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    found = _Module(text.encode().splitlines())
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.defined[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.defined.update((t.id, node) for t in targets if isinstance(t, ast.Name))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            _note(node, found)
    return found


def _note(node: ast.Import | ast.ImportFrom, found: _Module) -> None:
    for alias in node.names:
        name = alias.asname or alias.name
        told = f" as {alias.asname}" if alias.asname else ""
        if isinstance(node, ast.Import):
            found.outside[name] = f"import {alias.name}{told}"
        elif node.module == _KIT:
            found.modules[name] = alias.name
        elif (node.module or "").startswith(f"{_KIT}."):
            found.names[name] = (str(node.module).removeprefix(f"{_KIT}."), alias.name)
        else:
            found.outside[name] = f"from {node.module} import {alias.name}{told}"


def _home(name: Name) -> Name:
    """Where a name of the kit is defined. Raises TranslationError for one that is made by code."""
    module = _module(name[0])
    if name[1] in module.defined:
        return name
    if name[1] in module.names:
        return _home(module.names[name[1]])
    raise TranslationError(f"kit.{'.'.join(name)} cannot stand in a file of its own")


@dataclass(frozen=True)
class _Use:
    """A place in a file where a name of the kit, or of an import, stands."""

    node: ast.expr
    name: Name | None
    outside: str = ""
    later: bool = False  # in the body of a function, which runs when all is defined


def _uses(tree: ast.AST, module: _Module, own: str) -> Iterator[_Use]:
    """Uses in a statement of the module `own`, names that functions bind left out."""
    inner = {id(n) for part in _bodies(tree) for n in ast.walk(part)}
    for node, bound in _scoped(tree, frozenset()):
        later = id(node) in inner
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in module.modules and node.value.id not in bound:
                yield _Use(node, _home((module.modules[node.value.id], node.attr)), later=later)
        elif isinstance(node, ast.Name) and node.id not in bound:
            if node.id in module.defined:
                yield _Use(node, (own, node.id), later=later)
            elif node.id in module.names:
                yield _Use(node, _home(module.names[node.id]), later=later)
            elif node.id in module.outside:
                yield _Use(node, None, module.outside[node.id])


def _scoped(node: ast.AST, bound: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """All nodes, each with the names that the functions around it bind; what one method of a class
    binds is another's global name."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        bound = bound | set(_bound(node))
    yield node, bound
    for child in ast.iter_child_nodes(node):
        yield from _scoped(child, bound)


def _bodies(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from node.body
            yield from (a.annotation for a in node.args.args if a.annotation is not None)
            yield from [node.returns] if node.returns is not None else []


def _bound(tree: ast.AST) -> Iterator[str]:
    """Names that arguments and assignments bind within a definition."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node is not tree:
            yield node.name


def standalone(source: str) -> str:
    """The source with what it uses of `torch2mlx.kit` defined in it.

    Raises TranslationError for names of the kit that are no plain definitions.
    """
    tree = ast.parse(source)
    calls = list(_kit_calls(tree))
    if not calls:
        return source
    wanted: dict[Name, list[_Use]] = {}
    waiting = [name for _, name in calls]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        module = _module(name[0])
        wanted[name] = list(_uses(module.defined[name[1]], module, name[0]))
        waiting += [use.name for use in wanted[name] if use.name is not None]
    called = _flat_names(wanted, tree)
    lines = source.encode().splitlines()
    body = _replaced(lines, 0, [(node, called[name]) for node, name in calls]).decode()
    imports = {use.outside for uses in wanted.values() for use in uses if use.outside}
    pieces = [_text(name, wanted[name], called) for name in _in_order(wanted)]
    return _joined(body, imports, pieces)


def _kit_calls(tree: ast.AST) -> Iterator[tuple[ast.Attribute, Name]]:
    """`kit.LSTM`, `kit.pooling.max_pool`: the places, and what stands there."""
    exported = _module("").names
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name("kit"), name) if name in exported:
                yield node, _home(("", name))
            case ast.Attribute(ast.Attribute(ast.Name("kit"), module), name):
                if module not in exported:
                    yield node, _home((module, name))


def _flat_names(wanted: dict[Name, list[_Use]], tree: ast.AST) -> dict[Name, str]:
    """A name for each definition that no other has, and no function binds for itself."""
    taken = set(_bound(tree)) | set(dir(builtins))
    for (module, name), _ in wanted.items():
        taken.update(_bound(_module(module).defined[name]))
    taken.update(use.outside.rpartition(" ")[2] for uses in wanted.values() for use in uses)
    called: dict[Name, str] = {}
    for module, name in sorted(wanted):
        private = "_" if name.startswith("_") else ""
        flat = name
        if flat in taken or flat in called.values():
            flat = f"{private}{module}_{name.lstrip('_')}"
        while flat in taken or flat in called.values():
            flat += "_"
        called[module, name] = flat
    return called


def _in_order(wanted: dict[Name, list[_Use]]) -> list[Name]:
    """Definitions after those they use."""
    done: dict[Name, None] = {}
    line = lambda name: (name[0], _module(name[0]).defined[name[1]].lineno)  # noqa: E731

    def add(name: Name) -> None:
        now = {u.name for u in wanted[name] if u.name not in (None, name) and not u.later}
        for used in sorted(filter(None, now), key=line):
            add(used)
        done.setdefault(name)

    for name in sorted(wanted, key=line):
        add(name)
    return list(done)


def _text(name: Name, uses: list[_Use], called: dict[Name, str]) -> str:
    """A definition under its name in the file, with the comment above it."""
    module, node = _module(name[0]), _module(name[0]).defined[name[1]]
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) - 1
    while first and module.lines[first - 1].startswith(b"#"):
        first -= 1
    lines = list(module.lines[first : node.end_lineno])
    text = _replaced(lines, first, [(u.node, called[u.name]) for u in uses if u.name]).decode()
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        word = "class" if isinstance(node, ast.ClassDef) else "def"
        text = text.replace(f"{word} {name[1]}", f"{word} {called[name]}", 1)
    return text


def _replaced(lines: list[bytes], first: int, changes: list[tuple[ast.expr, str]]) -> bytes:
    """Lines with expressions replaced; `first` is the number of the first of them."""
    lines = list(lines)
    for node, text in sorted(changes, key=lambda c: (-c[0].lineno, -c[0].col_offset)):
        at, end = node.lineno - 1 - first, node.end_col_offset
        assert node.lineno == node.end_lineno
        lines[at] = lines[at][: node.col_offset] + text.encode() + lines[at][end:]
    return b"\n".join(lines) + b"\n"


def _joined(body: str, imports: set[str], pieces: list[str]) -> str:
    """The file: its heading, imports of both, the kit's definitions, its own."""
    tree = ast.parse(body)
    own = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    lines = body.splitlines()
    heading = "\n".join(lines[: own[0].lineno - 1]).rstrip()
    given = {lines[n.lineno - 1] for n in own} - {"from torch2mlx import kit"}
    every = sorted(given | imports, key=lambda line: ("mlx" in line, "numpy" in line, line))
    rest = "\n".join(lines[own[-1].end_lineno :]).strip("\n")
    told = "from __future__ import annotations\n\n" + "\n".join(every)
    return "\n\n\n".join([f"{heading}\n\n{told}", *(p.strip("\n") for p in pieces), rest]) + "\n"
