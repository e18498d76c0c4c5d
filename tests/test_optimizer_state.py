"""Training goes on in the other framework where it stopped in the first."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn", "mlx.optimizers")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import torch
from torch import nn

import torch2mlx
from torch2mlx import kit
from torch2mlx.errors import ConversionError

KINDS = {
    "adam": (
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda: mlx.optimizers.Adam(1e-2, bias_correction=True),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
        lambda: kit.optimizers.AdamW(1e-2, amsgrad=True),
    ),
    "sgd": (
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
        lambda: mlx.optimizers.SGD(1e-2, momentum=0.9),
    ),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=1e-3), lambda: kit.optimizers.RMSprop(1e-3)),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(2, 4, 3), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean(2))


class Twin(mlx.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = mlx.nn.Conv1d(2, 4, 3), mlx.nn.Linear(4, 1)

    def __call__(self, x):
        return self.head(mx.maximum(self.conv(x.swapaxes(1, 2)), 0).mean(1))


def steps_in_torch(model, optimizer, x, count):
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def steps_in_mlx(model, optimizer, x, count):
    losses = []
    for _ in range(count):
        loss = lambda: mx.mean(mx.square(model(x) - 1))
        value, gradients = mlx.nn.value_and_grad(model, loss)()
        optimizer.update(model, gradients)
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways(kind, tmp_path):
    torch.manual_seed(0)
    theirs, ours = KINDS[kind]
    model, x = Net(), torch.randn(8, 2, 9)
    optimizer = theirs(model.parameters())
    steps_in_torch(model, optimizer, x, 7)
    twin, other = Twin(), ours()
    torch2mlx.convert(model, tmp_path / "net.safetensors")
    twin.load_weights(str(tmp_path / "net.safetensors"))
    other.init(twin.trainable_parameters())
    other.state = torch2mlx.convert_optimizer_state(optimizer, model)
    found = steps_in_mlx(twin, other, mx.array(x.numpy()), 6)
    np.testing.assert_allclose(found, steps_in_torch(model, optimizer, x, 6), rtol=1e-4)

    back = Net()
    back.load_state_dict(model.state_dict())
    again = theirs(back.parameters())
    again.load_state_dict(torch2mlx.revert_optimizer_state(other.state, model, again))
    found = steps_in_torch(back, again, x, 6)
    np.testing.assert_allclose(found, steps_in_torch(model, optimizer, x, 6), rtol=1e-3)


def test_states_that_cannot_be_one_are_refused():
    model = nn.GRU(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 1, 2))[0].sum().backward()
    optimizer.step()
    with pytest.raises(ConversionError, match="bias_ih_l0"):
        torch2mlx.convert_optimizer_state(optimizer, model)
    part = torch.optim.Adam([model.weight_ih_l0])
    with pytest.raises(ConversionError, match="the module"):
        torch2mlx.convert_optimizer_state(part, model)
