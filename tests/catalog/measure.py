"""Runs one case of the grid in both frameworks and says how far they are apart."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten

from torch2mlx import registry
from torch2mlx.catalog.weights.merges import MERGES
from torch2mlx.checkpoint.plan.planner import make_plan
from torch2mlx.checkpoint.plan.typing import from_module
from torch2mlx.checkpoint.source.converted import mlx_array
from torch2mlx.checkpoint.source.module_tree import describe
from torch2mlx.checkpoint.source.opening import open_checkpoint


@dataclass
class Measured:
    """Largest differences, each over max(1, largest value): outputs (and statistics), gradients."""

    forward: float = 0.0
    gradient: float = 0.0


def apart(found, expected) -> float:
    """max|a - b| / max(1, max|b|); raises AssertionError where shapes differ or only one is NaN."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    if not b.size:
        return 0.0
    assert np.array_equal(np.isnan(a), np.isnan(b)), "NaN in one of the two"
    same = (a == b) | np.isnan(a)  # infinities too
    if same.all():
        return 0.0
    size = np.abs(b[np.isfinite(b)]).max(initial=0)
    return float(np.abs(a[~same] - b[~same]).max() / max(1.0, size))


def leaves(value):
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def moved(array, layer, lead, back=False):
    """Torch's layout to the twin's, or back."""
    if registry.layout(layer) == "same" or array.ndim < lead:
        return array
    source, target = (-1, lead - 1) if back else (lead - 1, -1)
    return np.moveaxis(np.asarray(array), source, target)


def expected_gradients(layer):
    """Gradients of the parameters under their MLX names, but for those that are merged."""
    grads = {
        name: torch.zeros_like(p).float() if p.grad is None else p.grad.float()
        for name, p in layer.named_parameters()
    }
    if not grads:
        return {}
    plan = make_plan(from_module(open_checkpoint(grads), describe(layer), None, strict=False))
    pieces = [p for p in plan.pieces if p.rule not in MERGES]
    return {p.target: np.array(mlx_array(p.load().dense()).reshape(p.shape)) for p in pieces}


def run_torch(case, layer, arrays):
    inputs = [torch.from_numpy(np.array(a)) for a in arrays]
    for i, tensor in enumerate(inputs):
        if tensor.is_floating_point() and case.gradients and i not in case.fixed:
            tensor.requires_grad_()
    outputs = [o for o in leaves(case.call(layer, *inputs))]
    return inputs, outputs


def run_twin(case, layer, twin, arrays):
    return leaves(case.call(twin, *(mx.array(moved(a, layer, case.lead)) for a in arrays)))


def forward_difference(case, layer, outputs, found):
    assert len(found) == len(outputs)
    worst = 0.0
    for a, b in zip(found, outputs, strict=True):
        wide = (
            np.array(a.astype(mx.float32)) if mx.issubdtype(a.dtype, mx.floating) else np.array(a)
        )
        reference = b.detach().float() if b.is_floating_point() else b
        worst = max(worst, apart(moved(wide, layer, case.lead, True), reference.numpy()))
    return worst


def summed_backward(outputs, weights):
    """Gradients of sum(output * weight); in torch, in place."""
    smooth = [o for o in outputs if o.is_floating_point()]
    given = [torch.from_numpy(w).to(o.dtype) for o, w in zip(smooth, weights, strict=True)]
    sum((o * w).sum() for o, w in zip(smooth, given, strict=True)).backward()


def drawn_weights(outputs):
    """Numbers in float32 for every output of floats."""
    smooth = [o for o in outputs if o.is_floating_point()]
    return [np.asarray(np.random.randn(*o.shape), np.float32) for o in smooth]


def gradient_difference(case, layer, twin, inputs, outputs, arrays):
    floats = [i for i, t in enumerate(inputs) if t.requires_grad]
    weights = drawn_weights(outputs)
    summed_backward(outputs, weights)
    called = [mx.array(moved(a, layer, case.lead)) for a in arrays]
    found = twin_gradients(case, layer, twin, called, floats, weights)
    return largest_gap(torch_gradients(layer, inputs, floats), found, layer, case.lead)


def torch_gradients(layer, inputs, floats):
    """By place for inputs, by MLX name for parameters; in float32."""
    made = {i: inputs[i].grad for i in floats}
    wide = {
        i: np.zeros(inputs[i].shape, np.float32) if g is None else g.float().numpy()
        for i, g in made.items()
    }
    return {**wide, **expected_gradients(layer)}


def largest_gap(expected, found, layer, lead):
    """Over all of `expected`; inputs have torch's layout there."""
    worst = 0.0
    for key, reference in expected.items():
        gradient = np.array(found[key].astype(mx.float32))
        gradient = moved(gradient, layer, lead, True) if isinstance(key, int) else gradient
        worst = max(worst, apart(gradient, reference))
    return worst


def twin_gradients(case, layer, twin, arrays, floats, weights):
    """The twin's, with keys as torch_gradients has them."""

    def loss(parameters, *given):
        twin.update(parameters)
        called = list(arrays)
        for i, value in zip(floats, given, strict=True):
            called[i] = value
        made = [o for o in leaves(case.call(twin, *called)) if mx.issubdtype(o.dtype, mx.floating)]
        scales = [
            mx.array(moved(w, layer, case.lead)).astype(o.dtype)
            for o, w in zip(made, weights, strict=True)
        ]
        return sum((o * scale).sum() for o, scale in zip(made, scales, strict=True))

    given = [arrays[i] for i in floats]
    parameters = twin.trainable_parameters()
    found = mx.grad(loss, argnums=list(range(1 + len(given))))(parameters, *given)
    of_weights, *of_inputs = found if given else (found,)
    return {**dict(zip(floats, of_inputs, strict=True)), **dict(tree_flatten(of_weights))}


def statistics_difference(layer, twin):
    found = (n for n in ("running_mean", "running_var") if getattr(layer, n, None) is not None)
    return max((apart(twin[n], getattr(layer, n).numpy()) for n in found), default=0.0)


def measure(case, mode: str) -> Measured:
    """Outputs, running statistics and gradients in float32."""
    layer = case.make().train(mode == "train")
    twin = registry.build(layer)
    arrays = case.inputs()
    inputs, outputs = run_torch(case, layer, arrays)
    found = run_twin(case, layer, twin, arrays)
    forward = forward_difference(case, layer, outputs, found)
    measured = Measured(max(forward, statistics_difference(layer, twin)))
    if case.gradients and any(o.requires_grad for o in outputs):
        measured.gradient = gradient_difference(case, layer, twin, inputs, outputs, arrays)
    return measured


def _half_inputs(case, layer, arrays, dtype):
    """The arrays rounded to a half format: for torch, for the twin, and again in float32."""
    exact = [torch.from_numpy(np.array(a)) for a in arrays]
    rounded = [t.to(getattr(torch, dtype)) if t.dtype == torch.float32 else t for t in exact]
    twins = [
        mx.array(moved((t.float() if t.is_floating_point() else t).numpy(), layer, case.lead))
        for t in rounded
    ]
    twins = [t.astype(getattr(mx, dtype)) if t.dtype == mx.float32 else t for t in twins]
    return rounded, twins, [t.float() if t.is_floating_point() else t for t in rounded]


def measure_half(case, dtype: str) -> float | None:
    """Outputs in a half format; None where torch has no kernel for it on the CPU.

    The smaller of two: how far from torch's half result, or, where torch's own rounding is the
    worse of both, how far from the float32 result of the same rounded numbers.
    """
    layer = case.make().eval().to(getattr(torch, dtype))
    twin = registry.build(layer)
    rounded, given, wide = _half_inputs(case, layer, case.inputs(), dtype)
    try:
        with torch.no_grad():
            outputs = leaves(case.call(layer, *rounded))
    except (RuntimeError, NotImplementedError):
        return None
    found = leaves(case.call(twin, *given))
    ours = forward_difference(case, layer, outputs, found)
    if ours <= 1e-2:
        return ours
    with torch.no_grad():
        truth = leaves(case.call(layer.float(), *wide))
    theirs = max(apart(o.float().numpy(), t.numpy()) for o, t in zip(outputs, truth, strict=True))
    to_truth = forward_difference(case, layer, truth, found)
    return to_truth if to_truth <= theirs else ours


def measure_half_gradient(case, dtype: str) -> float | None:
    """Gradients in a half format, as `measure_half` compares outputs; None where torch has no
    kernel for it on the CPU, or there is nothing to differentiate."""
    layer = case.make().eval().to(getattr(torch, dtype))
    twin = registry.build(layer)
    rounded, given, wide = _half_inputs(case, layer, case.inputs(), dtype)
    floats = [i for i, t in enumerate(rounded) if t.is_floating_point() and i not in case.fixed]
    if not case.gradients:
        return None
    try:
        theirs, weights = _half_gradients(case, layer, rounded, floats, None)
    except (RuntimeError, NotImplementedError):
        return None
    found = twin_gradients(case, layer, twin, given, floats, weights)
    gap = largest_gap(theirs, found, layer, case.lead)
    if gap <= 1e-2:
        return gap
    layer.zero_grad()
    truth, _ = _half_gradients(case, layer.float(), wide, floats, weights)
    coarse = max(apart(theirs[key], truth[key]) for key in truth)
    to_truth = largest_gap(truth, found, layer, case.lead)
    return to_truth if to_truth <= coarse else gap


def _half_gradients(case, layer, tensors, floats, weights):
    """torch's gradients, and the weights of the outputs that were summed."""
    leaf = [t.detach().requires_grad_() if i in floats else t for i, t in enumerate(tensors)]
    outputs = leaves(case.call(layer, *leaf))
    weights = drawn_weights(outputs) if weights is None else weights
    summed_backward(outputs, weights)
    return torch_gradients(layer, leaf, floats), weights
