"""What the optimizers of torch keep for each parameter, and what MLX's call it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch2mlx.checkpoint.source.module_tree import is_module
from torch2mlx.errors import ConversionError

#: torch's name of a state -> that of mlx.optimizers and the kit. All have the parameter's shape,
#: but mu_product, which is one number.
SLOTS = {
    "exp_avg": "m",
    "exp_avg_sq": "v",
    "max_exp_avg_sq": "largest",
    "exp_inf": "v",
    "momentum_buffer": "v",
    "square_avg": "v",
    "grad_avg": "mean",
    "sum": "v",
    "acc_delta": "u",
    "mu_product": "product",
}
NUMBERS = ("mu_product",)

#: Options of a group that say nothing about the steps to come.
_UNUSED = {"params", "param_names", "name", "foreach", "fused", "capturable", "differentiable"}


def mlx_slot(slot: str, held: Iterable[str]) -> str | None:
    """MLX's name of a state of a parameter that holds these; None where it has none."""
    if slot == "momentum_buffer" and "square_avg" in held:
        return "buffer"  # RMSprop keeps both
    return SLOTS.get(slot)


def kept_by(optimizer: Any, group: Mapping[str, Any]) -> dict[str, str]:
    """The states that a torch optimizer keeps for a parameter of a group, and MLX's names.

    Raises ConversionError for kinds that have no twin in MLX or the kit.
    """
    kind = type(optimizer).__name__
    if kind in ("Adam", "AdamW"):
        slots = ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group.get("amsgrad") else [])]
    elif kind == "SGD":
        slots = ["momentum_buffer"] if group.get("momentum") else []
    elif kind == "RMSprop":
        slots = ["square_avg", *(["grad_avg"] if group.get("centered") else [])]
        slots += ["momentum_buffer"] if group.get("momentum") else []
    else:
        known = {
            "NAdam": ["exp_avg", "exp_avg_sq", "mu_product"],
            "RAdam": ["exp_avg", "exp_avg_sq"],
            "Adamax": ["exp_avg", "exp_inf"],
            "Adagrad": ["sum"],
            "Adadelta": ["square_avg", "acc_delta"],
        }
        if kind not in known:
            raise ConversionError(f"states of torch.optim.{kind} cannot be written")
        slots = known[kind]
    return {slot: mlx_slot(slot, slots) or "" for slot in slots}


@dataclass(frozen=True)
class Group:
    """One group of parameters: their names in the module, and the options that matter."""

    names: tuple[str, ...]
    options: Mapping[str, Any]


def options_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a group that decide its steps, as plain values."""
    found = {k: v for k, v in group.items() if k not in _UNUSED}
    return {k: v.item() if hasattr(v, "item") else v for k, v in found.items()}


def _by_identity(optimizer: Any, module: Any) -> list[list[str]] | None:
    """Names by group, of the very parameters that the optimizer steps."""
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = [[known.get(id(p)) for p in group["params"]] for group in optimizer.param_groups]
    if any(name is None for names in groups for name in names):
        return None
    return [[name for name in names if name] for names in groups]


def _by_order(groups: list[Mapping[str, Any]], module: Any) -> list[list[str]]:
    """Names by group, for an optimizer that was made of all parameters in the module's order."""
    told = [list(group.get("param_names") or ()) for group in groups]
    if all(isinstance(name, str) for group in groups for name in group["params"]):
        told = [list(group["params"]) for group in groups]
    if all(len(n) == len(g["params"]) for n, g in zip(told, groups, strict=True)) and any(told):
        return told
    if len(groups) > 1:
        raise ConversionError(
            f"a state dict of {len(groups)} groups does not say which parameter is which: pass the "
            "optimizer itself with the module that it trains, or make it of named_parameters()"
        )
    names = [name for name, _ in module.named_parameters()]
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    count = len(groups[0]["params"])
    if count not in (len(names), len(trained)):
        raise ConversionError(
            f"the optimizer has {count} parameters, the module {len(names)}: convert the state of "
            "one that trains all of the module's"
        )
    return [names if count == len(names) else trained]


def state_dict_of(source: Any) -> Mapping[str, Any]:
    """The state dict of a torch optimizer, or the one that is given.

    Raises ConversionError for what is none, and for one whose parts do not belong together.
    """
    give = None if isinstance(source, Mapping) else getattr(source, "state_dict", None)
    found = give() if callable(give) else source
    if not isinstance(found, Mapping) or not {"state", "param_groups"} <= found.keys():
        raise ConversionError(
            f"a {type(source).__name__} is no torch optimizer, and no state dict of one, which has "
            "'state' and 'param_groups'"
        )
    groups, state = found["param_groups"], found["state"]
    if not groups or not isinstance(groups, (list, tuple)) or not all(map(_is_group, groups)):
        raise ConversionError(
            "'param_groups' of the state dict is no list of groups with 'params' and 'lr'"
        )
    listed = [number for group in groups for number in group["params"]]
    known = set(listed)
    if len(known) != len(listed):
        raise ConversionError("the state dict lists a parameter twice in its 'param_groups'")
    if not isinstance(state, Mapping) or not all(isinstance(v, Mapping) for v in state.values()):
        raise ConversionError("'state' of the state dict does not hold a dict for each parameter")
    strange = [number for number in state if number not in known]
    if strange:
        raise ConversionError(
            f"the state dict has a state of parameter {strange[0]!r}, which none of its groups has"
        )
    return found


def _is_group(group: Any) -> bool:
    """Whether this has parameters, by numbers or names, and a learning rate."""
    if not isinstance(group, Mapping) or not isinstance(group.get("params"), (list, tuple)):
        return False
    if not all(isinstance(number, (int, str)) for number in group["params"]):
        return False
    try:
        return math.isfinite(group["lr"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        return False


def check_state(state: Any) -> None:
    """Raises ConversionError for what is no state of an MLX optimizer."""
    if not isinstance(state, Mapping) or not {"step", "learning_rate"} <= state.keys():
        raise ConversionError(
            f"{type(state).__name__} is no state of an MLX optimizer, which has a step and a "
            "learning_rate: pass optimizer.state"
        )


def groups_of(source: Any, module: Any) -> list[Group]:
    """The groups of a torch optimizer, or of its state dict, by the names of the module.

    Raises ConversionError where parameters are not the module's, or cannot be told apart.
    """
    if not is_module(module):
        raise ConversionError(f"module= takes the torch module that is trained, not {module!r:.60}")
    optimizer = None if isinstance(source, Mapping) else source
    groups = state_dict_of(source)["param_groups"]
    names = None if optimizer is None else _by_identity(optimizer, module)
    names = names or _by_order(groups, module)
    parameters = dict(module.named_parameters())
    listed = [name for group in names for name in group]
    known = set(listed)
    strange = [name for name in listed if name not in parameters]
    left = [n for n, p in parameters.items() if p.requires_grad and n not in known]
    if strange or left or len(known) != len(listed):
        what = f"has {strange[0]!r}, which" if strange else f"lacks {', '.join(left[:3])}, which"
        raise ConversionError(
            f"the optimizer {what} the module {'lacks' if strange else 'trains'}: convert the "
            "state of one that trains all of the module's"
        )
    return [Group(tuple(n), options_of(g)) for n, g in zip(names, groups, strict=True)]


def step_of(name: str, value: Any) -> int:
    """A parameter's step, from a number or a tensor of one. Raises ConversionError."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConversionError(f"{name}: its step is no number") from error
    if not (number.is_integer() and 0 <= number < 2**53):
        raise ConversionError(f"{name}: its step is {number}, not a count of steps")
    return int(number)
