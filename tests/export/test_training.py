"""Training goes on where torch's would: gradients of real architectures, loss curves."""

import copy
import functools

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn", "mlx.optimizers")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import mlx.utils
import torch

import torch2mlx
from tests.export.models import small_models
from torch2mlx.export.ir.structures import arrays_of, to_mlx

STEPS = 100
OPTIMIZERS = {
    "sgd": (
        lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9),
        lambda: mlx.optimizers.SGD(0.005, momentum=0.9),
    ),
    "adam": (
        lambda p: torch.optim.Adam(p, lr=1e-3),
        lambda: mlx.optimizers.Adam(1e-3, bias_correction=True),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        lambda: mlx.optimizers.AdamW(1e-3, weight_decay=0.01, bias_correction=True),
    ),
}


def first(value):
    return next(iter(arrays_of(value)))[1]


def prepared(name):
    """A model in training mode, dropout switched off: its numbers cannot be the same."""
    model, args = small_models()[name]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train(), args


@functools.cache
def translated(name):
    """The module of a prepared model: each optimizer trains a copy."""
    return torch2mlx.translate(*prepared(name)).module


def curve_in_torch(model, args, optimizer):
    target = torch.zeros_like(first(model(*args))) + 0.3
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = ((first(model(*args)) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def curve_in_mlx(module, args, optimizer):
    args = [to_mlx(a) for a in args]
    step = mlx.nn.value_and_grad(
        module, lambda module: mx.mean(mx.square(first(module(*args)) - 0.3))
    )
    losses = []
    for _ in range(STEPS):
        loss, gradients = step(module)
        optimizer.update(module, gradients)
        mx.eval(module.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "name", ("mlp", "cnn", "tagger", pytest.param("decoder", marks=pytest.mark.slow))
)
def test_loss_curves_agree(name, optimizer):
    module, (model, args) = copy.deepcopy(translated(name)), prepared(name)
    theirs, ours = OPTIMIZERS[optimizer]
    expected = curve_in_torch(model, args, theirs(model.parameters()))
    found = curve_in_mlx(module, args, ours())
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


ARCHITECTURES = ("bert", "llama", "gpt2", "vit", "t5", "mixtral")


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_of_every_parameter_agree(name):
    need("transformers")
    from tests.zoo.build import working

    model, given = working(name)
    with torch.enable_grad():
        model.zero_grad()
        output = first(model(**given))  # weighted: a norm at the end keeps its mean square
        weights = np.random.default_rng(0).standard_normal(output.shape).astype(np.float32)
        (output * torch.from_numpy(weights)).mean().backward()
    module = torch2mlx.translate(model, (), given).module
    arrays = {k: to_mlx(v) for k, v in given.items()}
    loss = lambda module: mx.mean(first(module(**arrays)) * mx.array(weights))
    _, gradients = mlx.nn.value_and_grad(module, loss)(module)
    found = dict(mlx.utils.tree_flatten(gradients))
    compared = 0
    for key, parameter in model.named_parameters():
        if parameter.grad is None or key not in found:
            continue
        expected, gradient = parameter.grad.numpy(), np.array(found[key])
        owner = model.get_submodule(key.rpartition(".")[0])
        if isinstance(owner, torch.nn.Conv2d) and gradient.ndim == 4:
            gradient = np.moveaxis(gradient, -1, 1)
        elif type(owner).__name__ == "Conv1D" and gradient.ndim == 2:  # transformers' own
            gradient = gradient.T
        scale = np.abs(expected).max()
        assert np.abs(gradient - expected).max() <= 1e-3 * scale + 1e-8, key
        compared += 1
    assert compared >= len(found) // 2


class Partly(torch.nn.Module):
    """Frozen layers, half frozen ones, a frozen parameter, and tensors that are no buffers."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 4).requires_grad_(False)
        self.one, self.two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.two.weight.requires_grad_(False)
        self.scale = torch.nn.Parameter(torch.rand(4) + 0.5, requires_grad=False)
        self.plain = torch.randn(50, 4)

    def forward(self, ids):
        x = self.one(self.table(ids)) * self.scale + self.plain[: ids.shape[0]]
        return self.two(x)


def test_what_is_frozen_in_torch_is_frozen_here():
    torch.manual_seed(0)
    model, ids = Partly(), torch.tensor([0, 3, 2])
    translation = torch2mlx.translate(model, (ids,))
    assert torch2mlx.verify(model, translation, (ids,)).ok
    assert "nn.Embedding(5, 4).freeze()" in translation.source
    trained = {n for n, _ in mlx.utils.tree_flatten(translation.module.trainable_parameters())}
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}
    # of a model that is frozen whole (for inference), nothing is said
    whole = torch2mlx.translate(model.requires_grad_(False), (ids,))
    assert "freeze(" not in whole.source
