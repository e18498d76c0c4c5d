"""build(layer) computes what the layer computes: outputs, gradients, running statistics."""

import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten

from tests.twins import grid, grid_more
from torch2mlx import registry
from torch2mlx.checkpoint import open_checkpoint
from torch2mlx.load import mlx_array
from torch2mlx.read.module_tree import describe
from torch2mlx.weight_converter import make_plan
from torch2mlx.weights.merges import MERGES
from torch2mlx.weights.typing import from_module

FAMILIES = {
    f.__name__: f()
    for f in (
        *(grid.convolutions, grid.poolings, grid.normalizations, grid.activations, grid.shapes),
        *(grid_more.losses, grid_more.linears, grid_more.recurrent, grid_more.attention),
    )
}


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
        name: torch.zeros_like(p) if p.grad is None else p.grad
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
    inputs = [mx.array(moved(a, layer, case.lead)) for a in arrays]
    return inputs, leaves(case.call(twin, *inputs))


def check_forward(case, layer, outputs, found):
    assert len(found) == len(outputs)
    for a, b in zip(found, outputs, strict=True):
        close(moved(np.array(a), layer, case.lead, True), b.detach().numpy())


def check_gradients(case, layer, twin, inputs, outputs, arrays):
    floats = [i for i, t in enumerate(inputs) if t.requires_grad]
    smooth = [o for o in outputs if o.is_floating_point()]
    weights = [np.asarray(np.random.randn(*o.shape), np.float32) for o in smooth]
    sum((o * torch.from_numpy(w)).sum() for o, w in zip(smooth, weights, strict=True)).backward()

    def loss(parameters, *given):
        twin.update(parameters)
        called = [mx.array(moved(a, layer, case.lead)) for a in arrays]
        for i, value in zip(floats, given, strict=True):
            called[i] = value
        made = [o for o in leaves(case.call(twin, *called)) if mx.issubdtype(o.dtype, mx.floating)]
        scales = [mx.array(moved(w, layer, case.lead)) for w in weights]
        return sum((o * scale).sum() for o, scale in zip(made, scales, strict=True))

    given = [mx.array(moved(arrays[i], layer, case.lead)) for i in floats]
    parameters = twin.trainable_parameters()
    found = mx.grad(loss, argnums=list(range(1 + len(given))))(parameters, *given)
    of_weights, *of_inputs = found if given else (found,)
    for i, gradient in zip(floats, of_inputs, strict=True):
        reference = inputs[i].grad
        reference = np.zeros_like(arrays[i]) if reference is None else reference.numpy()
        close(moved(np.array(gradient), layer, case.lead, True), reference)
    flat = dict(tree_flatten(of_weights))
    for name, reference in expected_gradients(layer).items():
        close(flat[name], reference)


def check_statistics(layer, twin):
    for name in ("running_mean", "running_var"):
        if getattr(layer, name, None) is not None:
            close(twin[name], getattr(layer, name).numpy())


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:Implicit dimension choice:UserWarning")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients(family, subtests):
    for case in FAMILIES[family]:
        for mode in case.modes:
            with subtests.test(case=case.name, mode=mode):
                check(case, mode)


def check(case, mode):
    layer = case.make().train(mode == "train")
    twin = registry.build(layer)
    arrays = case.inputs()
    inputs, outputs = run_torch(case, layer, arrays)
    _, found = run_twin(case, layer, twin, arrays)
    check_forward(case, layer, outputs, found)
    check_statistics(layer, twin)
    if case.gradients and any(o.requires_grad for o in outputs):
        check_gradients(case, layer, twin, inputs, outputs, arrays)
