"""Buffers of a module that a script walks over, and what a loss scaler says of itself."""

import numpy as np

from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from tests.porting.compare import executed
from tests.porting.test_steps import both

SCRIPT = """
import copy
import torch
import torch.nn as nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("scale", torch.ones(4))
    def forward(self, x):
        return self.norm(self.fc(x)) * self.scale
class Average:
    def __init__(self, net):
        self.net = copy.deepcopy(net)
        self.net.eval()
    @torch.no_grad()
    def update(self, net):
        for mine, theirs in zip(self.net.parameters(), net.parameters()):
            mine.mul_(0.5).add_(theirs, alpha=0.5)
        for mine, theirs in zip(self.net.buffers(), net.buffers()):
            mine.copy_(theirs)
model = Net()
def run(xs):
    average = Average(model)
    model.scale.add_(1)
    for x in xs:
        model(x)
        average.update(model)
    return average.net(xs[0])
"""


def test_buffers_are_copied_as_in_torch(tmp_path):
    theirs, ours, made = both(SCRIPT, tmp_path)
    assert "kit.training.buffers(net)" in made
    for size in (2, 5):
        drawn = np.random.RandomState(size).randn(3, size, 3).astype(np.float32)
        expected = theirs.run([torch.from_numpy(x) for x in drawn]).detach()
        np.testing.assert_allclose(ours.run([mx.array(x) for x in drawn]), expected, atol=1e-5)


def test_what_a_loss_scaler_answers_is_that_of_a_disabled_one():
    source = """
import torch
scaler = torch.amp.GradScaler("cpu", enabled=False)
told = [scaler.get_scale(), scaler.is_enabled(), scaler.state_dict()]
"""
    theirs, ours = (executed(s, "scaler") for s in (source, torch2mlx.port(source).source))
    assert theirs.told == ours.told == [1.0, False, {}]
