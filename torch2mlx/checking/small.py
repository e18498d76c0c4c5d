"""Lengths of one: torch compares free lengths with 1 as if they never were, so both sides are run
with a length of one, and only what differs there is a condition of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.checking.judging import judge
from torch2mlx.checking.running import Case, Pair, torch_answer
from torch2mlx.graph.conditions import Condition
from torch2mlx.graph.guards import Lengths
from torch2mlx.graph.sizes import lengths, resized


def conditions_of_one(known: Lengths) -> dict[Any, list[Condition]]:
    """Conditions that a length is not 1, asked on the way through the forward, by its symbol."""
    found: dict[Any, list[Condition]] = {}
    for condition in known.conditions:
        if condition.small and condition.expression.rhs == 1:
            found.setdefault(condition.expression.lhs, []).append(condition)
    return found


def needless(made: Any, traced: Any, case: Case, graded: bool) -> Sequence[Condition]:
    """Conditions that make no difference: MLX answers as torch does with that length of one.

    `made` is the translation without these conditions.
    """
    found: list[Condition] = []
    model, shapes = traced.model, traced.lengths.shapes
    known = lengths(model, case.args, case.kwargs, shapes)
    for symbol, conditions in conditions_of_one(traced.lengths).items():
        size = resized(model, case.args, case.kwargs, shapes, {**known, str(symbol): 1})
        same = known.get(str(symbol)) == 1  # of the example, which was compared
        if same or (size and _agree(made, traced, Case(size.args, size.kwargs), graded)):
            found += conditions
    return found


def _agree(made: Any, traced: Any, case: Case, graded: bool) -> bool:
    """Whether both sides answer alike; not where torch raises."""
    try:
        answer = torch_answer(traced.model, case, graded)
        return judge(Pair(traced.model, made.module, made.ends, graded), case, None, answer).ok
    except Exception:  # whatever either raises
        return False
