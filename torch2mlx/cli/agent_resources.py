"""What agents can read: the catalogue as it is in this version, made from its entries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Resource:
    """A text under an address."""

    uri: str
    name: str
    about: str
    kind: str
    text: Callable[[], str]


_TITLE = "# PyTorch to MLX, function by function"


def _guide() -> str:
    """How each function is written in MLX, in Markdown."""
    from torch2mlx.catalog.functions.table import FUNCTIONS

    lines = [_TITLE, "", "| torch | MLX | mind |", "| --- | --- | --- |"]
    for full, entry in FUNCTIONS.items():
        forms = [(f"{full}({', '.join(form.names)})", form.text) for form in entry.forms]
        if entry.same:
            forms.append((full, f"{entry.same}, with torch's arguments"))
        for torch, text in forms or [(full, "")]:
            cells = (f"`{torch}`", f"`{_plain(text)}`" if text else "none", _minded(entry))
            lines.append(f"| {' | '.join(c.replace('|', '/') for c in cells)} |")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """A form's text as it reads: what is optional in brackets."""
    return text.replace("«", "[").replace("»", "]").replace("{", "").replace("}", "")


def _minded(entry: object) -> str:
    words: Iterable[str] = (getattr(entry, "note", ""), getattr(entry, "caution", ""))
    return "; ".join(dict.fromkeys(word for word in words if word))


def _functions() -> str:
    from torch2mlx.op_mapping import known_ops

    return json.dumps([asdict(row) for row in known_ops()], indent=1)


def _layers() -> str:
    from torch2mlx.catalog.layers.entry import BUILTIN, REASONS

    rows = [
        {
            "torch": full,
            "mlx": spec.mlx or spec.general or spec.native,
            "translated": spec.make is not None,
            "ported_as": spec.source,
            "note": spec.note,
        }
        for full, spec in sorted(BUILTIN.items())
        if not spec.container
    ]
    refused = [{"torch": full, "reason": why} for full, why in sorted(REASONS.items())]
    return json.dumps({"layers": rows, "refused": refused}, indent=1)


def _rules() -> str:
    from torch2mlx import _core

    names = ("rule", "severity", "message", "suggestion")
    return json.dumps([dict(zip(names, row, strict=True)) for row in _core.rules()], indent=1)


RESOURCES = (
    Resource(
        "torch2mlx://mapping-guide",
        "mapping guide",
        "How each torch function is written in MLX, and what to mind.",
        "text/markdown",
        _guide,
    ),
    Resource(
        "torch2mlx://functions",
        "op mapping",
        "Every torch function with its MLX name and status: direct, kit, data_dependent, none.",
        "application/json",
        _functions,
    ),
    Resource(
        "torch2mlx://layers",
        "support matrix",
        "Every torch layer with what stands for it in MLX, and the layers that have nothing.",
        "application/json",
        _layers,
    ),
    Resource(
        "torch2mlx://rules",
        "rules of analyze",
        "Every rule of analyze: its severity, what it says and what to do.",
        "application/json",
        _rules,
    ),
)
