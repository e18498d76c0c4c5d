"""The data that stages hand each other: frozen, without behaviour beyond derived views.

What there is one of for every tensor is a named tuple, which is made in a quarter of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from torch2mlx import _core
from torch2mlx.common import cards
from torch2mlx.common.amounts import counted, listed, shown_bytes
from torch2mlx.common.progress import Progress as Progress
from torch2mlx.errors import UnsupportedTensorError

OnUnmapped = Literal["warn", "error", "ignore"]


class TensorSource(Protocol):
    """A tensor of a checkpoint: known at once, its bytes borrowed when asked for."""

    @property
    def key(self) -> str:
        """Its name in the checkpoint."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, in torch's order."""

    @property
    def dtype(self) -> str:
        """A torch name, as in _core.DTYPES."""

    def load(self) -> _core.Tensor:
        """The tensor, strided as it lies in memory or in the file."""


class Borrowed(NamedTuple):
    """A tensor whose memory is borrowed as it is; `check` raises where its bytes are damaged."""

    key: str
    tensor: _core.Tensor
    shape: tuple[int, ...]
    dtype: str
    check: Callable[[str, _core.Tensor], None] | None = None

    @classmethod
    def of(
        cls,
        key: str,
        tensor: _core.Tensor,
        check: Callable[[str, _core.Tensor], None] | None = None,
    ) -> Borrowed:
        """A tensor, with its own shape and dtype."""
        return cls(key, tensor, tensor.shape, tensor.dtype, check)

    def load(self) -> _core.Tensor:
        if self.check is not None:
            self.check(self.key, self.tensor)
        return self.tensor


@dataclass(frozen=True, slots=True)
class Deferred:
    """A tensor that has to be made first (fetched from a device, computed from others)."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    make: Callable[[], _core.Tensor]

    def load(self) -> _core.Tensor:
        return self.make()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A tensor of a file of which only the description can be read.

    `dtype` is the file's own name for it, `error` says what it is and what to do.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    error: Exception

    def load(self) -> _core.Tensor:
        raise self.error


@dataclass(frozen=True, slots=True)
class Fold:
    """A tensor that torch computes from others before use: weight_norm, spectral_norm, a mask.

    `name` is the tensor's name in its module, `sources` the names it is computed from (in the
    order its formula takes them), `how` a name of `folds.FORMULAS` or "module" (ask the live
    module), `dim` the dimension that stays.
    """

    name: str
    how: str
    sources: tuple[str, ...]
    dim: int | None = 0


class ModuleRecord(NamedTuple):
    """What the planner needs to know of one module of a tree.

    `kinds` are the full names of its class and base classes, nearest first; `children` the names
    of its direct sub-modules in order, `tensors` those of its own parameters and buffers;
    `options` its plain attributes (groups, hidden_size, ...), which a weight rule may ask for;
    `renamed` tensors that are copied under another name, whatever the rule of the layer says.
    """

    path: str
    kinds: tuple[str, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    children: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    folds: tuple[Fold, ...] = ()
    renamed: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ModuleTree:
    """A module tree as records by path, and what its state dict must look like.

    `shapes` has every tensor that the state dict holds; `ties` says which names are one tensor
    (later name -> first name); `compute` makes a tensor that only the live module can make:
    (module path, name) -> tensor.
    """

    records: Mapping[str, ModuleRecord]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ties: Mapping[str, str] = field(default_factory=dict)
    non_persistent: tuple[str, ...] = ()
    compute: Callable[[str, str], _core.Tensor] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A source, opened: its tensors in order, and everything else it said.

    `origin` is for messages: a path, or what kind of object it was; `values` are entries that
    are no tensors (`_extra_state`); `metadata` is what a safetensors header says of itself;
    `notes` say what was left alone or called otherwise.
    """

    tensors: Mapping[str, TensorSource]
    origin: str
    values: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # that were read
    tree: ModuleTree | None = None  # of a live module
    notes: tuple[str, ...] = ()


class Piece(NamedTuple):
    """One tensor to write: `load` gives a view whose items, in order, fill `shape`."""

    target: str
    shape: tuple[int, ...]
    dtype: str
    sources: tuple[str, ...]
    rule: str  # for people: "o i h w -> o h w i", "split 0/3 of axis 0", ...
    load: Callable[[], _core.Tensor]
    deferred: bool = False  # load() computes; its result is dropped after writing
    identity: tuple[Any, ...] = ()  # equal identities hold equal bytes
    digested: bool = False  # whether its file says what its bytes were when it was written

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def cast(self, dtype: str) -> Piece:
        """The same with other items; `_replace` takes five times as long."""
        return Piece(self.target, self.shape, dtype, *self[3:])


def original(source: TensorSource) -> Piece:
    """A source tensor, to be written as it is."""
    deferred = isinstance(source, Deferred)
    return Piece(
        source.key, source.shape, source.dtype, (source.key,), "copy", source.load, deferred
    )


class Trace(NamedTuple):
    """Where one source tensor went, and how to get it back.

    `recipe` is JSON: ["t", target], ["l", target, layout, sizes], ["c", [targets]],
    ["s"] (sidecar), ["a", source]. `reason` says why a tensor was dropped, folded or merged.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    recipe: tuple[Any, ...]
    reason: str = ""


@dataclass(frozen=True)
class Made:
    """A tensor that is computed from source tensors, and where it went.

    `how` names a formula of `folds.FORMULAS` or `merges.MERGES`, or is "module" (torch alone can
    compute it); `sources` are keys of source tensors, or numbers of earlier tensors made. `recipe`
    is that of a Trace; () where another one is made from it.
    """

    how: str
    dim: int | None
    sources: tuple[str | int, ...]
    dtype: str
    shape: tuple[int, ...]
    recipe: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All that `convert` will write, before it writes."""

    pieces: tuple[Piece, ...]
    traces: tuple[Trace, ...]
    ties: Mapping[str, str]  # target not written -> target that has its bytes
    sidecar: tuple[Piece, ...]  # source tensors that cannot be rebuilt from the targets
    notes: tuple[str, ...] = ()
    made: tuple[Made, ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()  # source keys that are one tensor


@dataclass(frozen=True)
class Coverage:
    """How many layers of a module tree have an MLX counterpart."""

    total_layers: int = 0
    mapped_layers: int = 0
    unmapped: tuple[str, ...] = ()  # class names, sorted

    @property
    def fraction(self) -> float:
        return self.mapped_layers / self.total_layers if self.total_layers else 1.0


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did: every source tensor, every target tensor, every file.

    `files` hold the weights; `beside` are the index, the configuration and the like of a folder.
    """

    files: tuple[str, ...]
    sidecar: str | None
    bytes_written: int
    seconds: float
    pieces: tuple[Piece, ...]
    traces: tuple[Trace, ...]
    ties: Mapping[str, str]
    coverage: Coverage | None  # None: layer types unknown
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def dropped(self) -> Mapping[str, str]:
        """Source tensors that no target holds, with the reason."""
        used = {s for p in self.pieces for s in p.sources}
        return {t.key: t.reason for t in self.traces if t.key not in used and t.recipe[0] != "a"}

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data."""
        return {
            "files": list(self.files),
            "sidecar": self.sidecar,
            "bytes_written": self.bytes_written,
            "seconds": round(self.seconds, 6),
            "coverage": None if self.coverage is None else self.coverage.fraction,
            "unmapped_layers": [] if self.coverage is None else list(self.coverage.unmapped),
            "tensors": [
                {
                    "target": p.target,
                    "shape": list(p.shape),
                    "dtype": p.dtype,
                    "sources": list(p.sources),
                    "rule": p.rule,
                }
                for p in self.pieces
            ],
            "ties": dict(self.ties),
            "dropped": dict(self.dropped),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return f"<ConversionReport: {str(self).splitlines()[0]}>"

    def _repr_html_(self) -> str:
        rows = [
            (p.target, p.dtype, list(p.shape), p.rule, ", ".join(p.sources)) for p in self.pieces
        ]
        heads = ("in MLX", "dtype", "shape", "rule", "of torch's")
        return cards.card(
            str(self).splitlines()[0],
            {"layers that MLX has": "" if self.coverage is None else str(self.coverage)},
            cards.lines("To know", self.notes),
            cards.table("Tensors", heads, rows),
            cards.table("Dropped", ("of torch's", "reason"), self.dropped.items()),
        )

    def __str__(self) -> str:
        lines = [
            f"{counted(len(self.pieces), 'tensor')}, {shown_bytes(self.bytes_written)} in "
            f"{self.seconds:.2f} s -> {', '.join(self.files)}"
        ]
        changed = sum(p.rule != "copy" for p in self.pieces)
        lines.append(f"{changed} rewritten, {len(self.ties)} tied, {len(self.dropped)} dropped")
        if self.sidecar:
            lines.append(f"originals that MLX has no place for: {self.sidecar}")
        by_reason: dict[str, list[str]] = {}
        for key, reason in self.dropped.items():
            by_reason.setdefault(reason, []).append(key)
        for reason, keys in by_reason.items():
            lines.append(f"dropped {listed(keys, 3)}: {reason}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


#: Bytes of one item, by torch dtype name.
ITEM_BYTES: dict[str, int] = {torch: n for torch, n, *_ in _core.DTYPES}


#: Largest dimension of an MLX array.
LARGEST_SIZE = 2**31 - 1


def oversized(what: str, shape: tuple[int, ...]) -> UnsupportedTensorError:
    """That a tensor has a dimension over `LARGEST_SIZE`."""
    return UnsupportedTensorError(
        f"{what}: MLX counts dimensions in 32 bits and has none of {max(shape)}; split the tensor "
        "first"
    )


def tensor_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a dense tensor."""
    return math.prod(shape) * ITEM_BYTES[dtype]


def source_bytes(source: TensorSource) -> int:
    """Bytes of a source's tensor: dense, or as its file has it where it cannot be read."""
    if isinstance(source, Unreadable):
        return source.nbytes
    return tensor_bytes(source.shape, source.dtype)
