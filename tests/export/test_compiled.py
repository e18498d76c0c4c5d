"""Modules within a model that torch.compile made are translated as what they were made of."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx


class Net(nn.Module):
    """Compiled parts: a layer, a block within a Sequential, and one by a method of its own."""

    def __init__(self):
        super().__init__()
        block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.fc = torch.compile(nn.Linear(4, 4), backend="eager")
        self.blocks = nn.Sequential(nn.Tanh(), torch.compile(block, backend="eager"))
        self.last = nn.Linear(4, 3)
        self.last.compile(backend="eager")

    def forward(self, x):
        return self.last(self.blocks(self.fc(x)))


@pytest.mark.parametrize("training", [False, True])
def test_compiled_modules_are_what_they_were_made_of(training):
    model = Net().train(training)
    compiled = model.fc, model.blocks[1]
    made = torch2mlx.translate(model, (torch.randn(3, 4),))
    assert "self.fc = nn.Linear(4, 4)" in made.source
    assert "addmm" not in made.source
    assert made.free == {"x": (0,)}
    for rows in (3, 5):
        found = torch2mlx.verify(model, made, (torch.randn(rows, 4),), gradients=training)
        assert found.ok, found
    assert (model.fc, model.blocks[1]) == compiled
