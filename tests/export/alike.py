"""Both frameworks side by side: outputs, gradients of every parameter, and what a model keeps."""

import copy

import mlx.core as mx
import mlx.nn
import numpy as np
import torch
from mlx.utils import tree_flatten

import torch2mlx
from torch2mlx.export.ir.structures import arrays_of, to_mlx
from torch2mlx.export.lower.build_layer import converted_arrays


def torch_gradients(model, args):
    """Gradients of the sum of squares, under MLX's names and layouts; zeros where none is."""
    model.zero_grad()
    sum(leaf.square().sum() for _, leaf in arrays_of(model(*args))).backward()
    held = copy.deepcopy(model)
    names = {name for name, _ in model.named_parameters()}
    for (_, mine), theirs in zip(held.named_parameters(), model.parameters(), strict=True):
        mine.data = torch.zeros_like(mine) if theirs.grad is None else theirs.grad.clone()
    model.zero_grad()
    found = converted_arrays(held)
    kept = {name for name, _ in tree_flatten(found)}
    assert names and kept
    return found


def mlx_gradients(module, args):
    """The same of the MLX module, by name, of what is trained."""
    given = [to_mlx(x) for x in args]
    loss = lambda: sum(mx.square(leaf).sum() for _, leaf in arrays_of(module(*given)))
    return dict(tree_flatten(mlx.nn.value_and_grad(module, loss)()[1]))


def assert_outputs_alike(model, module, args, tolerance=1e-5):
    """The two models' results on one input."""
    with torch.no_grad():
        expected = list(arrays_of(model(*args)))
    found = list(arrays_of(module(*(to_mlx(x) for x in args))))
    assert len(found) == len(expected)
    for (name, a), (_, b) in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_state_alike(model, module, tolerance=1e-5):
    """Everything that the two models keep."""
    expected, found = converted_arrays(model), dict(tree_flatten(module.parameters()))
    for name, value in found.items():
        if name in expected:
            np.testing.assert_allclose(value, expected[name], tolerance, tolerance, err_msg=name)
    assert set(found) & set(expected)


def assert_alike(model, args, *others, tolerance=1e-4, **options):
    """Translated on `args`: outputs, gradients and state agree there and on every other input."""
    before = copy.deepcopy(model)
    made = torch2mlx.translate(model, args, **options)
    module, model = made.module, before
    for given in (args, *others):
        assert_outputs_alike(copy.deepcopy(model), fresh(made, module), given, tolerance)
        expected = torch_gradients(model, given)
        found = mlx_gradients(module, given)
        assert found
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], tolerance, tolerance, err_msg=name)
        assert_state_alike(model, module, tolerance)
    return made


def fresh(made, module):
    """A module like the one that is trained, so that a call of it changes nothing there."""
    other = copy.deepcopy(module)
    return other


def assert_loads_strictly(model, made, args, tolerance=1e-5):
    """Other weights of the same model, converted, are those of the translated one."""
    torch.manual_seed(99)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for value in other.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    module = made.module
    module.load_weights(list(converted_arrays(other).items()), strict=True)
    assert_outputs_alike(other, module, args, tolerance)
