"""Padding before the sequences of a batch that attention alone leaves out: whether that is enough,
and masks that say of a sequence that begins later what they say of others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.passes import shapes_only
from torch2mlx.export.state.kinds import Entry, symbols_of

#: What bars a key where masks are added.
_BARRED = -1e9
#: Tokens of a call, how much later a sequence begins, and how many a cache holds at the least.
_TOKENS, _LATER, _HELD = 3, 2, 4
_ALLOWED = 1e-4


def refuse_padded(program: Program, entries: Sequence[Entry], masked: bool) -> None:
    """Raises TranslationError unless padding can be left out: all caches grow, or hold states that
    are kept where it is, and masks tell of it (`masked`) or all that reads a cache is attention
    whose masks say the same wherever a sequence begins."""
    kinds = {entry.kind for entry in entries}
    if not kinds <= {"KVCache", "ArraysCache"}:
        raise TranslationError("padding would go into a window")
    if masked or "KVCache" not in kinds:
        return
    attending = [node for node in program.nodes if node.op == "attend"]
    masks = {node.kwargs["mask"] for node in attending}
    fetched = [node for node in program.nodes if node.op == "method.update_and_fetch"]
    plain = bool(attending) and len(fetched) <= len(attending)
    dtypes = {mask.dtype for mask in masks if isinstance(mask, Node)}
    past = symbols_of(entries)
    if not plain or len(dtypes) > 1 or not all(m is None or _moves_along(m, past) for m in masks):
        raise TranslationError("padding cannot be left out by attention alone")


def is_causal(program: Program) -> bool:
    """Whether some attention has MLX's own mask."""
    return any(node.op == "attend" and node.kwargs["mask"] == "causal" for node in program.nodes)


def adds_masks(program: Program) -> bool:
    """Whether masks are added to what is masked."""
    masks = [node.kwargs["mask"] for node in program.nodes if node.op == "attend"]
    return any(isinstance(mask, Node) and "bool" not in mask.dtype for mask in masks)


def _moves_along(mask: Any, past: Collection[str]) -> bool:
    """Whether a mask depends on lengths alone, and bars and prefers as much of a sequence that
    begins later, as MLX's "causal" does; what is added to all keys of a query changes nothing."""
    if isinstance(mask, str):
        return True
    nodes = shapes_only.cone(mask) if isinstance(mask, Node) else None
    if nodes is None or shapes_only.too_large(nodes):
        return False
    symbols = dict.fromkeys(shapes_only.parts(nodes), _TOKENS)
    lengths = {*past, shapes_only.HELD}
    return all(
        _same(mask, symbols, lengths, held) for held in shapes_only.lengths(nodes) if held >= _HELD
    )


def _same(mask: Node, sizes: Mapping[str, int], past: Collection[str], held: int) -> bool:
    early = shapes_only.computed(mask, {**sizes, **dict.fromkeys(past, held)})
    later = shapes_only.computed(mask, {**sizes, **dict.fromkeys(past, held + _LATER)})
    if early.shape[-1] == later.shape[-1]:
        return early.shape[-1] == 1 and bool(np.array_equal(early, later))
    if later.shape[-1] != held + _LATER + _TOKENS:
        return False
    later = later[..., _LATER:]
    if early.dtype == bool:
        return bool(np.array_equal(early, later))
    seen = early > _BARRED
    if not np.array_equal(seen, later > _BARRED):
        return False
    gap = np.where(seen, later, 0) - np.where(seen, early, 0)
    first = np.take_along_axis(gap, seen.argmax(-1)[..., None], -1)
    return bool(np.all(~seen | (np.abs(gap - first) <= _ALLOWED * (1 + np.abs(first)))))


__all__ = ["adds_masks", "is_causal", "refuse_padded"]
