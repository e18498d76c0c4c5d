"""Lengths of a traced call whose state is lifted: those of the state are told by the caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.guards import Lengths
from torch2mlx.export.state.lifting import CACHE
from torch2mlx.export.state.placing import PADDING
from torch2mlx.export.state.stepping import STATE


def of_inputs(lengths: Lengths, caches: Mapping[str, int]) -> Lengths:
    """What is checked of the arguments of the emitted model.

    Conditions that hold for lengths of 2 and more alone are left out: the comparison with torch
    begins with an empty state and has calls of one. `caches`: lengths of the state -> the cache
    whose offset they are. Raises TranslationError for a condition of another length of the state.
    """
    axes = [axis for axis in lengths.axes if axis.way[0] != STATE]
    told = {symbol for axis in axes if axis.free for symbol in axis.expression.free_symbols}
    for axis in lengths.axes:
        place = caches.get(str(axis.expression)) if axis.way[0] == STATE else None
        if place is not None and axis.expression not in told:
            axes.append(replace(axis, way=(CACHE, place)))
            told.add(axis.expression)
    kept = []
    for condition in lengths.conditions:
        if condition.small:
            continue
        if not condition.expression.free_symbols <= told:
            line = condition.asked.line
            raise TranslationError(
                f"the state is the model's for {condition.expression} alone"
                + (f": change {line}" if line else "")
            )
        kept.append(condition)
    return replace(lengths, axes=tuple(axes), conditions=tuple(kept))


def of_tokens(lengths: Lengths, main: str, tokens: int) -> Lengths:
    """The same for a language model, whose calls take any number of tokens, or one.

    Raises TranslationError where the program is for one length of the call alone.
    """
    batch, length = (axis for axis in lengths.axes if axis.way == (main,))
    if not batch.free:
        raise TranslationError(f"the program is one for a batch of {batch.length} alone")
    if tokens > 1 and not length.free:
        raise TranslationError(f"the program is one for calls of {tokens} tokens alone")
    kept = [a for a in lengths.axes if (a is not length or length.free) and a.way != (PADDING,)]
    return replace(lengths, axes=tuple(kept))
