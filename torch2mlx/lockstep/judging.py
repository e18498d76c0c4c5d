"""The verdict on two recordings: what agreed at each step, and the first cause where they part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.lockstep.causes import in_step, in_tail
from torch2mlx.lockstep.compared import Compared, Stepwise
from torch2mlx.lockstep.missed import draws
from torch2mlx.lockstep.pairing import Sides, aligned, sides
from torch2mlx.lockstep.result import Agreement, Cause, TrainingVerification
from torch2mlx.lockstep.starts import before_steps


def judged(
    torch: dict[str, Any], mlx: dict[str, Any], noisy: dict[str, Any]
) -> TrainingVerification:
    """Compares the recordings of both scripts and of torch with rounding put in."""
    both = sides(torch, mlx, noisy)
    causes = list(before_steps(both))
    rows: list[Agreement] = []
    cause = _stepwise(both, rows)
    if cause is not None:
        causes.append(_drawn(both, cause) or cause)
    matched = {
        both.mlx_name(n): " + ".join(map(both.torch_name, m.sources))
        for n, m in both.matches.items()
    }
    return TrainingVerification(tuple(causes), tuple(rows), tuple(_notes(both)), matched)


def _stepwise(both: Sides, rows: list[Agreement]) -> Cause | None:
    stepwise = Stepwise(both)
    history: list[Compared] = []
    row: tuple[list[int], list[int]] = ([-1], [-1])
    for number, row in enumerate(aligned(both), 1):
        again = _without_gradient(both, row[1], number)
        if again is not None:
            return again
        if not _share(both, *row):
            return _other_step(both, row, number)
        found = stepwise.step(*row)
        rows.append(_agreement(found, number))
        cause = in_step(both, found, history, number)
        if cause is not None:
            return cause
        history.append(found)
    missing = _failed(both, len(rows) + 1) or _count(both, row, len(rows) + 1)
    return missing or in_tail(both, stepwise, len(rows) + 1)


def _without_gradient(both: Sides, numbers: list[int], number: int) -> Cause | None:
    """An update of MLX with a gradient that an update before it took already."""
    step = both.mlx["steps"][numbers[0]]
    before = both.mlx["steps"][numbers[0] - 1] if numbers[0] else None
    if step["backwards"] or before is None or not set(step["gradients"]) & set(before["gradients"]):
        return None
    detail = "MLX updates twice with one gradient"
    return Cause(
        "steps", number, step["optimizer"]["kind"], detail, ("", step["optimizer"]["line"])
    )


def _share(both: Sides, left: list[int], right: list[int]) -> bool:
    theirs = {n for i in left for n in both.torch["steps"][i]["gradients"]}
    ours = {
        source
        for j in right
        for name in both.mlx["steps"][j]["gradients"]
        if name in both.matches
        for source in both.matches[name].sources
    }
    return bool(theirs & ours)


def _other_step(both: Sides, row: tuple[list[int], list[int]], number: int) -> Cause:
    steps = both.torch["steps"][row[0][0]], both.mlx["steps"][row[1][0]]
    names = [
        (shown(next(iter(step["gradients"]))) if step["gradients"] else "nothing")
        for shown, step in zip((both.torch_name, both.mlx_name), steps, strict=True)
    ]
    detail = f"torch updates {names[0]} and others next, MLX {names[1]}"
    return Cause("steps", number, "", detail, tuple(s["optimizer"]["line"] for s in steps))


def _failed(both: Sides, number: int) -> Cause | None:
    """The MLX script that stops with an error where torch's goes on."""
    failure = both.mlx["failure"]
    if not failure or both.torch["failure"]:
        return None
    return Cause("steps", number, "", f"the MLX script stops: {failure}")


def _count(both: Sides, last: tuple[list[int], list[int]], number: int) -> Cause | None:
    """One side that goes on training where the other has ended."""
    left = len(both.torch["steps"]) - last[0][-1] - 1, len(both.mlx["steps"]) - last[1][-1] - 1
    if left[0] == left[1] or both.torch["failure"]:
        return None
    counts = f"torch makes {len(both.torch['steps'])} updates, MLX {len(both.mlx['steps'])}"
    return Cause("steps", number, "", counts)


def _drawn(both: Sides, cause: Cause) -> Cause | None:
    """The draw that comes before a cause, where draws differ."""
    if cause.kind in ("mode", "steps"):
        return None
    return next(draws(both, cause.step), None)


def _agreement(found: Compared, number: int) -> Agreement:
    theirs, ours = ([loss["value"] for loss in s["losses"]] for s in (found.torch, found.mlx))
    kinds = ("batch", "outputs", "losses", "gradients", "slots", "updates", "buffers", "parameters")
    return Agreement(
        number,
        found.torch["optimizer"]["kind"],
        sum(theirs) if theirs else None,
        sum(ours) if ours else None,
        {kind: found.largest.get(kind) for kind in kinds},
    )


def _notes(both: Sides) -> Iterator[str]:
    failure = both.torch["failure"]
    if failure:
        yield f"the torch script stopped after {len(both.torch['steps'])} steps: {failure}"
    by_shape = [n for root, n, _, how in both.mlx["pairs"] if how == "shape"]
    shaped = [both.mlx_name(f"{r}:{n}") for r, n, _, how in both.mlx["pairs"] if how == "shape"]
    if by_shape:
        yield f"matched by shape and order, not by name: {', '.join(shaped[:6])}"
    lost = [f"{r}:{n}" for r, n, _, _, matched in both.mlx["start"]["tensors"] if not matched]
    if lost:
        names = ", ".join(both.mlx_name(n) for n in lost[:6])
        yield f"no tensor of torch fits, so they kept their own values: {names}"
