"""`verify` finds a planted fault, by the path of the module that has it."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn", "transformers")

import torch

import torch2mlx
from tests.zoo.build import working

ARCHITECTURES = ("bert", "gpt_neox", "vit", "opt", "roberta", "electra", "distilbert", "deit")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pair(request):
    model, given = working(request.param)
    return model, given, torch2mlx.translate(model, (), given)


def stock(model, module, kind):
    """Paths of layers of a kind that both trees have, in order."""
    ours = dict(module.named_modules())
    return [
        path
        for path, layer in model.named_modules()
        if isinstance(layer, kind) and path in ours and "weight" in ours[path]
    ]


def fresh(translation):
    """A module of its own, to be broken."""
    namespace = {}
    exec(compile(translation.source, "<model>", "exec"), namespace)
    module = namespace[translation.name]()
    module.load_weights(list(translation.weights.items()))
    from torch2mlx.translator import place_constants

    place_constants(module, translation.constants)
    module.train(translation.training)
    return module


def test_the_module_itself_agrees(pair):
    model, given, translation = pair
    assert torch2mlx.verify(model, fresh(translation), (), given).ok


def test_a_permuted_weight(pair):
    model, given, translation = pair
    module = fresh(translation)
    path = stock(model, module, torch.nn.Linear)[2]
    layer = dict(module.named_modules())[path]
    layer.weight = layer.weight[::-1]
    found = torch2mlx.verify(model, module, (), given)
    assert not found.ok and found.first == path


def test_a_changed_eps(pair):
    model, given, translation = pair
    module = fresh(translation)
    path = stock(model, module, torch.nn.LayerNorm)[1]
    dict(module.named_modules())[path].eps = 0.5
    found = torch2mlx.verify(model, module, (), given)
    assert not found.ok and found.first == path


def test_a_swapped_op(pair):
    model, given, translation = pair
    swapped = translation.source.replace("nn.gelu(", "nn.relu(")
    if swapped == translation.source:
        swapped = translation.source.replace("nn.ReLU()", "nn.Tanh()")
    namespace = {}
    exec(compile(swapped, "<model>", "exec"), namespace)
    module = namespace[translation.name]()
    module.load_weights(list(translation.weights.items()))
    from torch2mlx.translator import place_constants

    place_constants(module, translation.constants)
    module.train(False)
    found = torch2mlx.verify(model, module, (), given)
    assert not found.ok and found.first is not None and "act" in found.first
