"""Draws that only one side made, or made with other options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.lockstep.pairing import Sides
from torch2mlx.lockstep.result import Cause

#: What is drawn, as people call it.
_WORDS = {
    "normal": "normal numbers",
    "uniform": "uniform numbers",
    "bernoulli": "a mask",
    "integers": "whole numbers",
    "permutation": "a permutation",
    "categorical": "chosen places",
    "exponential": "exponential numbers",
    "gumbel": "Gumbel noise",
}


def draws(both: Sides, last: int) -> Iterator[Cause]:
    """What differs in the draws of the first `last` steps of MLX, the earliest first."""
    found = [*_asked(both), *_unasked(both)]
    yield from sorted((c for c in found if c.step <= last), key=lambda cause: cause.step)


def _asked(both: Sides) -> Iterator[Cause]:
    torch = both.torch["draws"]
    for request in both.mlx["served"]:
        step = request["step"] + 1
        if request["torch"] is None:
            if not request.get("soft") and not request["early"]:
                shape = tuple(request["shape"])
                detail = (
                    f"MLX draws {_WORDS[request['kind']]} {shape}, torch has no such draw there"
                )
                yield Cause("draw", step, _where(request), detail, ("", request["line"]))
            continue
        draw = torch[request["torch"]]
        for name, value in request["options"].items():
            theirs = draw["options"].get(name)
            if (
                theirs is not None
                and abs(theirs - value) > 1e-5
                and draw["kind"] == request["kind"]
            ):
                words = {"p": "keeps with probability", "low": "starts at", "high": "ends before"}[
                    name
                ]
                detail = f"torch {words} {theirs:.6g}, MLX {words} {value:.6g}"
                yield Cause("draw", step, _where(request), detail, (draw["line"], request["line"]))


def _unasked(both: Sides) -> Iterator[Cause]:
    used, ends = set(both.mlx["used"]), _ends(both)
    for number, draw in enumerate(both.torch["draws"]):
        early = number < both.torch["start"]["draws"]
        wanted = draw["kind"] == "permutation" or not early
        if number in used or draw["weights"] or draw.get("soft") or not wanted:
            continue
        if number < ends:
            count = draw["values"].shape if draw["values"] is not None else ()
            detail = f"torch draws {_WORDS[draw['kind']]} {tuple(count)}, MLX draws none there"
            yield Cause("draw", draw["step"] + 1, _where(draw), detail, (draw["line"], ""))


def _ends(both: Sides) -> int:
    """How many draws torch had made by the last step that MLX made too."""
    count = min(len(both.torch["steps"]), len(both.mlx["steps"]))
    return int(both.torch["steps"][count - 1]["draws"]) if count else 0


def _where(draw: dict[str, Any]) -> str:
    return f"in {draw['module']}" if draw["module"] else ""
