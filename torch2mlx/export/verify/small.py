"""Lengths of 0 and of 1: torch takes free lengths to be two or more, so both sides are run with the
small lengths that a comparison asks for, and only what differs there is a condition of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.capture.conditions import Condition
from torch2mlx.export.capture.guards import Lengths
from torch2mlx.export.capture.sizes import lengths, resized
from torch2mlx.export.verify.judging import judge
from torch2mlx.export.verify.running import Case, Pair, torch_answer


def conditions_of_small(known: Lengths) -> list[Condition]:
    """Conditions that some length is not 0, or not 1, asked on the way through the forward."""
    return [condition for condition in known.conditions if condition.small]


def needless(made: Any, traced: Any, case: Case, graded: bool) -> Sequence[Condition]:
    """Conditions that make no difference: MLX answers, or raises an error, as torch does at the
    sizes where they fail.

    `made` is the translation without these conditions.
    """
    model, shapes = traced.model, traced.lengths.shapes
    known = lengths(model, case.args, case.kwargs, shapes)
    tried: dict[Any, bool] = {}

    def harmless(small: tuple[tuple[Any, int], ...]) -> bool:
        wanted = {str(symbol): number for symbol, number in small}
        if wanted.items() <= known.items():
            return True  # of the example, which was compared
        size = resized(model, case.args, case.kwargs, shapes, {**known, **wanted})
        return bool(size and _agree(made, traced, Case(size.args, size.kwargs), graded))

    found: list[Condition] = []
    for condition in conditions_of_small(traced.lengths):
        for small in condition.small:
            if small not in tried:
                tried[small] = harmless(small)
        if all(tried[small] for small in condition.small):
            found.append(condition)
    return found


def _agree(made: Any, traced: Any, case: Case, graded: bool) -> bool:
    """Whether both sides answer alike, or both raise an error."""
    pair = Pair(traced.model, made.module, made.ends, graded)
    try:
        answer = torch_answer(traced.model, case, graded)
    except Exception:  # whatever it raises
        return _raises(pair, case)
    try:
        return judge(pair, case, None, answer).ok
    except Exception:  # whatever MLX raises
        return False


def _raises(pair: Pair, case: Case) -> bool:
    try:
        pair.mlx(case)
    except Exception:  # whatever it raises
        return True
    return False
