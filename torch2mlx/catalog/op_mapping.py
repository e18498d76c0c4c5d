"""torch functions and tensor methods -> MLX: `lookup_op`, `register_op`. A row is an entry of
`catalog/functions` or `catalog/processes`, or one that a user registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch2mlx.catalog.functions.entry import Entry
from torch2mlx.catalog.functions.table import FUNCTIONS
from torch2mlx.catalog.processes import shown

Status = Literal["direct", "kit", "data_dependent", "none"]


@dataclass(frozen=True)
class Op:
    """One torch function or method. `mlx` is a dotted name, empty when `status` is "none".

    `note`: what differs, or what to do instead.
    """

    torch: str
    mlx: str
    status: Status
    note: str = ""


def _status(name: str) -> Status:
    return "kit" if name.startswith("torch2mlx.") else "direct"


def _row(full: str, entry: Entry) -> Op:
    """What op_mapping shows of an entry."""
    if not entry.mlx:
        return Op(full, "", "none", entry.note)
    if entry.by_values:
        note = "its shape depends on values: read the count on the host, or use a mask"
        return Op(full, entry.mlx, "data_dependent", entry.note or note)
    return Op(full, entry.mlx, _status(entry.mlx), entry.note)


_BUILTIN = {full: _row(full, entry) for full, entry in FUNCTIONS.items()}
_BUILTIN |= {
    full: Op(full, mlx, _status(mlx) if mlx else "none", note) for full, mlx, note in shown()
}
_USER: dict[str, Op] = {}


def lookup_op(name: str) -> Op | None:
    """The row of a function by its full name ("torch.cat", "torch.nn.functional.pad").

    A tensor method is looked up as the function of its name: "torch.add" for x.add; a trailing
    underscore (in place) is ignored. None when nothing is known.
    """
    for candidate in (name, name.rstrip("_")):
        for rows in (_USER, _BUILTIN):
            if candidate in rows:
                return rows[candidate]
    return None


def register_op(name: str, mlx: str, note: str = "", *, replace: bool = False) -> Op:
    """Teaches a torch function's MLX counterpart. Raises ValueError for a second registration."""
    if name in _USER and not replace:
        raise ValueError(f"{name} is registered already; pass replace=True to change it")
    _USER[name] = Op(name, mlx, _status(mlx), note)
    return _USER[name]


def known_ops() -> tuple[Op, ...]:
    """All rows, sorted by name."""
    return tuple(row for _, row in sorted({**_BUILTIN, **_USER}.items()))
