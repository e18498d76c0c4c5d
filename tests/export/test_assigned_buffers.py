"""Buffers that a forward registers or gives new tensors, of the model itself and of a module
within: values of several calls, at several sizes, and what is kept."""

import copy

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from mlx.utils import tree_flatten
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx


class Model(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.way, self.fc = way, nn.Linear(4, 4)
        self.register_buffer("none", None)
        self.register_buffer("one", torch.ones(4))
        self.register_buffer("two", torch.full((4,), 2.0))

    def forward(self, x):
        return self.way(self, self.fc(x)), self.two


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x * 2)


def registered_once(model, x):
    if not hasattr(model, "places"):
        model.register_buffer("places", torch.arange(4.0), persistent=False)
    return x + model.places


def registered_always(model, x):
    model.register_buffer("count", torch.arange(x.shape[0]).float())
    return x * model.count[:, None]


def made_of_none(model, x):
    if model.none is None:
        model.none = torch.full((4,), 3.0)
    return x + model.none


def behind_none(model, x):
    model.one = model.one * 0.5 + 1
    return x * model.one


def in_another_order(model, x):
    model.two = model.two + model.one
    model.one = model.one * 2
    return x + model.one - model.two


def new_and_old(model, x):
    model.register_buffer("scale", torch.full((4,), 0.5))
    model.two = model.two * model.scale
    return x * model.two


WAYS = (
    registered_once,
    registered_always,
    made_of_none,
    behind_none,
    in_another_order,
    new_and_old,
)


@pytest.mark.parametrize("around", [lambda model: model, Around], ids=["itself", "within"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_buffers_are_followed_at_every_size(way, around):
    torch.manual_seed(0)
    model = around(Model(way)).eval()
    made = torch2mlx.translate(copy.deepcopy(model), (torch.randn(2, 4),))
    assert made.free == {"x": (0,)}
    for rows in (2, 3, 5):
        x = torch.randn(rows, 4)
        for found, wanted in zip(made.module(to_mlx(x)), model(x), strict=True):
            np.testing.assert_allclose(found, wanted.detach(), rtol=1e-5, atol=1e-6)
    kept = dict(tree_flatten(made.module.parameters()))
    for name, buffer in model.named_buffers():
        if name in kept:
            np.testing.assert_allclose(kept[name], buffer, rtol=1e-6)
    assert {"one", "two"} <= {name.rpartition(".")[2] for name in kept}


def test_a_buffer_made_of_the_first_input_is_refused():
    def first_seen(model, x):
        if model.none is None:
            model.none = x.mean(0)
        return x + model.none

    with pytest.raises(TranslationError, match="the second call differs: the forward changes none"):
        torch2mlx.translate(Model(first_seen).eval(), (torch.randn(2, 4),))
