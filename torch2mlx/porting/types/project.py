"""What other files of the same project tell: classes and functions that a file imports of them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import collect, dotted
from torch2mlx.porting.scopes.passed_by import may_pass_by
from torch2mlx.porting.scopes.traversal import of_kinds
from torch2mlx.porting.types.infer import inferred
from torch2mlx.porting.types.known import Foreign

#: Folders above a file in which an absolute import may begin.
_UP = 4
#: Files that are looked at for what they call of one file.
_MOST = 2000


def foreign(module: cst.Module, path: str) -> Foreign:
    """What is known of the names that a file imports from files beside it; `path` is its own."""
    found = Foreign()
    place = Path(path)
    if not place.is_file():
        return found
    for node in of_kinds(module, cst.ImportFrom):
        for other in files(node, place):
            known = _inference(other, other.stat().st_mtime_ns)
            _add(found, known, _imported(node, known))
    return found


def files(node: cst.ImportFrom, place: Path) -> Iterator[Path]:
    """The file of an import, if it is one of the project."""
    name = dotted(node.module) if node.module is not None else ""
    if name:
        yield from files_of(name, len(node.relative), place)


def files_of(name: str, up: int, place: Path) -> Iterator[Path]:
    """The file that a name of a module means in a file, `up` dots before it."""
    roots = [place.parents[up - 1]] if up else list(place.parents)[:_UP]
    for root in roots:
        other = root.joinpath(*name.split(".")).with_suffix(".py")
        if other.is_file() and other != place:
            yield other
            return


@lru_cache(maxsize=256)
def _inference(other: Path, changed: int) -> Any:
    """Types of another file as it was last changed; None when it is no Python. Its own imports are
    not followed."""
    try:
        module = cst.parse_module(other.read_text(encoding="utf-8"))
    except (cst.ParserSyntaxError, UnicodeDecodeError):
        return None
    return inferred(module, collect(module))


def _imported(node: cst.ImportFrom, known: Any) -> list[str]:
    """The names that an import of another file takes from it."""
    if not isinstance(node.names, cst.ImportStar):
        return [dotted(alias.name) for alias in node.names]
    own = [*known.names.classes, *known.names.functions] if known is not None else []
    return [name for name in own if name[:1] != "_"]


def public(module: cst.Module) -> frozenset[str] | None:
    """The names in a file's `__all__`; None where it has none that can be read."""
    for node in module.body:
        for part in node.body if isinstance(node, cst.SimpleStatementLine) else ():
            if not isinstance(part, cst.Assign):
                continue
            target = part.targets[0].target
            if isinstance(target, cst.Name) and target.value == "__all__":
                listed = getattr(part.value, "elements", ())
                names = [
                    e.value.evaluated_value for e in listed if isinstance(e.value, cst.SimpleString)
                ]
                return frozenset(str(name) for name in names)
    return None


def _add(found: Foreign, known: Any, names: list[str]) -> None:
    if known is not None and any(name in known.names.classes for name in names):
        found.passes_by |= may_pass_by(known.names.classes.values(), known.names)
    for name in names if known is not None else ():
        if name in known.names.classes:
            found.kinds[name] = "module" if known.is_module_class(name) else "object"
            found.attributes[name] = known.attributes.get(name, {})
            for key, given in known.returns.items():
                if key.startswith(f"{name}."):
                    found.returns[key] = given
        elif name in known.names.functions and name in known.returns:
            found.returns[name] = known.returns[name]


def shown_to(path: str, names: Collection[str]) -> set[str]:
    """Classes of a file that other files of its project name: those call them as in torch."""
    place = Path(path)
    if not place.is_file():
        return set()
    found: set[str] = set()
    for i, other in enumerate(beside(place)):
        if i == _MOST:
            return set(names)  # no project has so many: any of them may call the classes
        if other != place and set(names) - found:
            said = words(other, other.stat().st_mtime_ns)
            found |= said.intersection(names) if place.stem in said else set()
    return found


def beside(place: Path) -> Iterator[Path]:
    """The sources of the project of a file: those of its folder or, of a package's, of the whole
    package."""
    root = place.parent
    while (root / "__init__.py").is_file() and len(root.parts) > 1:
        root = root.parent
    yield from _under(
        place.parent if root == place.parent else root / place.relative_to(root).parts[0]
    )


def _under(folder: Path) -> Iterator[Path]:
    """The sources under a folder, without those of environments and of hidden folders."""
    for root, inner, names in os.walk(folder):
        inner[:] = sorted(n for n in inner if not _foreign(Path(root, n)))
        for name in sorted(names):
            path = Path(root, name)
            if name.endswith(".py") and path.is_file() and os.access(path, os.R_OK):
                yield path


def _foreign(folder: Path) -> bool:
    """Whether a folder holds what others wrote: an environment, or what tools keep."""
    known = folder.name.startswith(".") or folder.name in ("site-packages", "node_modules")
    return known or (folder / "pyvenv.cfg").is_file()


@lru_cache(maxsize=1024)
def words(other: Path, changed: int) -> frozenset[str]:
    """All words of another file."""
    return frozenset(re.findall(r"\w+", other.read_text(encoding="utf-8", errors="replace")))
