"""From what differs in a step to why: the first thing in the order of a step that is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from torch2mlx.lockstep.compared import Compared, Off, Stepwise
from torch2mlx.lockstep.numbers import reordered, size
from torch2mlx.lockstep.pairing import Call, Sides
from torch2mlx.lockstep.result import Cause
from torch2mlx.lockstep.rules import explained, ratio

_TURNS = ("Dropout", "BatchNorm", "AlphaDropout", "FeatureAlphaDropout", "InstanceNorm", "RReLU")


def in_step(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """The first cause of a divergence in one step; None where it agrees."""
    checks: tuple[Callable[..., Cause | None], ...] = (
        modes,
        calls,
        losses,
        gradients,
        updates,
        rest,
    )
    for check in checks:
        cause = check(both, found, history, number)
        if cause is not None:
            return cause
    return None


def modes(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """Modules that run in another mode, where the mode matters."""
    for _, one, other in found.calls:
        matters = one["kind"].startswith(_TURNS) or (
            not one["depth"] and _has_turns(both, one["root"])
        )
        if matters and one["training"] != other["training"]:
            words = ["training" if call["training"] else "evaluation" for call in (one, other)]
            call = "train()" if one["training"] else "eval()"
            detail = f"torch runs it in {words[0]} mode, MLX in {words[1]} mode: is {call} missing?"
            where = both.module_name(one["root"], one["path"])
            return Cause("mode", number, where, detail, (one["line"], other["line"]))
    return None


def _has_turns(both: Sides, root: int) -> bool:
    held = both.torch["start"]["roots"][root]["modules"].values()
    return any(module["kind"].startswith(_TURNS) for module in held)


def calls(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """The first call, in the order in which torch's ended, whose output differs."""
    inputs = {off.name: off for kind in ("batch", "inputs") for off in found.off.get(kind, [])}
    outputs = {off.name: off for off in found.off.get("outputs", [])}
    for place, one, other in found.calls:
        if str(place) not in outputs and not (str(place) in inputs and not one["depth"]):
            continue
        off = _outermost(found, inputs, place)
        if off is not None:
            return _batch(both, found, off, number)
        slow = [o for o in found.off.get("parameters", []) if o.name.startswith(_head(one))]
        if slow and str(place) not in inputs:
            detail = f"differs by {slow[0].apart:.1e}, and no optimizer steps it"
            return Cause("parameter", number, _names(both, slow), detail, _lines(found))
        if str(place) in inputs:
            return _before(both, one, other, inputs[str(place)], number)
        return _module(both, one, other, outputs[str(place)], number)
    return None


def _head(call: Call) -> str:
    """What the names of a module's tensors begin with."""
    return f"{call['root']}:{call['path']}." if call["path"] else f"{call['root']}:"


def _outermost(
    found: Compared, inputs: dict[str, Off], place: int
) -> tuple[Call, Call, Off] | None:
    """The call of a whole model that a call is part of, where its own inputs differ."""
    whole = next(
        (n for n, c in enumerate(found.torch["calls"]) if n >= place and not c["depth"]), -1
    )
    for number, one, other in found.calls:
        if number == whole and str(number) in inputs:
            return one, other, inputs[str(number)]
    return None


def _batch(both: Sides, found: Compared, off: tuple[Call, Call, Off], number: int) -> Cause:
    one, other, values = off
    where = f"what reaches {both.module_name(one['root'], one['path'])}"
    detail = f"differs by {values.apart:.1e}"
    if _rows_moved(values.torch, values.mlx):
        detail = "holds the same rows in another order: is the data shuffled alike?"
    elif reordered(values.torch, values.mlx):
        detail = "holds the same numbers in another order"
    return Cause("batch", number, where, detail, (one["line"], other["line"]))


def _rows_moved(torch: Any, mlx: Any) -> bool:
    a, b = np.asarray(torch), np.asarray(mlx)
    if a.shape != b.shape or a.ndim < 1 or len(a) < 2:
        return False
    rows = [np.sort(v.reshape(len(v), -1).astype(np.float64).sum(axis=1)) for v in (a, b)]
    return bool(np.allclose(rows[0], rows[1], rtol=1e-4, atol=1e-5))


def _before(both: Sides, one: Call, other: Call, off: Off, number: int) -> Cause:
    """Between modules: what reaches one of them differs, and what came before agrees."""
    where = f"what reaches {both.module_name(one['root'], one['path'])}"
    detail = f"differs by {off.apart:.1e}, and all modules before it agree"
    if reordered(off.torch, off.mlx):
        detail = (
            "holds the same numbers in another order, and all modules before it agree: a flatten, "
            "reshape or transpose of another layout"
        )
    return Cause("module", number, where, detail, (one["line"], other["line"]))


def _module(both: Sides, one: Call, other: Call, off: Off, number: int) -> Cause:
    held = both.torch["start"]["roots"][one["root"]]["modules"]
    head = f"{one['path']}." if one["path"] else ""
    whole = any(path.startswith(head) and path != one["path"] for path in held)
    what = "its parts agree, what it makes of them" if whole else "its inputs agree, its output"
    detail = f"{what} differs by {off.apart:.1e}"
    factor = ratio(off.torch, off.mlx)
    if factor is not None and abs(factor - 1) > 1e-3:
        detail += f": MLX's is {factor:.4g} times torch's"
    elif reordered(off.torch, off.mlx):
        detail += ": the same numbers in another order"
    where = both.module_name(one["root"], one["path"])
    return Cause("module", number, where, detail, (one["line"], other["line"]))


def losses(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """The loss, where every module agrees."""
    off = next(iter(found.off.get("losses", [])), None)
    counts = [found.torch["backwards"], found.mlx["backwards"]]
    agree = not found.off.keys() & {"gradients", "raw"}
    if off is None or (agree and counts[0] != counts[1]):
        return None
    if counts[0] != counts[1]:
        return _accumulated(found, number)
    detail = f"torch's is {off.torch:.6g}, MLX's {off.mlx:.6g}, and every module agrees"
    if off.torch and abs(off.mlx / off.torch - round(off.mlx / off.torch)) < 1e-4 * abs(
        off.mlx / off.torch
    ):
        detail += f": {off.mlx / off.torch:.6g} times as much (a sum in place of a mean?)"
    elif off.mlx and abs(off.torch / off.mlx - round(off.torch / off.mlx)) < 1e-4 * abs(
        off.torch / off.mlx
    ):
        detail += f": 1/{off.torch / off.mlx:.6g} of it (a mean in place of a sum?)"
    lines = tuple(
        step["losses"][min(int(off.name), len(step["losses"]) - 1)]["line"]
        for step in (found.torch, found.mlx)
    )
    return Cause("loss", number, "", detail, lines)


def _accumulated(found: Compared, number: int) -> Cause:
    counts = [found.torch["backwards"], found.mlx["backwards"]]
    detail = (
        f"torch steps after {counts[0]} backward pass{'es' * (counts[0] != 1)}, MLX after "
        f"{counts[1]} gradient{'s' * (counts[1] != 1)}"
    )
    lines = (found.torch["optimizer"]["line"], found.mlx["optimizer"]["line"])
    return Cause("accumulation", number, "", detail, lines)


def gradients(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """Gradients as they reach the optimizer, and as backward passes made them."""
    more = found.off.get("gradients beyond torch's")
    if more:
        names = _names(both, more)
        detail = "has a gradient in MLX and none in torch: a detach, no_grad or freeze is missing"
        return Cause("gradient", number, names, detail, _lines(found))
    off = found.off.get("raw" if found.by_hand else "gradients", [])
    if not off:
        return None
    counts = [found.torch["backwards"], found.mlx["backwards"]]
    if found.off.get("raw") or not found.mlx["raw"]:
        if counts[0] != counts[1]:
            return _accumulated(found, number)
        return _wrong_gradient(both, found, off, number)
    if not found.off.keys() & {"slots", "updates"}:
        return None  # weight decay that is added by hand, or the like
    return _changed(both, found, history, off, number)


def _wrong_gradient(both: Sides, found: Compared, off: list[Off], number: int) -> Cause:
    detail = f"differs by {max(o.apart for o in off):.1e}, and every module and the loss agree"
    empty = [o for o in off if not size(o.torch)]
    lost = [o for o in off if not size(o.mlx)]
    factors = {round(f, 4) for o in off if (f := ratio(o.torch, o.mlx)) is not None}
    if empty:
        off, detail = empty, "is zero in torch and not in MLX: a detach or no_grad is missing"
    elif lost:
        off, detail = lost, "is zero in MLX and not in torch: a stop_gradient or freeze too many"
    elif len(factors) == 1:
        detail += f": MLX's is {factors.pop()} times torch's"
    else:
        detail += ": is a detach missing, or one too many?"
    return Cause("gradient", number, _names(both, off), detail, _lines(found))


def _changed(
    both: Sides, found: Compared, history: list[Compared], off: list[Off], number: int
) -> Cause:
    """Backward passes agree; what was done to the gradients until the update does not."""
    kept = _left_over(both, found, history, off[0])
    if kept:
        return Cause("accumulation", number, _names(both, off), kept, _lines(found))
    factors = [f for o in off if (f := ratio(o.torch, o.mlx)) is not None]
    detail = "what backward passes give agrees, what reaches the optimizer differs"
    if len(factors) == len(off) and max(factors) - min(factors) < 1e-3 * max(factors):
        detail += f": MLX's is {factors[0]:.4g} times torch's (the norm of clipping, or a scale)"
    return Cause("clipping", number, _names(both, off), detail, _lines(found))


def _left_over(both: Sides, found: Compared, history: list[Compared], off: Off) -> str:
    """Whether one side's gradients hold those of steps before."""
    if not history:
        return ""
    last = history[-1]
    match = next(m for m in both.matches.values() if m.sources[0] == off.name)
    name = next(n for n, m in both.matches.items() if m is match)
    for side, words in (("torch", "torch's"), ("mlx", "MLX's")):
        step, before = getattr(found, side), getattr(last, side)
        parts = [s[k] for s, k in ((step, "gradients"), (step, "raw"), (before, "gradients"))]
        if side == "torch":
            held = [match.of(part, off.mlx.shape, mean=True) for part in parts]
        else:
            held = [part.get(name) for part in parts]
        if any(h is None for h in held):
            continue
        now, raw, was = (np.asarray(h, np.float64) for h in held)
        if size(now - raw - was) < 1e-3 * size(now) and size(was) > 1e-3 * size(now):
            other = "MLX's" if side == "torch" else "torch's"
            return (
                f"{words} gradients still hold those of the step before, {other} do not (zero_grad)"
            )
    return ""


def updates(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """The optimizer: its rate, its slots, its rule."""
    off = found.off.get("updates", []) or found.off.get("slots", [])
    if not off:
        return None
    rate = _rate(both, found, off, number)
    if rate is not None:
        return rate
    kept = _left_over(both, found, history, off[0]) if found.by_hand else ""
    if kept:
        return Cause("accumulation", number, _names(both, off), kept, _lines(found))
    said = _explained(both, found, history, off) if found.off.get("updates") else ""
    slots = found.off.get("slots", [])
    if slots and not said:
        detail = f"gradients agree, and it differs by {slots[0].apart:.1e}"
        return Cause("slot", number, _names(both, slots), detail, _lines(found))
    kind = found.torch["optimizer"]["kind"]
    detail = f"gradients agree, and the update of {_names(both, off)} differs by {off[0].apart:.1e}"
    factor = ratio(off[0].torch, off[0].mlx)
    if said:
        detail += f": {said}"
    elif factor is not None and abs(factor - 1) > 1e-3:
        detail += f": MLX's is {factor:.4g} times torch's"
    return Cause("update", number, kind, detail, _lines(found))


def _rate(both: Sides, found: Compared, off: list[Off], number: int) -> Cause | None:
    """The learning rates of the two optimizers, where both say theirs."""
    name = off[0].name.partition(" ")[0]
    theirs = found.torch["optimizer"]["options"].get(name, {}).get("lr")
    ours = next(
        (
            options.get("lr")
            for key, options in found.mlx["optimizer"]["options"].items()
            if key in both.matches and name in both.matches[key].sources
        ),
        None,
    )
    if theirs is None or ours is None or abs(theirs - ours) <= 1e-5 * abs(theirs):
        return None
    detail = f"torch's learning rate is {theirs:.6g}, MLX's {ours:.6g}"
    kind = found.torch["optimizer"]["kind"]
    return Cause(
        "schedule" if number > 1 else "optimizer option",
        number,
        f"lr of {kind}",
        detail,
        _lines(found),
    )


def _explained(both: Sides, found: Compared, history: list[Compared], off: list[Off]) -> str:
    """The usual mistake that gives MLX's update, of those tensors that are off."""
    kind = found.torch["optimizer"]["kind"]
    for each in off[:4]:
        name = next((n for n, m in both.matches.items() if m.sources[0] == each.name), None)
        steps = [c for c in (*history, found) if name in c.mlx["gradients"]]
        if name is None or not steps or any(c.mlx["gradients"][name] is None for c in steps):
            continue
        match = both.matches[name]
        shape = steps[0].mlx["gradients"][name].shape
        options = found.torch["optimizer"]["options"].get(each.name, {})
        given = [
            match.of(c.torch["gradients"], shape, mean=True)
            if c.by_hand
            else c.mlx["gradients"][name]
            for c in steps
        ]
        held = []
        for c in steps:
            after = {f"{r}:{n}": v for r, n, v, *_ in c.torch["after"]}
            held.append(match.of(after, shape))
        weights = [both_start(both, name, shape), *held[:-1]]
        said = explained(kind, options, given, weights, each.mlx)
        if said:
            return said
    return ""


def both_start(both: Sides, name: str, shape: Any) -> Any:
    """Torch's first values of an array of MLX, in its layout."""
    held = {f"{r}:{n}": v for r, n, v, *_ in both.torch["start"]["tensors"]}
    return both.matches[name].of(held, shape)


def rest(both: Sides, found: Compared, history: list[Compared], number: int) -> Cause | None:
    """Buffers and parameters that no optimizer stepped."""
    for kind, word in (("buffers", "buffer"), ("parameters", "parameter")):
        off = found.off.get(kind, [])
        if off:
            detail = f"differs by {off[0].apart:.1e} after the step"
            return Cause(word, number, _names(both, off), detail, _lines(found))
    return None


def in_tail(both: Sides, stepwise: Stepwise, number: int) -> Cause | None:
    """What the scripts do after the last step, evaluation for the most part."""
    torch, mlx, noisy = (side["tail"] for side in (both.torch, both.mlx, both.noisy))
    found = Compared(torch, mlx, stepwise.calls(torch, mlx, noisy))
    stepwise._outputs(found, noisy)
    for check in (modes, calls):
        cause = check(both, found, [], number)
        if cause is not None:
            return cause
    return None


def _names(both: Sides, off: list[Off]) -> str:
    names = [both.torch_name(o.name) for o in off]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _lines(found: Compared) -> tuple[str, ...]:
    return (found.torch["optimizer"]["line"], found.mlx["optimizer"]["line"])
