"""States of optimizers, both ways, so that training goes on in the other framework.

Carried over exactly, or refused by the name of the parameter and of its state.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from torch2mlx.catalog.weights.merges import to_array
from torch2mlx.checkpoint.formats.marker import marker_of
from torch2mlx.checkpoint.formats.schema import Marker
from torch2mlx.checkpoint.plan.forms import keeping, plan_of
from torch2mlx.checkpoint.plan.optimizer_slots import (
    NUMBERS,
    Group,
    check_state,
    groups_of,
    kept_by,
    mlx_slot,
    state_dict_of,
    step_of,
)
from torch2mlx.checkpoint.plan.trained import Origin
from torch2mlx.checkpoint.plan.undo import undo
from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.arrays import borrowed
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.write.reverted import as_torch
from torch2mlx.errors import ConversionError, RevertError
from torch2mlx.types import Piece, Plan


def convert_optimizer_state(
    source: Any, module: Any, *, optimizer: Any = None, training: bool = False
) -> Any:
    """A torch optimizer's state as `optimizer.state` of mlx.optimizers or kit.optimizers.

    `source`: a torch optimizer or its state dict; `module`: the torch module whose parameters it
    trains (the meta device is enough for shapes, not for tied ones). A state dict does not name
    its parameters: it must have one group, of the module's parameters in order.

    `optimizer`: the MLX optimizer that goes on, whose state the answer is. It is needed where
    parameters have steps of their own, which torch2mlx.kit.optimizers alone keep, and where groups
    have options of their own: a kit.ParameterGroups or an mlx.optimizers.MultiOptimizer with the
    same groups. `training`: whether the MLX model keeps what torch trains, both biases of recurrent
    layers for one, as `convert(..., training=True)` has it, models translated in training mode,
    and ports.

    Raises ConversionError for states that have no place in MLX: of parameters that MLX merges (the
    two biases of a recurrent layer, without `training`) or computes, unknown ones, and any that
    would be lost.
    """
    groups, held = groups_of(source, module), _states(source)
    values = dict(zip((n for g in groups for n in g.names), held, strict=True))
    slots = _checked(module, values)
    plans = _Plans(module, training)
    targets = _targets(plans, (name for name, state in values.items() if state))
    parts = _parts(groups, optimizer)
    steps = _steps(values, module, optimizer)
    flat = _flat(plans, values, slots, targets)
    made = []
    for part in parts:
        own = {t: (flat[t], steps[n]) for t, n in targets.items() if n in part.names and t in flat}
        made.append(_state(own, part.options["lr"]))
    if optimizer is None or not hasattr(optimizer, "optimizers"):
        return made[0]
    _check_split(optimizer, parts, targets)
    return {"states": made} if hasattr(optimizer, "filters") else made


def _states(source: Any) -> list[Mapping[str, Any]]:
    """What is held for each parameter, group by group; {} for those without a state."""
    found = state_dict_of(source)
    numbers = [number for group in found["param_groups"] for number in group["params"]]
    held = [found["state"].get(number, {}) for number in numbers]
    return [{k: v for k, v in one.items() if v is not None} for one in held]


def _checked(module: Any, values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """torch's states -> MLX's. Raises ConversionError for what has no place or does not fit."""
    parameters = dict(module.named_parameters())
    found: dict[str, str] = {}
    for name, held in values.items():
        for slot, value in held.items():
            ours = mlx_slot(slot, held)
            if slot == "step":
                continue
            if ours is None:
                raise ConversionError(
                    f"{name}: its state {slot!r} has no place in MLX's optimizers; take it out of "
                    "the state if training can go on without it"
                )
            _check_like(name, slot, value, parameters[name])
            if found.setdefault(slot, ours) != ours:
                raise ConversionError(f"{name}: its state {slot!r} is that of another optimizer")
    _check_complete(values)
    return found


def _check_like(name: str, slot: str, value: Any, parameter: Any) -> None:
    """A state is a tensor of its parameter's shape and kind of numbers; some are one number."""
    shape = tuple(getattr(value, "shape", ()))
    expected = () if slot in NUMBERS else tuple(parameter.shape)
    if shape != expected or not hasattr(value, "detach"):
        raise ConversionError(
            f"{name}: its state {slot!r} is {list(shape)}, not {list(expected)} as the "
            "parameter; the optimizer is of another module"
        )
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (value, parameter)]
    if kinds[0] != kinds[1]:
        raise ConversionError(
            f"{name}: its state {slot!r} is of {value.dtype}, the parameter of {parameter.dtype}"
        )


def _check_complete(values: Mapping[str, Mapping[str, Any]]) -> None:
    """Parameters that were stepped have the same states, but for amsgrad's in some groups."""
    stepped = {name: set(held) - {"max_exp_avg_sq"} for name, held in values.items() if held}
    for name, slots in stepped.items():
        first = next(iter(stepped.values()))
        if slots != first:
            lacking = ", ".join(sorted(first ^ slots))
            raise ConversionError(f"{name}: its state differs from other parameters' in {lacking}")


@dataclass(frozen=True)
class _Plans:
    """Plans of a module and of its like; which of its modules keep torch's own tensors: all, or
    those of which these MLX names are."""

    module: Any
    keeping: bool | frozenset[str] = False

    @cached_property
    def own(self) -> Plan:
        """The plan of the module itself."""
        return self.of(self.module)

    def of(self, module: Any) -> Plan:
        """The plan of a module with such layers."""
        checkpoint = open_checkpoint(module)
        assert checkpoint.tree is not None
        if self.keeping is True:
            return plan_of(checkpoint, checkpoint.tree.records)
        return plan_of(checkpoint, keeping(checkpoint, self.keeping or frozenset()))


def _targets(plans: _Plans, stepped: Iterable[str]) -> dict[str, str]:
    """MLX name -> the parameter that it is.

    Raises ConversionError for those made of several, or computed, where they have a state.
    """
    names, stepped = {name for name, _ in plans.module.named_parameters()}, set(stepped)
    found = {}
    for piece in plans.own.pieces:
        if piece.digested and stepped & {piece.target, *piece.sources}:
            raise ConversionError(
                f"{piece.target} is made of {', '.join(piece.sources)}: their states cannot be "
                "one; for an MLX model that keeps them apart pass training=True"
            )
        if not piece.digested and piece.sources[0] in names:
            found[piece.target] = piece.sources[0]
    return found


def _with_values(module: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a module whose parameters hold other tensors; zeros where there are none."""
    import torch

    made = copy.deepcopy(module)
    for name, parameter in made.named_parameters():
        value = values.get(name)
        shape, dtype = parameter.shape, parameter.dtype
        parameter.data = (
            torch.zeros(shape, dtype=dtype) if value is None else value.detach().cpu().clone()
        )
    return made


def _flat(
    plans: _Plans,
    values: Mapping[str, Mapping[str, Any]],
    slots: Mapping[str, str],
    targets: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """MLX name -> its states, in MLX's layout, of the parameters that were stepped."""
    import mlx.core as mx

    found: dict[str, dict[str, Any]] = {t: {} for t, name in targets.items() if values.get(name)}
    for slot, ours in slots.items():
        there = {name: held[slot] for name, held in values.items() if slot in held}
        chosen = {t: n for t, n in targets.items() if n in there}
        if slot in NUMBERS:
            made = {t: mx.array(float(there[name])) for t, name in chosen.items()}
        else:
            like = _with_values(plans.module, there)
            pieces = {p.target: p for p in plans.of(like).pieces}
            made = {t: _array(pieces[t]) for t in chosen}
        for target, array in made.items():
            found[target][ours] = array
    return found


def _array(piece: Piece) -> Any:
    return loading.mlx_array(piece.load().dense()).reshape(piece.shape)


def _steps(values: Mapping[str, Mapping[str, Any]], module: Any, optimizer: Any) -> dict[str, int]:
    """Steps by parameter; each its own where the optimizer keeps them so."""
    steps = {n: step_of(n, v["step"]) if "step" in v else 1 for n, v in values.items() if v}
    counted = any("step" in held for held in values.values())
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    waiting = [n for n, held in values.items() if not held and n not in frozen]
    different = {**steps, **(dict.fromkeys(waiting, 0) if steps else {})}
    if counted and len(set(different.values())) > 1 and not _keeps_steps(optimizer):
        shown = ", ".join(f"{name}: {step}" for name, step in list(different.items())[:5])
        raise ConversionError(
            f"parameters have steps of their own ({shown}), and mlx.optimizers have one for all: "
            "pass optimizer= one of torch2mlx.kit.optimizers, which keep them"
        )
    return steps if counted else dict.fromkeys(steps, 1)


def _keeps_steps(optimizer: Any) -> bool:
    """Whether an optimizer has a step for each parameter, as those of the kit do."""
    kit = "torch2mlx.kit.optimizers"
    parts = getattr(optimizer, "optimizers", [optimizer])
    return all(any(c.__module__ == kit for c in type(part).__mro__) for part in parts)


def _parts(groups: list[Group], optimizer: Any) -> list[Group]:
    """The groups that have a state of their own. Raises ConversionError where they must not."""
    several = getattr(optimizer, "optimizers", None)
    if several is not None:
        if len(several) != len(groups):
            raise ConversionError(
                f"the torch optimizer has {len(groups)} groups, the MLX optimizer {len(several)}"
            )
        return groups
    first = groups[0].options
    for i, group in enumerate(groups[1:], 1):
        names = first.keys() | group.options.keys()
        apart = sorted(k for k in names if first.get(k) != group.options.get(k))
        if apart:
            raise ConversionError(
                f"groups 0 and {i} differ in {', '.join(apart)}, and one MLX optimizer has one of "
                "each: pass optimizer= a torch2mlx.kit.ParameterGroups or an "
                "mlx.optimizers.MultiOptimizer with these groups"
            )
    return [Group(tuple(n for group in groups for n in group.names), first)]


def _check_split(optimizer: Any, parts: list[Group], targets: Mapping[str, str]) -> None:
    """The MLX optimizer's groups are torch's."""
    places = {name: i for i, part in enumerate(parts) for name in part.names}
    for target, name in targets.items():
        found = _group_in(optimizer, target)
        if name in places and found != places[name]:
            raise ConversionError(
                f"{name} is in group {places[name]} of torch's optimizer, and {target} in group "
                f"{found} of MLX's"
            )


def _group_in(optimizer: Any, target: str) -> int | None:
    """The group of an MLX optimizer that a parameter falls in."""
    if not hasattr(optimizer, "filters"):
        return next((i for i, names in enumerate(optimizer.names()) if target in names), None)
    import mlx.core as mx

    value = mx.zeros(())  # filters look at names; one that looks at values cannot be asked
    return next(i for i, chosen in enumerate(optimizer.filters) if chosen(target, value))


def _state(held: Mapping[str, tuple[Mapping[str, Any], int]], rate: Any) -> dict[str, Any]:
    """One optimizer's state: `t` is the kit's step of a parameter, `step` that of mlx.optimizers.

    `held`: MLX name -> (its states, its step).
    """
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    flat: list[tuple[str, Any]] = []
    for target, (slots, step) in held.items():
        flat += [(f"{target}.{slot}", array) for slot, array in slots.items()]
        flat.append((f"{target}.t", mx.array(step, mx.int32)))  # int64 once the kit has stepped it
    made = dict(tree_unflatten(flat)) if flat else {}
    most = max((step for _, step in held.values()), default=0)
    made["step"] = mx.array(most, mx.uint64)
    made["learning_rate"] = mx.array(float(rate), mx.float32)
    return made


def revert_optimizer_state(state: Any, module: Any, like: Any) -> dict[str, Any]:
    """An MLX optimizer's state as a state dict of torch.

    `state`: that of an optimizer of mlx.optimizers or the kit, or of several (kit.ParameterGroups,
    mlx.optimizers.MultiOptimizer). `like`: a torch optimizer of the kind that is to go on, over
    `module`'s parameters: its groups and options are kept, with the learning rates of the state.
    Parameters without a state in MLX have none in torch.

    Raises ConversionError when the state lacks what the optimizer keeps, or has what it does not.
    """
    if not hasattr(like, "state_dict"):
        raise ConversionError(f"like= takes the torch optimizer, not {type(like).__name__}")
    groups = groups_of(like, module)
    made = copy.deepcopy(like.state_dict())
    kept, number = made["state"], 0
    made["state"] = (
        dict(kept) if type(like).__name__ == "Adagrad" else {}
    )  # made with the optimizer
    parts = _split(state, made["param_groups"])
    names = frozenset(name for part in parts for name in _held(part, {}))
    plans = _Plans(module, names)
    plan = marker_of(plans.own, {})
    options = made["param_groups"]
    for group, option, part in zip(groups, options, parts, strict=True):
        tensors = _torch_states(part, plans, plan, kept_by(like, option), group.names)
        for name in group.names:
            if name in tensors:
                made["state"][number] = tensors[name]
            number += 1
        rate = float(part["learning_rate"].item())
        option["lr"] = option["lr"].new_tensor(rate) if hasattr(option["lr"], "item") else rate
    return made


def _split(state: Any, options: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The state of each group. Raises ConversionError where one cannot be all of them."""
    several = state.get("states") if isinstance(state, Mapping) else state
    several = several if isinstance(several, (list, tuple)) else None
    for part in [state] if several is None else several:
        check_state(part)
    if several is None:
        rates = [float(option["lr"]) for option in options]
        if len(set(rates)) > 1:
            raise ConversionError(
                f"the groups of the torch optimizer have learning rates {rates}, and the state has "
                "one for all: make like= with one rate, or train with a torch2mlx.kit."
                "ParameterGroups"
            )
        return [state] * len(options)
    if len(several) != len(options):
        raise ConversionError(
            f"the state is of {len(several)} groups, the torch optimizer has {len(options)}"
        )
    return list(several)


def _held(state: Mapping[str, Any], ties: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """MLX name -> its states."""
    from mlx.utils import tree_flatten

    found: dict[str, dict[str, Any]] = {}
    slots = {k: v for k, v in state.items() if k not in ("step", "learning_rate")}
    for key, value in cast("list[tuple[str, Any]]", tree_flatten(slots)):
        target, _, slot = key.rpartition(".")
        found.setdefault(ties.get(target, target), {})[slot] = value
    return found


def _torch_states(
    state: Mapping[str, Any],
    plans: _Plans,
    plan: Marker,
    slots: Mapping[str, str],
    names: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    """torch's states by parameter, of those of a group that were stepped."""
    held = _held(state, plan.ties)
    targets = _targets(plans, held)
    strange = [target for target in held if target not in targets]
    if strange:
        raise ConversionError(f"no parameters of the module: {', '.join(sorted(strange))}")
    steps = _counted(held, state)
    own = {t: v for t, v in held.items() if targets[t] in names and steps[t]}
    _check_kept(own, slots)
    found: dict[str, dict[str, Any]] = {}
    for slot, ours in slots.items():
        for name, value in _tensors(plan, {t: v[ours] for t, v in own.items()}, targets, slot):
            found.setdefault(name, {})[slot] = value
    return _with_steps(found, {targets[t]: steps[t] for t in own}, "momentum_buffer" in slots)


def _counted(held: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any]) -> dict[str, int]:
    """Steps by MLX name: the kit's own, or the one of mlx.optimizers, which leave `t` alone."""
    import mlx.core as mx

    own = {n: v["t"] for n, v in held.items() if "t" in v}
    told = {n: step_of(n, t.item()) for n, t in own.items()}
    if any(t.dtype == mx.int64 for t in own.values()) or len(set(told.values())) > 1:
        return {name: told.get(name, 0) for name in held}
    whole = step_of("the state", state["step"].item())
    return {name: max(told.get(name, 0), whole) for name in held}


def _with_steps(
    found: dict[str, dict[str, Any]], steps: Mapping[str, int], alone: bool
) -> dict[str, dict[str, Any]]:
    """Adds torch's `step`, which SGD alone does not keep."""
    import torch

    for name, held in found.items():
        if not (alone and set(held) == {"momentum_buffer"}):
            held["step"] = torch.tensor(float(steps[name]))
    return found


def _check_kept(held: Mapping[str, Mapping[str, Any]], slots: Mapping[str, str]) -> None:
    """All that torch keeps is there, and nothing is lost."""
    for target, states in held.items():
        lacking = [slot for slot, ours in slots.items() if ours not in states]
        if lacking:
            raise ConversionError(
                f"{target}: the state has no {slots[lacking[0]]!r}, torch's {lacking[0]}"
            )
        for name in states.keys() - {*slots.values(), "t"}:
            if np.any(np.asarray(to_array(borrowed(states[name])))):
                raise ConversionError(
                    f"{target}: its state {name!r} has no place in the torch optimizer; make like= "
                    "of the kind, and with the options, that the MLX optimizer has"
                )


def _tensors(
    plan: Marker, arrays: Mapping[str, Any], targets: Mapping[str, str], slot: str
) -> Iterator[tuple[str, Any]]:
    """Arrays under MLX's names and layouts as torch's tensors, by the module's own plan."""
    import torch

    if slot in NUMBERS:
        yield from ((targets[t], torch.tensor(float(v.item()))) for t, v in arrays.items())
        return
    wanted = {targets[target] for target in arrays}
    part = replace(
        plan,
        tensors=tuple(trace for trace in plan.tensors if trace.key in wanted),
        made=(),
        shared=(),
        values={},
    )
    try:
        tensors = {target: borrowed(array) for target, array in arrays.items()}
        state = undo(tensors, Origin(part, {}, {}, lambda _: None), f"states {slot!r}")
    except RevertError as error:
        raise ConversionError(str(error)) from error
    yield from as_torch(state).items()
