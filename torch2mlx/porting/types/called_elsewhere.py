"""What other files of a project give the functions and classes of a file: types of arguments.

accuracy(output, labels)        in train.py tells of `def accuracy(output, labels)` in utils.py
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import collect, dotted
from torch2mlx.porting.scopes.traversal import calls, of_kinds
from torch2mlx.porting.types.infer import inferred
from torch2mlx.porting.types.kinds import UNKNOWN, Type, join
from torch2mlx.porting.types.known import Env, Foreign
from torch2mlx.porting.types.project import beside, files, files_of, foreign, words

#: Kinds that mean the same in every file; a class is known by its name in its own alone.
_PLAIN = ("tensor", "numpy", "module", "optimizer", "int", "float", "bool", "str")
#: What two files give that differ: no kind that anything is decided by.
_EITHER = Type("either")


def known_beside(module: cst.Module, path: str) -> Foreign:
    """What other files tell a file: of what it imports, and of what they give its functions."""
    found = foreign(module, path)
    found.given.update(given_elsewhere(module, path))
    return found


def given_elsewhere(module: cst.Module, path: str) -> dict[str, Env]:
    """Types that calls in other files give parameters, by function; a constructor is
    `Class.__init__`. Parameters that calls give several kinds are left out."""
    place = Path(path)
    own = {node.name.value: node for node in _own(module)}
    found: dict[str, Env] = {}
    for other in beside(place) if place.is_file() and own else ():
        if other == place or not own.keys() & words(other, other.stat().st_mtime_ns):
            continue
        if place.stem in words(other, other.stat().st_mtime_ns):
            _add(found, other, place, own)
    for told in found.values():
        for name in [n for n, kind in told.items() if kind.kind not in _PLAIN]:
            del told[name]
    return found


def _own(module: cst.Module) -> Iterator[Any]:
    """The functions and classes of a file that others may import."""
    for node in module.body:
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            yield node


def _add(found: dict[str, Env], other: Path, place: Path, own: dict[str, Any]) -> None:
    for name, call, kinds in _calls(other, other.stat().st_mtime_ns, place, frozenset(own)):
        node = own.get(name)
        if node is None:
            continue
        key, names = _parameters(node)
        told = found.setdefault(key, {})
        for i, (argument, kind) in enumerate(zip(call.args, kinds, strict=True)):
            if argument.star:
                break
            at = names[i] if i < len(names) else ""
            at = argument.keyword.value if argument.keyword is not None else at
            if at and kind.kind not in ("unknown", "none"):
                told[at] = _agreed(told.get(at), kind)


def _agreed(before: Type | None, kind: Type) -> Type:
    made = join(before, Type(kind.kind))
    return _EITHER if before is not None and made == UNKNOWN else made


def _parameters(node: Any) -> tuple[str, list[str]]:
    """The key of a function or of a class's constructor, and the names of its parameters."""
    if isinstance(node, cst.FunctionDef):
        return node.name.value, [p.name.value for p in node.params.params]
    key = f"{node.name.value}.__init__"
    inner = (n for n in node.body.body if isinstance(n, cst.FunctionDef))
    init = next((n for n in inner if n.name.value == "__init__"), None)
    return key, [p.name.value for p in init.params.params][1:] if init is not None else []


@lru_cache(maxsize=256)
def _calls(
    other: Path, changed: int, place: Path, own: frozenset[str]
) -> tuple[tuple[str, cst.Call, list[Type]], ...]:
    """Calls, in a file as it was last changed, of what it imports from another: the name there,
    the call, and the types of its arguments."""
    try:
        module = cst.parse_module(other.read_text(encoding="utf-8"))
    except (cst.ParserSyntaxError, UnicodeDecodeError):
        return ()
    here = _imported(module, other, place, own)
    named = [(here[text], call) for call in calls(module) if (text := dotted(call.func)) in here]
    if not named:
        return ()
    types = inferred(module, collect(module), foreign(module, str(other)))
    return tuple((name, call, [types.of(a.value) for a in call.args]) for name, call in named)


def _imported(module: cst.Module, other: Path, place: Path, own: frozenset[str]) -> dict[str, str]:
    """How a file calls what another defines: "utils.accuracy" -> "accuracy"."""
    found: dict[str, str] = {}
    for node in of_kinds(module, cst.Import):
        for alias in node.names:
            if place in files_of(dotted(alias.name), 0, other):
                found.update((f"{_name(alias)}.{name}", name) for name in own)
    for node in of_kinds(module, cst.ImportFrom):
        if place not in files(node, other):
            continue
        if isinstance(node.names, cst.ImportStar):
            found.update((name, name) for name in own)
        else:
            found.update((_name(alias), dotted(alias.name)) for alias in node.names)
    return found


def _name(alias: cst.ImportAlias) -> str:
    return dotted(alias.asname.name if alias.asname is not None else alias.name)
