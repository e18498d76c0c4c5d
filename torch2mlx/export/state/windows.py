"""Windows of attention: which of them the masks of a program keep to, and which it leaves to the
cache, from which what is outside of a window is gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.nodes import Node, Program, operands
from torch2mlx.export.passes import shapes_only
from torch2mlx.export.passes.causal import ATTENTION, CAREFUL
from torch2mlx.export.state.kinds import Entry, Leaf
from torch2mlx.export.state.placing import PADDING
from torch2mlx.export.state.stepping import shown
from torch2mlx.export.state.trees import Path

#: Where keys and queries have met, and masks have been read.
_ENDS = (ATTENTION, CAREFUL, "mx.softmax")
#: What bars a key where masks are added.
_BARRED = -1e4
#: Keys before the window and tokens of the call for which masks are computed.
_BEFORE, _TOKENS = 3, 2


def with_windows(
    program: Program, entries: Sequence[Entry], windows: Mapping[Path, int]
) -> list[Entry]:
    """The caches, each with its window where the program's masks let queries see beyond it.

    `windows`: how many keys a query sees at most, itself included, by the holders in torch. Raises
    TranslationError where masks depend on more than lengths.
    """
    return [_with_window(program, entry, windows) for entry in entries]


def _with_window(program: Program, entry: Entry, windows: Mapping[Path, int]) -> Entry:
    keys = entry.keys
    if keys is None or keys.path[:-1] not in windows:
        return entry
    window = windows[keys.path[:-1]]
    return entry if _bars(program, keys, window) else replace(entry, window=window)


def _bars(program: Program, keys: Leaf, window: int) -> bool:
    """Whether a mask bars all keys that are outside of a window, of sequences without padding."""
    import mlx.core as mx

    past, total = str((keys.before.dims or ())[2]), _BEFORE + window + _TOKENS
    none = [i.node for i in program.inputs if i.path[0] == PADDING and i.node is not None]
    oldest = np.arange(total)[None] <= np.arange(_TOKENS)[:, None] + _BEFORE
    for mask in _masks(program, keys.after):
        nodes = shapes_only.cone(mask, none)
        symbols = None if nodes is None else shapes_only.symbols(nodes)
        if symbols is None:
            raise TranslationError(
                f"what bars keys outside of the window of {window} of {shown(keys.path)} is not "
                "known from lengths alone"
            )
        sizes = {symbol: _TOKENS for symbol in symbols} | {past: total - _TOKENS}
        given = {node: mx.zeros(_TOKENS, mx.int64) for node in none}
        value = shapes_only.computed(mask, sizes, given)
        barred = ~value if value.dtype == bool else value <= _BARRED
        if barred.shape[-1] == total and np.all(barred | ~oldest):
            return True
    return False


def _masks(program: Program, keys: Node) -> Iterator[Node]:
    """What keys are masked with: arrays as long as there are keys, that do not depend on them."""
    reached, length = {keys}, (keys.dims or keys.shape)[2]
    for node in program.nodes:
        read = list(operands(node))
        if not any(one in reached for one in read):
            continue
        yield from (one for one in read if one not in reached and _is_mask(one, length))
        if node.op not in _ENDS:
            reached.add(node)


def _is_mask(node: Node, length: Any) -> bool:
    dims: Sequence[Any] = (node.dims or node.shape) if node.is_array else ()
    return len(dims) >= 2 and dims[-1] == length


__all__ = ["with_windows"]
