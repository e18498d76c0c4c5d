"""Undoing a plan: the PyTorch state dict of a converted checkpoint, whether trained since or not.

What did not change comes back bit for bit; what did is laid out as torch has it, or recomputed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.catalog.weights.layout import Layout, parse
from torch2mlx.checkpoint.plan.first_version import doubts
from torch2mlx.checkpoint.plan.remade import Remade
from torch2mlx.checkpoint.plan.trained import Match, Origin, holds, same_bytes
from torch2mlx.common.collecting import paused
from torch2mlx.errors import RevertError
from torch2mlx.types import Piece, Trace

_SHOWN = 20


@dataclass(frozen=True)
class Reverted:
    """A state dict to be: pieces in torch's order, other entries, and what is not exact.

    Pieces of equal identity are one tensor under several names. `nbytes`: what it was made from.
    `doubtful`: MLX's names of tensors of which it cannot be told whether they were trained.
    """

    pieces: tuple[Piece, ...]
    values: Mapping[str, Any]
    inexact: tuple[str, ...]
    nbytes: int
    doubtful: tuple[str, ...] = ()


def _joined(parts: list[_core.Tensor]) -> _core.Tensor:
    """Parts of a split, joined along dimension 0 (a copy of one tensor at a time)."""
    dtype = parts[0].dtype
    same = [np.asarray(part if part.dtype == dtype else part.dense(dtype)) for part in parts]
    return _core.from_buffer(np.concatenate(same), dtype)


@lru_cache(maxsize=256)
def _backwards(text: str) -> tuple[Layout, str]:
    """The inverse of a layout, and its text."""
    layout = parse(text).inverse
    return layout, str(layout)


class _Undo:
    def __init__(self, tensors: Mapping[str, _core.Tensor], origin: Origin) -> None:
        self._origin, self._plan = origin, origin.plan
        self._match = Match(tensors, origin)
        self._remade = Remade(self._match, origin)
        self.problems = [*self._match.problems, *self._remade.problems]
        self.inexact: list[str] = []

    def pieces(self) -> list[Piece]:
        """All pieces that can be made; `problems` has the reasons for the others."""
        made = {t.key: piece for t in self._plan.tensors if (piece := self._piece(t))}
        if not self.problems:
            for keys in self._plan.shared:
                self._share([made[key] for key in keys], made)
        return list(made.values())

    def _piece(self, trace: Trace) -> Piece | None:
        original = self._origin.originals.get(trace.key)
        if original is not None and (original.shape, original.dtype) != (trace.shape, trace.dtype):
            self.problems.append(
                f"{trace.key!r}: its original is {list(original.shape)} {original.dtype}, not "
                f"{list(trace.shape)} {trace.dtype}"
            )
            return None
        if trace.recipe[0] != "s":
            roots = self._match.roots(trace.recipe, trace.shape)
            return self._stored(trace, roots) if self._match.found.keys() >= {*roots} else None
        if original is None:
            self.problems.append(f"the sidecar lacks {trace.key!r}")
            return None
        load = original.load
        if trace.key in self._remade:
            load = lambda: self._remade[trace.key]  # noqa: E731
        identity = ("original", trace.key)
        return Piece(
            trace.key, trace.shape, trace.dtype, (trace.key,), "original", load, True, identity
        )

    def _stored(self, trace: Trace, roots: tuple[str, ...]) -> Piece:
        """A tensor that targets hold; an original of it wins where they hold what it gave."""
        kind, original = trace.recipe[0], self._origin.originals.get(trace.key)
        parts = [self._match.found[root] for root in roots]
        layout, text = _backwards(trace.recipe[2]) if kind == "l" else (None, "copy")
        self._note_inexact(trace, roots, parts, original is not None)

        def make() -> _core.Tensor:
            if layout is not None:
                found = layout.view(parts[0], trace.recipe[3])
            else:
                found = parts[0] if kind == "t" else _joined(parts)
            if original is None:
                return found
            exact, now = original.load(), found.dense()
            given = exact.dense(found.dtype) if found.dtype != exact.dtype else exact
            flat = (int(np.prod(trace.shape)),)
            same = same_bytes(_reshaped(given, flat), _reshaped(now, flat))
            return exact if same else now

        return Piece(
            trace.key,
            trace.shape,
            trace.dtype,
            roots,
            "join" if kind == "c" else text,
            make,
            kind == "c" or original is not None,
            (*roots, text, trace.dtype, *((trace.key,) if original is not None else ())),
        )

    def _note_inexact(
        self, trace: Trace, roots: tuple[str, ...], parts: list[_core.Tensor], kept: bool
    ) -> None:
        narrowed = not all(_fits(part, trace.dtype) for part in parts)
        stored = [self._origin.stored.get(root, trace.dtype) for root in roots]
        if narrowed or (not kept and not all(holds(dtype, trace.dtype) for dtype in stored)):
            self.inexact.append(trace.key)

    def _share(self, pieces: list[Piece], made: dict[str, Piece]) -> None:
        """One tensor of torch under several names has one value: that of those MLX has."""
        live = [p for p in pieces if p.rule != "original" or p.target in self._remade]
        for piece in pieces:
            if live and piece not in live:
                made[piece.target] = live[0]._replace(target=piece.target)
        for other in live[1:]:
            if other.identity != live[0].identity and not same_bytes(
                _whole(live[0]), _whole(other)
            ):
                self.problems.append(
                    f"{live[0].target!r} and {other.target!r} are one tensor in torch and were "
                    "trained apart: give them one value"
                )


def _fits(tensor: _core.Tensor, dtype: str) -> bool:
    """Whether a cast keeps every value."""
    if holds(dtype, tensor.dtype):
        return True
    return same_bytes(tensor.dense(dtype).dense(tensor.dtype), tensor)


def _reshaped(tensor: _core.Tensor, shape: tuple[int, ...]) -> _core.Tensor:
    dense = np.asarray(tensor.dense())
    return _core.from_buffer(dense.reshape(shape), tensor.dtype)


def _whole(piece: Piece) -> _core.Tensor:
    """A piece as it will be written."""
    return _reshaped(piece.load().dense(piece.dtype), piece.shape)


@paused()
def undo(tensors: Mapping[str, _core.Tensor], origin: Origin, where: str) -> Reverted:
    """The state dict that a plan was made from, with the values that its targets have now.

    Raises RevertError that names every tensor that is missing, does not fit or cannot be derived.
    """
    undoing = _Undo(tensors, origin)
    pieces, problems = undoing.pieces(), undoing.problems
    doubtful: list[str] = []
    if origin.plan.version == 1 and not problems:
        problems, doubtful = doubts(tensors, origin)
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise RevertError("\n  ".join([f"{where}: {problems[0]}", *problems[1:_SHOWN], *more]))
    sizes = [*(tensor.nbytes for tensor in tensors.values())]
    sizes += [piece.nbytes for piece in pieces if piece.target in origin.originals]
    return Reverted(
        tuple(pieces),
        origin.plan.values,
        tuple(undoing.inexact),
        sum(sizes),
        tuple(doubtful),
    )
