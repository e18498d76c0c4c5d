"""A branch on `self.training`: the file answers as torch does in the other mode, or refuses it."""

import copy

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x):
        y = self.drop(self.fc(x))
        if self.training:
            return y, y.sum()
        return y


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        y = self.fc(x)
        return y * 2 if self.training else y


class Named(nn.Module):
    """The mode under another name, as a number, and asked by a function."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        training = self.training
        if training:
            x = x + 1
        return self.fc(x)


class Counted(Named):
    def forward(self, x):
        return self.fc(x) * (1 + self.training)


def scaled(module, x):
    return x * 3 if module.training else x


class Helped(Named):
    def forward(self, x):
        return scaled(self, self.fc(x))


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Doubled()

    def forward(self, x):
        return self.inner(x) + 1


class Moving(nn.Module):
    """The mode decides what is kept for the next call alone."""

    def __init__(self):
        super().__init__()
        self.register_buffer("level", torch.zeros(4))

    def forward(self, x):
        y = x - self.level
        if self.training:
            self.level = self.level * 0.5 + x.mean(0)
        return y


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [Auxiliary, Doubled, Around, Moving, Named, Counted, Helped])
def test_another_mode_is_refused_where_both_differ(kind, training):
    model = kind().train(training)
    made = torch2mlx.translate(model, (torch.randn(3, 4),))
    for rows in (3, 5):
        assert torch2mlx.verify(model, made, (torch.randn(rows, 4),)).ok
    told = f"self.training is {not training}, translated for {training}: change test_other_mode.py:"
    with pytest.raises(ValueError, match=told):
        made.module.train(not training)(to_mlx(torch.randn(3, 4)))


class Idle(nn.Module):
    """Branches that change nothing, and dropout."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.checkpointing = nn.Linear(4, 4), nn.BatchNorm1d(4), False

    def forward(self, x):
        if self.checkpointing and self.training:
            x = x * 0
        return F.dropout(self.norm(self.fc(x)), 0.0, self.training)


@pytest.mark.parametrize("training", [False, True])
def test_a_branch_that_changes_nothing_leaves_both_modes(training):
    model, x = Idle().train(training), torch.randn(5, 4)
    made = torch2mlx.translate(copy.deepcopy(model), (x,))
    assert "self.training is" not in made.source
    for mode in (True, False, training):
        found = made.module.train(mode)(to_mlx(x))
        np.testing.assert_allclose(found, model.train(mode)(x).detach(), rtol=1e-4, atol=1e-5)


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        rate = 0.5 if self.training else 0.0
        return F.dropout(self.fc(x), rate)


def test_how_much_is_dropped_out_is_no_branch():
    made = torch2mlx.translate(Dropping().eval(), (torch.randn(3, 4),))
    assert "self.training is" not in made.source
