"""`python -m tests.zoo.gradients [NAME ...]`: gradients of every parameter, in both frameworks."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np

TOLERANCE = 1e-3


def compare(model: Any, given: dict[str, Any]) -> tuple[int, float, str]:
    """Parameters compared, and the largest relative difference with the parameter that has it.

    The loss is a random weighting of the first output that has a gradient: a norm at the end of a
    network would hold its mean square fixed. Relative to the parameter's largest gradient, or to a
    thousandth of the model's where that is more: gradients that are zero but for rounding (of a key
    bias under softmax) have no scale of their own.
    """
    import mlx.core as mx
    import mlx.nn
    import mlx.utils

    import torch2mlx
    from torch2mlx.checkpoint.source.converted import mlx_array
    from torch2mlx.export.ir.structures import arrays_of, to_mlx
    from torch2mlx.export.lower.parameters import Stored

    place, weights, wanted = _in_torch(model, given)
    translation = torch2mlx.translate(model, (), given, check=False)
    module = translation.module
    arrays = {k: to_mlx(v) if hasattr(v, "dtype") else v for k, v in given.items()}

    def loss(module: Any) -> Any:
        return mx.mean(list(arrays_of(module(**arrays)))[place][1] * mx.array(weights))

    _, gradients = mlx.nn.value_and_grad(module, loss)(module)
    found = dict(mlx.utils.tree_flatten(gradients))
    plan = Stored(wanted).plan
    expected = {
        p.target: np.array(mlx_array(p.load().dense())).reshape(p.shape) for p in plan.pieces
    }
    largest = max(float(np.abs(e).max(initial=0)) for e in expected.values())
    worst, at, count = 0.0, "", 0
    for key, gradient in found.items():
        if key in plan.ties or key not in expected:
            continue
        mine, theirs = np.array(gradient), expected[key]
        scale = max(float(np.abs(theirs).max(initial=0)), 1e-3 * largest)
        gap = float(np.abs(mine - theirs).max(initial=0)) / scale if scale else 0.0
        count += 1
        if not gap <= worst:
            worst, at = gap, key
    return count, worst, at


def _in_torch(model: Any, given: dict[str, Any]) -> tuple[int, Any, Any]:
    """Which output, its weights, and a copy of the model that holds gradients for parameters."""
    import torch

    from torch2mlx.export.ir.structures import arrays_of

    model.zero_grad()
    with torch.enable_grad():
        outputs = [value for _, value in arrays_of(model(**given))]
        place = next(i for i, value in enumerate(outputs) if value.requires_grad)
        shape = tuple(outputs[place].shape)
        weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        (outputs[place] * torch.from_numpy(weights)).mean().backward()
    wanted = copy.deepcopy(model)
    for mine, theirs in zip(wanted.parameters(), model.parameters(), strict=True):
        mine.data = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad.clone()
        mine.requires_grad_(theirs.requires_grad)
    model.zero_grad()
    return place, weights, wanted


def main(names: list[str]) -> int:
    """Prints a line for each architecture; 1 when one differs."""
    from tests.zoo.build import working

    worst = 0.0
    for name in names:
        try:
            count, gap, at = compare(*working(name))
            print(f"{name}: {count} parameters, {gap:.1e} at {at}", flush=True)
            worst = max(worst, gap)
        except Exception as problem:  # one architecture must not end the run
            print(f"{name}: {type(problem).__name__}: {str(problem)[:200]}", flush=True)
            worst = float("inf")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
