"""States of optimizers, both ways, so that training goes on in the other framework."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch2mlx import load as loading
from torch2mlx.checkpoint import open_checkpoint
from torch2mlx.converter import convert
from torch2mlx.errors import ConversionError
from torch2mlx.reverter import revert
from torch2mlx.weight_converter import make_plan
from torch2mlx.weights.typing import from_module

#: torch's name of a state that has the parameter's shape -> that of mlx.optimizers (and the kit).
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
}


def convert_optimizer_state(source: Any, module: Any) -> dict[str, Any]:
    """A torch optimizer's state as `optimizer.state` of mlx.optimizers or kit.optimizers.

    `source`: a torch optimizer or its state dict; `module`: the torch module all of whose
    parameters it trains, in order (the meta device is enough for shapes, not for tied ones).

    Raises ConversionError for states of parameters that MLX merges (the two biases of a recurrent
    layer), and for states whose parameters are not the module's.
    """
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    state = source if isinstance(source, Mapping) else source.state_dict()
    held, groups = state["state"], state["param_groups"]
    count = len(list(module.parameters()))
    if sorted(i for g in groups for i in g["params"]) != list(range(count)):
        raise ConversionError(
            f"the optimizer has parameters {[g['params'] for g in groups]}, the module {count}: "
            "convert the state of one that trains all of the module's"
        )
    flat: list[tuple[str, Any]] = []
    steps = 0.0
    for slot in dict.fromkeys(name for values in held.values() for name in values):
        if slot == "step":
            steps = max(float(values.get("step", 0)) for values in held.values())
        elif slot in SLOTS:
            arrays = _arrays(module, {i: v.get(slot) for i, v in held.items()})
            flat += [(f"{key}.{SLOTS[slot]}", array) for key, array in arrays.items()]
            flat += [
                (f"{key}.t", mx.array(int(steps), mx.int64))
                for key in arrays
                if not any(k == f"{key}.t" for k, _ in flat)
            ]
    made = dict(tree_unflatten(flat)) if flat else {}
    made["step"] = mx.array(int(steps), mx.uint64)
    made["learning_rate"] = mx.array(float(groups[0]["lr"]), mx.float32)
    return made


def _with_values(module: Any, values: Mapping[int, Any]) -> Any:
    """A copy of a module whose parameters hold other tensors; zeros where there are none."""
    import torch

    made = copy.deepcopy(module)
    for i, parameter in enumerate(made.parameters()):
        value = values.get(i)
        shape, dtype = parameter.shape, parameter.dtype
        parameter.data = (
            torch.zeros(shape, dtype=dtype) if value is None else value.detach().clone()
        )
    return made


def _arrays(module: Any, values: Mapping[int, Any]) -> dict[str, Any]:
    checkpoint = open_checkpoint(_with_values(module, values))
    assert checkpoint.tree is not None
    plan = make_plan(from_module(checkpoint, checkpoint.tree, None))
    names = {name for name, _ in module.named_parameters()}
    found = {}
    for piece in plan.pieces:
        if len(piece.sources) > 1 and names & set(piece.sources):
            raise ConversionError(
                f"{piece.target} is made of {', '.join(piece.sources)}: their states cannot be one"
            )
        if set(piece.sources) <= names:
            array = loading.mlx_array(piece.load().dense())
            found[piece.target] = array.reshape(piece.shape)
    return found


def revert_optimizer_state(state: Mapping[str, Any], module: Any, like: Any) -> dict[str, Any]:
    """An MLX optimizer's state as a state dict of torch.

    `like`: a torch optimizer of the kind that is to go on, over all of `module`'s parameters: its
    groups and options are kept, with the state's learning rate. Raises ConversionError when the
    state has no such parameters.
    """
    import torch
    from mlx.utils import tree_flatten

    made = copy.deepcopy(like.state_dict())
    leaves = dict(
        tree_flatten({k: v for k, v in state.items() if k not in ("step", "learning_rate")})
    )
    kinds = _slots_of(like)
    names = [name for name, _ in module.named_parameters()]
    steps = torch.tensor(float(state["step"].item()))
    for slot, mlx in kinds.items():
        arrays = {k.rpartition(".")[0]: v for k, v in leaves.items() if k.endswith(f".{mlx}")}
        if not arrays:
            raise ConversionError(f"the state has no {mlx!r}, torch's {slot}")
        tensors = _tensors(module, arrays)
        for i, name in enumerate(names):
            made["state"].setdefault(i, {})[slot] = tensors[name]
    for values in made["state"].values():
        values["step"] = steps.clone()
    for group in made["param_groups"]:
        group["lr"] = float(state["learning_rate"].item())
    return made


def _slots_of(like: Any) -> dict[str, str]:
    """States that an optimizer keeps, by its kind and options."""
    kind, options = type(like).__name__, like.param_groups[0]
    if kind in ("Adam", "AdamW"):
        more = {"max_exp_avg_sq": "largest"} if options.get("amsgrad") else {}
        return {"exp_avg": "m", "exp_avg_sq": "v", **more}
    if kind == "SGD":
        return {"momentum_buffer": "v"} if options.get("momentum") else {}
    if kind == "RMSprop":
        return {"square_avg": "v"}
    known = {"Adagrad": {"sum": "v"}, "Adadelta": {"square_avg": "v", "acc_delta": "u"}}
    if kind not in known:
        raise ConversionError(f"states of torch.optim.{kind} cannot be written")
    return known[kind]


def _tensors(module: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays under MLX's keys and layouts as torch's tensors, by the module's own plan."""
    import mlx.core as mx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        convert(module, path, on_unmapped="ignore")
        held, metadata = mx.load(str(path), return_metadata=True)
        missing = set(arrays) - set(held)
        if missing:
            raise ConversionError(f"no parameters of the module: {', '.join(sorted(missing))}")
        mx.save_safetensors(str(path), {**held, **arrays}, metadata)
        return dict(revert(path))
