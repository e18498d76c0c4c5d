"""What is in a checkpoint: `inspect` reads headers only, and converts nothing."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.formats.marker import read_marker
from torch2mlx.checkpoint.formats.schema import DIGESTS, KEY, Marker
from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.files import scan_safetensors
from torch2mlx.checkpoint.source.nested import ROOT
from torch2mlx.checkpoint.source.opening import list_parts, open_checkpoint
from torch2mlx.common import cards
from torch2mlx.common.amounts import counted, shown_bytes
from torch2mlx.common.options import given
from torch2mlx.errors import AlreadyConvertedError, AmbiguousCheckpointError
from torch2mlx.types import Checkpoint, source_bytes

#: State dicts of one file that are listed; each is opened.
MOST = 20


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint. `dtype`: a torch name, or the file's own where torch has none."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint holds. `layout`: "torch", "mlx (torch2mlx)" or "mlx".

    `state_dicts`: where a file has several, the `key` of each; keys of tensors begin with it then.
    """

    origin: str
    layout: str
    tensors: tuple[TensorInfo, ...]
    values: tuple[str, ...]
    metadata: dict[str, str]
    state_dicts: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """The inspection as JSON-ready data."""
        return {**asdict(self), "nbytes": self.nbytes}

    def __repr__(self) -> str:
        return f"<Inspection: {str(self).splitlines()[0]}>"

    def _repr_html_(self) -> str:
        rows = [(t.key, t.dtype, list(t.shape), shown_bytes(t.nbytes)) for t in self.tensors]
        return cards.card(
            str(self).splitlines()[0],
            {},
            cards.table("Tensors", ("key", "dtype", "shape", "size"), rows),
            cards.lines("What is no tensor", self.values),
        )

    def __str__(self) -> str:
        dtypes = Counter(tensor.dtype for tensor in self.tensors)
        kinds = ", ".join(f"{n} {dtype}" for dtype, n in dtypes.most_common())
        held = counted(len(self.tensors), "tensor")
        head = f"{self.origin}: {self.layout} layout, {held} ({kinds}), "
        width = max((len(tensor.key) for tensor in self.tensors), default=0)
        rows = [f"  {t.key:{width}}  {t.dtype:<10} {list(t.shape)}" for t in self.tensors]
        rows += [f"  {key}  (no tensor)" for key in self.values]
        several = f"; {self._several()}" if self.state_dicts else ""
        return "\n".join([f"{head}{shown_bytes(self.nbytes)}{several}", *rows])

    def _several(self) -> str:
        shown = [given("key", key) for key in self.state_dicts[:MOST]]
        more = len(self.state_dicts) - MOST
        rest = f" and {more} more, which are not listed" if more > 0 else ""
        count = counted(len(self.state_dicts), "state dict")
        return f"{count}: convert takes one of {', '.join(shown)}{rest}"


def _converted(path: Path) -> Inspection:
    tensors: list[TensorInfo] = []
    shown: dict[str, str] = {}
    plan: Marker | None = None
    for file in loading.converted_files(path):
        found, metadata = scan_safetensors(file)
        tensors += [
            TensorInfo(key, str(t.dtype), t.shape or (), t.nbytes) for key, t in found.items()
        ]
        shown = shown or {k: v for k, v in metadata.items() if k not in (KEY, DIGESTS)}
        content = read_marker(file, metadata) if KEY in metadata else None
        if isinstance(content, Marker):
            plan = plan or content
    layout = "mlx" if plan is None else f"mlx (torch2mlx {plan.writer})"
    values = () if plan is None else tuple(plan.values)
    return Inspection(os.fspath(path), layout, tuple(tensors), values, shown)


def inspect(source: Any, *, key: str | None = None) -> Inspection:
    """Lists the tensors of any source of `convert`, or of a converted file or directory.

    Reads headers, not values: a tensor that `convert` refuses (a dtype that MLX lacks) is listed
    too. Of several state dicts in one file all are listed, `key` chooses one. Raises
    CheckpointError for files that cannot be read.
    """
    try:
        checkpoint = open_checkpoint(source, key, listing=True)
    except AlreadyConvertedError:
        return _converted(Path(os.fspath(source)))
    except AmbiguousCheckpointError as error:
        several = key is None and error.choices and not _is_folder(source)
        if not several:
            raise
        return _several(source, error.choices)
    tensors, values = _listed(checkpoint), tuple(checkpoint.values)
    return Inspection(checkpoint.origin, "torch", tensors, values, dict(checkpoint.metadata))


def _is_folder(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike)) and os.path.isdir(source)


def _listed(checkpoint: Checkpoint, head: str = "") -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(head + t.key, t.dtype, t.shape, source_bytes(t))
        for t in checkpoint.tensors.values()
    )


def _several(source: Any, choices: tuple[str, ...]) -> Inspection:
    """All state dicts of a file, or the first ones of very many."""
    tensors: list[TensorInfo] = []
    values: list[str] = []
    shown = choices[:MOST]
    for choice, part in zip(shown, list_parts(source, shown), strict=True):
        head = "" if choice == ROOT else f"{choice}."
        tensors += _listed(part, head)
        values += [head + value for value in part.values]
    origin = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the state dict"
    return Inspection(origin, "torch", tuple(tensors), tuple(values), {}, choices)
