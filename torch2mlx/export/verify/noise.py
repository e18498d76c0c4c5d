"""Outputs that torch itself changes when its inputs and sums are rounded otherwise, or when it
chooses another one of equal items: neither right nor wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from torch2mlx.export.ir.structures import difference, numpy_of
from torch2mlx.export.verify.comparing import Compared, off
from torch2mlx.export.verify.equals import last_of_equals
from torch2mlx.export.verify.outputs import values_of
from torch2mlx.export.verify.rounding import one_unit, rounding
from torch2mlx.export.verify.running import Answer, Case, Pair
from torch2mlx.export.verify.watching import Operator, watched

#: How often torch is run with other noise.
TRIALS = 6
#: What is changed, in words.
CHANGE = "when its inputs and sums change in their last place"
#: Operators with results in floating point that jump.
_JUMPING = ("round", "floor", "ceil", "trunc", "sign", "fmod", "remainder", "floor_divide", "fix")

#: Results of operators that choose or jump, in order: (operator and line, values).
Choices = list[tuple[str, Any]]


def unstable(pair: Pair, case: Case, answer: Answer, outputs: Sequence[Compared]) -> dict[int, str]:
    """Of the outputs that differ, those that torch changes as much when its inputs and what it sums
    change in their last place, or when it chooses otherwise among equal items: number of the
    output -> reason, with the operator that chooses otherwise."""
    places = list(off(outputs))
    if not places:
        return {}
    wanted = {i: values_of(answer.parts[i][1]) for i in places}
    undecided = _by_ties(pair, case, answer, outputs, wanted)
    if len(undecided) == len(places):
        return undecided
    moved, reason = dict.fromkeys(places, 0.0), ""
    plain, _ = _run(pair, case, None)
    for trial in range(TRIALS):
        choices, parts = _run(pair, case, trial)
        if [n for n, _ in parts] != [n for n, _ in answer.parts]:
            return undecided
        for i in places:
            moved[i] = max(moved[i], _gap(wanted[i], parts[i][1]))
        reason = reason or _changed(plain, choices)
    told = reason or "rounding grows through the model"
    return undecided | {
        i: f"torch changes it by {moved[i]:.1e} {CHANGE}: {told}"
        for i in places
        if i not in undecided and moved[i] >= outputs[i].difference / 2
    }


def _gap(wanted: Any, part: Any) -> float:
    found = values_of(part)
    return difference(wanted, found) if found.shape == wanted.shape else float("inf")


def _by_ties(
    pair: Pair, case: Case, answer: Answer, outputs: Sequence[Compared], wanted: dict[int, Any]
) -> dict[int, str]:
    """Those that torch changes as much when it takes the last of equal items for the first."""
    choosing: list[list[str]] = []

    @contextmanager
    def around() -> Iterator[None]:
        with last_of_equals() as told:
            choosing.append(told)
            yield

    try:
        parts = pair.torch(case, around).parts
    except Exception:  # another choice has led it where it cannot go on
        return {}
    if [n for n, _ in parts] != [n for n, _ in answer.parts] or not choosing[0]:
        return {}
    moved = {i: _gap(values, parts[i][1]) for i, values in wanted.items()}
    told = f"{choosing[0][0]} chooses among equal items, whose order torch leaves open"
    return {
        i: f"torch changes it by {gap:.1e} when it takes the last of equal items: {told}"
        for i, gap in moved.items()
        if gap >= outputs[i].difference / 2
    }


def _run(pair: Pair, case: Case, trial: int | None) -> tuple[Choices, Any]:
    """One run of torch, with noise where `trial` numbers it; its choices and outputs."""
    found: list[Choices] = []

    @contextmanager
    def around() -> Iterator[None]:
        with ExitStack() as open_:
            if trial is not None:
                open_.enter_context(rounding(trial))
            found.append(open_.enter_context(_choices()))
            open_.enter_context(_embeddings(pair.model, trial, case))
            yield

    moved = case if trial is None else noisy(case, trial)
    try:
        parts = pair.torch(moved, around).parts
        return found[0], parts
    except Exception:  # the noise has led it where it cannot go on
        return [], []


def noisy(case: Case, trial: int) -> Case:
    """A case with each number of its inputs one unit of rounding off; `trial` seeds the signs."""
    import torch
    from torch.utils import _pytree as pytree

    generator = torch.Generator().manual_seed(trial)
    args, kwargs = pytree.tree_map(
        lambda leaf: _moved(leaf, generator), (tuple(case.args), dict(case.kwargs))
    )
    return Case(args, kwargs, case.label)


def _moved(leaf: Any, generator: Any) -> Any:
    """A floating-point tensor with each number one unit of rounding off; others as they are."""
    import torch

    if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    plain = leaf.detach()
    return (plain + one_unit(plain, generator)).requires_grad_(leaf.requires_grad)


@contextmanager
def _embeddings(model: Any, trial: int | None, case: Case) -> Iterator[None]:
    """Noise on what embeddings answer, of a model whose inputs are whole numbers."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves((tuple(case.args), dict(case.kwargs)))
    floats = any(isinstance(t, torch.Tensor) and t.is_floating_point() for t in leaves)
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    found = [m for m in model.modules() if isinstance(m, kinds)]
    if trial is None or floats:
        found = []
    generator = torch.Generator().manual_seed(trial or 0)
    hook: Callable[..., Any] = lambda module, args, result: _moved(result, generator)  # noqa: E731
    handles = [m.register_forward_hook(hook) for m in found]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _choices() -> Iterator[Choices]:
    """Notes results of operators that are whole numbers, truths, or jump."""
    import torch
    from torch.utils import _pytree as pytree

    found: Choices = []

    def note(operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and (_whole(leaf) or operator.name in _JUMPING):
                found.append((operator.place, numpy_of(leaf).copy()))

    with watched(note):
        yield found


def _whole(leaf: Any) -> bool:
    return not leaf.is_floating_point() and not leaf.is_complex()


def _changed(plain: Choices, noisy: Choices) -> str:
    """The first operator that chose otherwise."""
    for (place, a), (_, b) in zip(plain, noisy, strict=False):
        if a.shape != b.shape or not np.array_equal(a, b):
            return f"{place} chooses otherwise"
    return ""
