"""`from .parts import *`: the names of torch that another file of the project brings with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import collect
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.traversal import everything
from torch2mlx.porting.types.project import files, public

_TORCH = ("torch", "torchvision", "torchaudio")


def with_stars(module: cst.Module, path: str) -> cst.Module:
    """The file with an import of its own for each name of torch that it has through a star."""
    place = Path(path)
    return passed(module, _Explicit(place)) if place.is_file() else module


class _Explicit(cst.CSTTransformer):
    def __init__(self, place: Path) -> None:
        super().__init__()
        self._place = place

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        found: dict[str, str] = {}
        for part in original_node.body:
            found |= _brought(part, self._place, {self._place})
        made = [cst.parse_statement(_line(local, full)) for local, full in found.items()]
        return cst.FlattenSentinel([updated_node, *made]) if made else updated_node


def _brought(node: Any, place: Path, seen: set[Path]) -> dict[str, str]:
    """Local name -> full name of what a star import brings."""
    found: dict[str, str] = {}
    if not isinstance(node, cst.ImportFrom) or not isinstance(node.names, cst.ImportStar):
        return found
    for other in files(node, place):
        if other not in seen:
            seen.add(other)
            found |= _offered(other, seen)
    return found


def _offered(other: Path, seen: set[Path]) -> dict[str, str]:
    try:
        module = cst.parse_module(other.read_text(encoding="utf-8"))
    except (cst.ParserSyntaxError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for node in everything(module):
        found |= _brought(node, other, seen)
    found |= {
        local: full
        for local, full in collect(module).imports.items()
        if full.partition(".")[0] in _TORCH
    }
    shown = public(module)
    return {
        local: full
        for local, full in found.items()
        if (local in shown if shown is not None else local[:1] != "_")
    }


def _line(local: str, full: str) -> str:
    head, _, tail = full.rpartition(".")
    return f"from {head} import {tail} as {local}\n" if head else f"import {full} as {local}\n"
