"""What can be said before the first step: first weights, options of modules and optimizers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch2mlx.lockstep.first_weights import drawn_otherwise
from torch2mlx.lockstep.options import same
from torch2mlx.lockstep.pairing import Sides, tensors
from torch2mlx.lockstep.result import Cause

#: Options whose meaning both libraries share in modules of one kind.
_SHARED = ("eps", "momentum", "p", "negative_slope", "alpha", "num_heads", "num_groups")
_RULES = ("eps", "betas", "weight_decay", "momentum", "dampening", "nesterov", "alpha", "rho")


def before_steps(both: Sides) -> Iterator[Cause]:
    """Everything that differs before the first step."""
    yield from _unmatched(both)
    yield from _first_weights(both)
    yield from _module_options(both)
    yield from _optimizer_options(both)


def _unmatched(both: Sides) -> Iterator[Cause]:
    """Trained tensors of torch that no array of MLX is."""
    ties = both.torch["start"]["ties"]  # one tensor under several names
    known = {ties.get(s, s) for match in both.matches.values() for s in match.sources}
    stepped = {name for step in both.torch["steps"] for name in step["gradients"]}
    lost = sorted(name for name in stepped if ties.get(name, name) not in known)
    if lost:
        names = [both.torch_name(name) for name in lost]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield Cause("parameters", 0, shown, "no array of the MLX models fits it")


def _first_weights(both: Sides) -> Iterator[Cause]:
    torch = tensors(both.torch["start"]["tensors"])
    for root, name, values, _, matched in both.mlx["start"]["tensors"]:
        match = both.matches.get(f"{root}:{name}")
        if not matched or match is None or values is None or match.index is None:
            continue
        given = match.of(torch, values.shape)
        said = "" if given is None else drawn_otherwise(given, values)
        if said:
            yield Cause("initialisation", 0, both.torch_name(match.sources[0]), said)


def _module_options(both: Sides) -> Iterator[Cause]:
    for (number, path), (theirs, its) in both.modules.items():
        ours = both.mlx["start"]["roots"][number]["modules"].get(path)
        other = both.torch["start"]["roots"][theirs]["modules"].get(its)
        if ours is None or other is None or _family(ours["kind"]) != _family(other["kind"]):
            continue
        for name in _SHARED:
            values = [held["options"].get(name) for held in (other, ours)]
            if None not in values and not same(*values):
                where = f"{name} of {both.module_name(theirs, its)}"
                yield Cause("module option", 0, where, f"{values[0]} in torch, {values[1]} in MLX")


def _family(kind: str) -> str:
    return re.sub(r"\d+d$", "", kind).lower()


def _optimizer_options(both: Sides) -> Iterator[Cause]:
    """Options that both optimizers of a tensor have, of each pair of optimizers once."""
    told, waiting = set(), _steps_of(both)
    for other in both.mlx["steps"]:
        for name, ours in other["optimizer"]["options"].items():
            match = both.matches.get(name)
            if match is None:
                continue
            step = next(waiting.get(match.sources[0], iter(())), None)
            if step is None:
                continue
            theirs = step["optimizer"]["options"][match.sources[0]]
            kinds = step["optimizer"]["kind"], other["optimizer"]["kind"]
            if kinds[0].lower() != kinds[1].lower():
                continue
            for option, words in _differing(theirs, ours):
                place = (step["optimizer"]["number"], option, words)
                if place not in told:
                    told.add(place)
                    lines = (step["optimizer"]["line"], other["optimizer"]["line"])
                    yield Cause("optimizer option", 0, f"{option} of {kinds[0]}", words, lines)


def _steps_of(both: Sides) -> dict[str, Iterator[Any]]:
    """The steps of each of torch's tensors: optimizers of several parts make more than one in MLX
    for each of torch's."""
    found: dict[str, list[Any]] = {}
    for step in both.torch["steps"]:
        for name in step["optimizer"]["options"]:
            found.setdefault(name, []).append(step)
    return {name: iter(steps) for name, steps in found.items()}


def _differing(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if ours.get("bias_correction") is False and "betas" in theirs:
        yield "bias_correction", "torch corrects the bias of both moments, MLX's is switched off"
    for option in _RULES:
        values = theirs.get(option), ours.get(option)
        if values[0] is not None and values[1] is None and option == "weight_decay" and values[0]:
            continue  # it may be done by hand: the update decides
        if None not in values and not same(*values):
            yield option, f"{values[0]} in torch, {values[1]} in MLX"
