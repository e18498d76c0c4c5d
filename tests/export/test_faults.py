"""`verify` finds a planted fault, by the path of the module that has it."""

import re

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn", "transformers")

import torch

import torch2mlx
from tests.zoo.build import working

ARCHITECTURES = ("gpt_neox", "opt", "roberta", "electra", "distilbert", "deit")
ARCHITECTURES += ("albert", "llama", "qwen3", "mistral", "gemma2", "phi3", "olmo2", "nystromformer")
ARCHITECTURES += ("mpnet", "xglm", "biogpt", "camembert", "stablelm", "granite")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]


@pytest.fixture(scope="module", params=["bert", "vit", *SLOW])
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
    return built(translation.source, translation)


def built(source, translation):
    """The module of some source, with the translation's weights."""
    namespace = {}
    exec(compile(source, "<model>", "exec"), namespace)
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
    found = torch2mlx.verify(model, module, (), given, tolerance=1e-5)
    assert not found.ok and found.first == path


def test_a_changed_eps(pair):
    model, given, translation = pair
    module = fresh(translation)
    paths = set(dict(model.named_modules()))
    held = [p for p, layer in module.named_modules() if hasattr(layer, "eps") and p in paths]
    if held:
        dict(module.named_modules())[held[-1]].eps = 0.5
        found = torch2mlx.verify(model, module, (), given)
        assert not found.ok and found.first == held[-1]
    else:  # norms with classes of their own
        norm = r"(mx\.fast\.rms_norm\(\s*\S+, \S+(?: \+ \S+)?, (?:eps=)?)[\de.-]+"
        broken, count = re.subn(norm, r"\g<1>0.5", translation.source)
        assert count
        found = torch2mlx.verify(model, built(broken, translation), (), given)
        assert not found.ok and found.first is not None and "norm" in found.first.lower()


#: What is in the emitted source -> what is put there instead.
SWAPS = {
    "nn.gelu(": "nn.relu(",
    "nn.gelu_approx(": "nn.relu(",
    "nn.silu(": "nn.relu(",
    "nn.relu(": "mx.tanh(",
    "nn.GELU()": "nn.ReLU()",
    'nn.GELU(approx="tanh")': "nn.ReLU()",
    "nn.SiLU()": "nn.ReLU()",
    "nn.ReLU()": "nn.Tanh()",
    "mx.tanh(": "mx.sin(",
}


def test_a_swapped_op(pair):
    """Found is a module whose own statements have the other operator, or that it is."""
    model, given, translation = pair
    old = next(text for text in SWAPS if text in translation.source)
    swapped = translation.source.replace(old, SWAPS[old])
    module = built(swapped, translation)
    found = torch2mlx.verify(model, module, (), given, tolerance=1e-5)
    assert not found.ok and found.first is not None
    place = dict(module.named_modules()).get(found.first)
    own = re.findall(rf"^class {type(place).__name__}\(.*?(?=^class |\Z)", swapped, re.M | re.S)
    text = own[0] if own else f"{type(place).__name__}()"
    assert "act" in found.first or SWAPS[old] in text or f"nn.{text}" == SWAPS[old]
