"""What failed, as a table of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "  ") -> str:
    """Columns of text, as wide as they need to be."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = ("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(f"{indent}{text}".rstrip() for text in texts)


def outputs_table(model: str, found: Any) -> str:
    """Every output of a Verification: shape, dtype, difference, allowed; where the two part."""
    off = [output for output in found.outputs if not output.ok]
    cases = any(output.case for output in found.outputs)
    head = ("output", "shape", "dtype", "difference", "allowed", "")
    rows = []
    for output in found.outputs:
        row = (
            output.name or "output",
            str(output.shape) if output.dtype else "",
            output.dtype,
            f"{output.difference:.1e}",
            f"{output.tolerance:.1e}",
            output.why,
        )
        rows.append((output.case, *row) if cases else row)
    lines = [
        f"{model} and its translation differ in {len(off)} of {len(found.outputs)} outputs:",
        table(("inputs", *head) if cases else head, rows),
    ]
    return "\n".join([*lines, *found.remarks()])


def lost_table(model: str, wrong: Sequence[tuple[str, Any, Any]], more: Sequence[str]) -> str:
    """Tensors that do not come back from a converted file as they were."""
    rows = [
        (key, str(tuple(a.shape)), str(a.dtype).removeprefix("torch."), _came_back(a, b))
        for key, a, b in wrong
    ]
    rows += [(key, "", "", "is not the model's") for key in more]
    head = ("tensor", "shape", "dtype", "what came back")
    return f"{len(rows)} tensors of {model} do not come back:\n{table(head, rows)}"


def _came_back(a: Any, b: Any) -> str:
    if b is None:
        return "nothing"
    if tuple(a.shape) != tuple(b.shape) or a.dtype != b.dtype:
        return f"{tuple(b.shape)} {str(b.dtype).removeprefix('torch.')}"
    return "other values"
