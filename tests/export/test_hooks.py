"""Layers that do something else than their class does: forward hooks, a forward of one instance."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from tests.export.alike import assert_alike


def hooked(layer, hook):
    layer.register_forward_hook(hook)
    return layer


def doubled(module, args, result):
    return result * 2


def moved(module, args, result):
    result.add_(1)


def first_alone(module, args, result):
    return result[0] + 1, result[1]


def another(module, args, result):
    return args[0]


LAYERS = [
    (lambda: nn.Linear(4, 4), (3, 4)),
    (lambda: nn.BatchNorm1d(4), (3, 4)),
    (lambda: nn.Conv2d(2, 3, 3), (2, 2, 5, 6)),
    (lambda: nn.Tanh(), (3, 4)),
]


@pytest.mark.parametrize("make, shape", LAYERS)
@pytest.mark.parametrize("hook", [doubled, moved])
@pytest.mark.parametrize("training", [False, True])
def test_what_a_hook_makes_of_a_layers_answer_is_in_the_file(make, shape, hook, training):
    if make().__class__ is nn.Tanh and hook is moved and training:
        pytest.skip("torch itself has no gradient of it")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), hooked(make(), hook), nn.Sigmoid()).train(training)
    if not list(model.parameters()):
        model.append(nn.Linear(shape[-1], 2))
    bigger = torch.randn(shape[0] + 2, *shape[1:])
    assert_alike(model, (torch.randn(shape),), (bigger,))


def test_a_hook_on_one_of_several_results():
    torch.manual_seed(0)
    model = nn.Sequential(hooked(nn.LSTM(4, 4, batch_first=True), first_alone))
    x = torch.randn(2, 3, 4)
    made = torch2mlx.translate(model, (x,), check=False)
    assert torch2mlx.verify(model, made, (x,)).ok


def test_a_hook_that_answers_what_came_in():
    x = torch.randn(2, 4)
    model = nn.Sequential(hooked(nn.Linear(4, 4), another), nn.Linear(4, 2))
    made = torch2mlx.translate(model, (x,), check=False)
    assert torch2mlx.verify(model, made, (x,)).ok


def test_a_hook_that_only_looks_leaves_the_layer_stock():
    def looks(module, args, result):
        module.seen = result.shape

    model = nn.Sequential(hooked(nn.Linear(4, 4), looks))
    made = torch2mlx.translate(model, (torch.randn(2, 4),))
    assert "nn.Linear(4, 4)" in made.source


@pytest.mark.parametrize("change", [lambda y: y * 2, lambda y: y.add_(1)])
def test_a_forward_of_one_instance_is_what_runs(change):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    own = model[0].forward
    model[0].forward = lambda x: change(own(x))
    x = torch.randn(2, 4)
    made = torch2mlx.translate(model, (x,), check=False)
    assert torch2mlx.verify(model, made, (x,)).ok
    assert made.source.count("nn.Linear(") == 1  # the other one is as ever
