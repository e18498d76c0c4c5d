"""`autograd.grad` of what torch ran once: statistics move once, and random draws are the same."""

import numpy as np
import pytest

from tests.porting.compare import both, executed
from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx

HEAD = """
import torch
import torch.nn as nn


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


class Critic(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.a, self.norm = nn.Linear(size, 4, bias=False), nn.BatchNorm1d(4)
        self.b = nn.Linear(4, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))


critic = Critic(SIZE)
with torch.no_grad():
    for p in critic.parameters():
        p.copy_(numbers(*p.shape) * 0.3)
opt = torch.optim.SGD(critic.parameters(), lr=0.1)
out = []
"""
#: The loss of a critic with a penalty on its slope between real and made up items.
TAIL = """
for step in range(3):
    opt.zero_grad()
    real, fake = numbers(BATCH, SIZE), numbers(BATCH, SIZE) * 0.5
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty(critic, real, fake)
    loss.backward()
    opt.step()
    out.append(loss.item())
out += critic.norm.running_mean.tolist() + critic.norm.running_var.tolist()
"""
PROGRAMS = {
    "a penalty with cotangents": """
def penalty(critic, real, fake):
    x = (0.3 * real + 0.7 * fake).requires_grad_(True)
    value = critic(x)
    ones = torch.ones(value.size())
    slope = torch.autograd.grad(value, x, grad_outputs=ones, create_graph=True)[0]
    return ((slope.view(slope.size(0), -1).norm(2, dim=1) - 1) ** 2).mean()
"""
    + TAIL,
    "a penalty on the slope of a sum": """
def penalty(critic, real, fake):
    x = (0.3 * real + 0.7 * fake).requires_grad_(True)
    value = critic(x).sum()
    slope = torch.autograd.grad(value, x, create_graph=True)[0]
    return ((slope.norm(2, dim=1) - 1) ** 2).mean()
"""
    + TAIL,
    "a penalty of an object that is no module": """
class Trainer:
    def __init__(self, critic):
        self.critic = critic

    def score(self, x):
        return self.critic(x)

    def penalty(self, real, fake):
        x = (0.3 * real + 0.7 * fake).requires_grad_(True)
        value = self.score(x)
        value = value.mean() + self.critic.forward(x).mean()
        slope = torch.autograd.grad(value, x, create_graph=True)[0]
        return ((slope.norm(2, dim=1) - 1) ** 2).mean()


trainer = Trainer(critic)


def penalty(critic, real, fake):
    return trainer.penalty(real, fake)
"""
    + TAIL,
    "derivatives of derivatives, of a function that calls the module": """
def value_at(x, t):
    return critic(torch.cat([x, t], 1))


def residual(x, t):
    u = value_at(x, t)
    u_t = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)[0]
    u_x = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
    u_xx = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)[0]
    return u_t + (u * u_x).sum(1, keepdim=True) - 0.1 * u_xx.sum(1, keepdim=True)


t = (torch.cos(numbers(BATCH, 1)) * 8).requires_grad_(True)
x = (numbers(BATCH, SIZE - 1) * 8).requires_grad_(True)
for step in range(3):
    opt.zero_grad()
    loss = (residual(x, t) - 1).square().mean()
    loss.backward()
    opt.step()
    out.append(loss.item())
out += critic.norm.running_mean.tolist() + critic.norm.running_var.tolist()
""",
}


@pytest.mark.parametrize("size", [(3, 4), (5, 7)], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_statistics_move_once(name, size):
    text = (HEAD + PROGRAMS[name]).replace("SIZE", str(size[0])).replace("BATCH", str(size[1]))
    ours, theirs = both(text, "once")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=2e-5)


DROPPED = """
import torch
import torch.nn as nn

model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Dropout(0.5), nn.Linear(5, 1, bias=False))


def value_and_slope(x):
    x = x.requires_grad_(True)
    torch.rand(3)
    value = model(x)
    slope = torch.autograd.grad(value, x, torch.ones_like(value), create_graph=True)[0]
    return value[:, 0], (slope * x).sum(1), torch.rand(2)


out = [[part.tolist() for part in value_and_slope(torch.ones(BATCH, 6))] for _ in range(2)]
"""


@pytest.mark.parametrize("batch", [3, 8])
def test_the_slope_is_that_of_the_items_that_were_kept(batch):
    text = DROPPED.replace("BATCH", str(batch))
    ported = executed(torch2mlx.port(text).source, "dropped")
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    for out in (theirs["out"], ported.out):
        for value, slope, _ in out:
            np.testing.assert_allclose(value, slope, rtol=1e-4, atol=1e-6)
        assert out[0][0] != out[1][0] and out[0][2] != out[1][2]
