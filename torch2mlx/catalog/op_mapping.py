"""torch functions and tensor methods -> MLX: `lookup_op`, `register_op`. The rows are in `ops/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch2mlx.catalog.functions import functional_ops, more_ops, tensor_ops
from torch2mlx.catalog.functions.table import FUNCTIONS

Status = Literal["direct", "kit", "data_dependent", "none"]
#: Where the kit has functions of images, whose channels are last.
_OF_IMAGES = ("pooling.", "resample.", "shuffle.", "dropout.channel_dropout", "norm.local_response")


@dataclass(frozen=True)
class Op:
    """One torch function or method. `mlx` is a dotted name, empty when `status` is "none".

    `note`: what differs, or what to do instead. `channels_last`: whether `mlx` takes images as
    (N, *spatial, C) where torch takes (N, C, *spatial).
    """

    torch: str
    mlx: str
    status: Status
    note: str = ""

    @property
    def channels_last(self) -> bool:
        return self.mlx.removeprefix("torch2mlx.kit.").startswith(_OF_IMAGES)


def _core(name: str) -> str:
    return name if name.startswith(("mlx.", "torch2mlx.")) else f"mlx.core.{name}"


def _status(name: str) -> Status:
    return "kit" if name.startswith("torch2mlx.") else "direct"


def _rows() -> Iterator[Op]:
    """All rows; a later one of the same name replaces an earlier."""
    plain = [(name, name, "") for name in tensor_ops.SAME]
    for name, mlx, note in (*plain, *tensor_ops.RENAMED, *more_ops.MORE, *more_ops.KIT):
        full = _core(mlx.replace("nn.", "mlx.nn.", 1) if mlx.startswith("nn.") else mlx)
        yield Op(f"torch.{name}", full, _status(full), note)
    for name in tensor_ops.DATA_DEPENDENT:
        note = "its shape depends on values: read the count on the host, or use a mask"
        yield Op(f"torch.{name}", "mlx.core.where", "data_dependent", note)
    for name, note in tensor_ops.MISSING.items():
        yield Op(f"torch.{name}", "", "none", note)
    for name, mlx, note in (*functional_ops.FUNCTIONAL, *more_ops.FUNCTIONAL):
        yield Op(f"torch.nn.functional.{name}", mlx, _status(mlx), note)
    for name, note in more_ops.FUNCTIONAL_MISSING.items():
        yield Op(f"torch.nn.functional.{name}", "", "none", note)
    for group, names in (("linalg", functional_ops.LINALG), ("fft", functional_ops.FFT)):
        for name in names:
            yield Op(f"torch.{group}.{name}", f"mlx.core.{group}.{name}", "direct")
    for name, mlx, note in more_ops.LINALG:
        yield Op(f"torch.linalg.{name}", _core(mlx), "direct", note)
    for name, note in more_ops.LINALG_MISSING.items():
        yield Op(f"torch.linalg.{name}", "", "none", note)


def table_rows() -> tuple[str, ...]:
    """Full names of the functions that have rows in tables, and no entry."""
    return tuple(op.torch for op in _rows())


def _builtin() -> dict[str, Op]:
    rows = {op.torch: op for op in _rows()}
    for full, entry in FUNCTIONS.items():
        rows[full] = Op(full, entry.mlx, _status(entry.mlx) if entry.mlx else "none", entry.remark)
    return rows


_BUILTIN = _builtin()
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
