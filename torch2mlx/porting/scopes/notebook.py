"""Notebooks: the code cells as one source, and back; lines for IPython alone are put aside."""

from __future__ import annotations

import re
from typing import Any

_MARK = "__torch2mlx_cell_{}__"
_MAGIC = re.compile(r"^(\s*)([%!?].*)$", re.M)
_ASIDE = re.compile(r"^(\s*)pass  # __torch2mlx_line__ (.*)$", re.M)


def joined(notebook: Any) -> str:
    """All code cells as one source, each after a mark."""
    parts = []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and not cell.source.lstrip().startswith("%%"):
            text = _MAGIC.sub(r"\1pass  # __torch2mlx_line__ \2", cell.source)
            parts.append(f'"{_MARK.format(i)}"\n{text}\n')
    return "".join(parts)


def placed(notebook: Any, source: str) -> None:
    """Puts a ported source back into the cells it came from; outputs go, they were torch's."""
    found = re.split(r'^"__torch2mlx_cell_(\d+)__"\n', source, flags=re.M)
    for i, text in zip(found[1::2], found[2::2], strict=True):
        cell = notebook.cells[int(i)]
        cell.source = _ASIDE.sub(r"\1\2", text).strip("\n")
        cell.outputs, cell.execution_count = [], None
