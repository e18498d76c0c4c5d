"""Normalisation outside of a stock layer by running statistics that training moves.

torch's schema does not say that batch_norm and instance_norm write to two of their arguments.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch2mlx.export.capture.cumulative import STAND_IN
from torch2mlx.export.capture.schemas import name_of
from torch2mlx.export.ir.builder import Refuse
from torch2mlx.export.ir.nodes import Symbol, learn
from torch2mlx.export.lower.stock_layers import to_first, to_last

#: Operator -> the argument that says whether statistics are the input's own.
_NORMS = {"aten::batch_norm": "training", "aten::instance_norm": "use_input_stats"}
_USUAL = {"momentum": 0.1, "eps": 1e-5}


def moving(lowering: Any, node: Any) -> Any:
    """What tells in the file whether a graph node changes running statistics: True, or the mode;
    None of a node that never does."""
    target = node.target
    if name_of(target) not in _NORMS:
        return None
    given = dict(zip((a.name for a in target._schema.arguments), node.args, strict=False))
    if given.get("running_mean") is None or given.get("running_var") is None:
        return None
    if _follows_mode(lowering, node):
        return Symbol("self.training")
    return True if given[_NORMS[name_of(target)]] else None


def lower(lowering: Any, node: Any, arguments: dict[str, Any], when: Any) -> None:
    """A call that gives the result and the new statistics, which go where the old ones were."""
    b, name = lowering.builder, name_of(node.target).removeprefix("aten::")
    steps = {"momentum": _momentum(lowering, node, arguments["momentum"]), "eps": arguments["eps"]}
    made = b.call(
        f"kit.tracking.{name}",
        to_last(b, arguments["input"]),
        *(arguments[key] for key in ("running_mean", "running_var", "weight", "bias")),
        when,
        **{key: value for key, value in steps.items() if value != _USUAL[key]},
    )
    y, mean, var = b.items(made)
    for part, called in ((y, "x"), (mean, "mean"), (var, "var")):
        learn(part, name=called)
    lowering._result(node, to_first(b, y))
    lowering.storage.write(node.args[3], mean)
    lowering.storage.write(node.args[4], var)


def _momentum(lowering: Any, node: Any, momentum: Any) -> Any:
    """The step towards a batch's statistics; one through the number of batches for None."""
    if momentum != STAND_IN:
        return momentum
    buffers = lowering.traced.program.graph_signature.inputs_to_buffers
    place = lowering.storage.root(node.args[3])
    owner = buffers.get(getattr(place, "name", ""), "").rpartition(".")[0]
    counter = f"{owner}.num_batches_tracked".lstrip(".")
    name = next((name for name, key in buffers.items() if key == counter), None)
    if name is None:
        raise Refuse("momentum=None without a count of the batches")
    count = lowering.storage.get(lowering.named[name])
    return lowering.builder.call("operator.truediv", 1, count)


def _follows_mode(lowering: Any, node: Any) -> bool:
    """Whether the norm takes the input's own statistics in training alone."""
    import torch

    module = lowering.module_of(node)
    own = bool(node.args[5])
    if module is None or own != module.training:
        return False
    if isinstance(module, torch.nn.modules.batchnorm._NormBase):
        asked = _asked(module, tuple(node.args[0].meta["val"].shape))
        if asked is not None:
            return asked != own
    try:
        return "self.training" in inspect.getsource(type(module).forward)
    except (OSError, TypeError):
        return own


def _asked(module: Any, shape: tuple[Any, ...]) -> bool | None:
    """What the layer asks for in the other mode; None when it cannot be run alone."""
    import torch

    seen: list[bool] = []
    functional = torch.nn.functional
    flags = {functional.batch_norm: "training", functional.instance_norm: "use_input_stats"}

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            flag = flags.get(func)
            if flag is not None:
                bound = inspect.signature(func).bind(*args, **(kwargs or {}))
                bound.apply_defaults()
                seen.append(bool(bound.arguments[flag]))
            return func(*args, **(kwargs or {}))

    other = copy.deepcopy(module).to("meta")
    other.train(not module.training)
    other.momentum = 0.1
    try:
        with torch.no_grad(), Watch():
            other(torch.empty([int(n) if isinstance(n, int) else 2 for n in shape], device="meta"))
    except Exception:  # whatever a stranger's forward needs beside its input
        return None
    return seen[0] if seen else None
