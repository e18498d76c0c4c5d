"""The page of a translation: each class beside its MLX class, the tree, weights that moved."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch2mlx.common.side_by_side import Part, folded, rows_of
from torch2mlx.report.page import MEANINGS, Cell, Head, Item, Kind, Line, Verdict, rendered
from torch2mlx.report.tree import marks

if TYPE_CHECKING:
    from torch2mlx.analysis.records import Node

#: What a comparison came to, in words, and how good that is.
_COMPARED: dict[str, tuple[str, Kind]] = {
    "equal": ("agrees with torch on the example inputs", "good"),
    "unstable": ("agrees with torch except in unstable outputs", "warn"),
    "incomparable": ("could not be compared in full", "warn"),
    "shapes": ("only shapes were compared", "warn"),
    "nothing": ("was not compared", "warn"),
}
_WEIGHTS = (Head("In MLX"), Head("Shape"), Head("Of torch's"), Head("How"))
_AROUND = 3


@dataclass(frozen=True)
class Origin:
    """What a translation was made of, for its page: sources of classes by their names, the tree of
    modules, what stands for each of them in MLX by its path, and the tensors that were moved."""

    classes: Mapping[str, str]
    nodes: Sequence[Node]
    twins: Mapping[str, str]
    pieces: Sequence[Any] = ()


@dataclass(frozen=True)
class Twin:
    """A class in both frameworks."""

    name: str
    old: str
    new: str

    @property
    def parts(self) -> list[Part]:
        """Its lines side by side."""
        return list(folded(rows_of(self.old, self.new), _AROUND))


def twins(classes: Mapping[str, str], source: str) -> Iterator[Twin]:
    """Each class of an MLX file that is named as one of torch's, a number after the name aside."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            old = classes.get(node.name) or classes.get(node.name.rstrip("0123456789_"))
            if old:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                yield Twin(node.name, old, "\n".join(lines[first - 1 : node.end_lineno]))


def translation_page(made: Any, name: str, origin: Origin) -> str:
    """The whole page of a Translation or a LanguageModel."""
    compared, free = getattr(made, "compared", ""), getattr(made, "free", {})
    told, kind = _COMPARED.get(compared, ("translated", "good"))
    sizes = "; ".join(f"{arg} {list(axes)}" for arg, axes in free.items()) or "none"
    moved = [p for p in origin.pieces if p.rule != "copy"]
    figures = [("lines", f"{made.source.count(chr(10)):,}")]
    figures += [("axes of any length", sizes)] if compared else []
    figures += [("tensors that were rearranged", f"{len(moved):,} of {len(origin.pieces):,}")]
    figures += [("mode", "training" if made.training else "evaluation")] if compared else []
    return rendered(
        "translate.html",
        f"{name} in MLX",
        "translate",
        Verdict(told, kind),
        figures,
        [Item(note, "warn") for note in made.notes],
        "Nothing is known to differ from the PyTorch model.",
        classes=list(twins(origin.classes, made.source)),
        source=made.source,
        tree=list(marks(origin.nodes, origin.twins)),
        statuses=list(MEANINGS.items()),
        heads=_WEIGHTS,
        weights=[_line(piece) for piece in moved],
    )


def _line(piece: Any) -> Line:
    return Line(
        (
            Cell(piece.target, code=True),
            Cell(" x ".join(map(str, piece.shape)) or "one number"),
            Cell(", ".join(piece.sources), code=True),
            Cell(f"`{piece.rule}`"),
        )
    )
