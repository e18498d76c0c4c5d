"""`x.data` written where gradients are taken: weights get other numbers and keep their gradient,
values on the way to a loss are refused."""

import numpy as np
import pytest

from tests.porting.compare import both, executed
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import mlx.nn
import torch

import torch2mlx

NET = """
import torch
import torch.nn as nn

class Net(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, a * b).reshape(b, a))
        self.register_buffer("mask", torch.tril(torch.ones(b, a)))
        self.register_buffer("count", torch.zeros(1))
    def forward(self, x):
        {}
        self.count.data += 1
        return ((x @ self.weight.t()) ** 2).sum() * self.count.sum()
"""


@pytest.mark.parametrize(
    "line",
    [
        "self.weight.data *= self.mask",
        "self.weight.data.mul_(self.mask)",
        "self.weight.data = self.weight.data * self.mask",
        "self.weight.data.clamp_(-0.5, 0.3)",
    ],
)
def test_a_weight_that_forward_changes_keeps_its_gradient(line):
    text = NET.format(line)
    ported = torch2mlx.port(text)
    assert ported.ok, ported.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    module = executed(ported.source, "data_writes")
    for a, b, rows in ((3, 3, 2), (4, 2, 5)):
        x = torch.randn(rows, a)
        expected, ours = theirs["Net"](a, b), module.Net(a, b)
        for _ in range(2):  # the second pass goes on from what the first one wrote
            expected.zero_grad()
            loss = expected(x)
            loss.backward()
            found, gradients = mlx.nn.value_and_grad(ours, ours)(mx.array(x.numpy()))
            np.testing.assert_allclose(found.item(), loss.item(), rtol=1e-5)
            np.testing.assert_allclose(
                np.array(gradients["weight"]), expected.weight.grad.numpy(), rtol=1e-5, atol=1e-6
            )
            np.testing.assert_allclose(
                np.array(ours.weight), expected.weight.detach().numpy(), rtol=1e-6
            )


STEP = """
import torch
import torch.nn as nn

net = nn.Linear(3, 4)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x, y in [(torch.rand(2, 3), torch.rand(2, 4)) for _ in range(3)]:
    {}
    loss = ((out - y) ** 2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
REFUSED = """\
out = net(x); out.data.clamp_(0.1, 0.2)
out = net(x); out.data[0] = 0
out = net(x); out.data *= 2
out = net(x); out.data.copy_(y)
out = net(x); out.data = out.data.clamp(0.1, 0.2)
out = net(x); torch.mul(out.data, 2, out=out.data)
"""


@pytest.mark.parametrize("body", REFUSED.splitlines())
def test_a_value_that_is_changed_before_its_loss_is_refused(body):
    ported = torch2mlx.port(STEP.format(body.replace("; ", "\n    ")))
    assert "past autograd" in ported.unsupported[0].detail


@pytest.mark.parametrize(
    "body", ["x.data.clamp_(0.4, 0.6); out = net(x)", "x.data[0] = 1; out = net(x)"]
)
def test_an_input_that_is_changed_first_is_not(body):
    assert torch2mlx.port(STEP.format(body.replace("; ", "\n    "))).ok


ALIASED = """\
out = net(x); h = out.data; h.clamp_(0.1, 0.2)
out = net(x); h = out.detach(); h[0] = 0
out = net(x); h = out.data[0]; h *= 2
"""


@pytest.mark.parametrize("body", ALIASED.splitlines())
def test_a_view_of_it_that_is_changed_before_its_loss_is_refused(body):
    ported = torch2mlx.port(STEP.format(body.replace("; ", "\n    ")))
    assert "is a view of `out`" in ported.unsupported[0].detail


@pytest.mark.parametrize(
    "body",
    [
        "out = net(x); h = out.detach().clone(); h[0] = 0",
        "h = x.detach() * 2; h[0] = 1; out = net(x)",
    ],
)
def test_what_is_no_view_of_it_is_not(body):
    assert torch2mlx.port(STEP.format(body.replace("; ", "\n    "))).ok


UNRECORDED = """
import torch
import torch.nn as nn

def train(rows, a):
    net = nn.Linear(a, 2)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-1, 1, 2 * a).reshape(2, a))
        net.bias.fill_(0.25)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for step in range(4):
        x = torch.linspace(-1, 2, rows * a).reshape(rows, a) + step
        out = net(x)
        with torch.no_grad():
            {}
        loss = ((out - 1) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses
"""


@pytest.mark.parametrize("line", ["out *= 0.5", "out /= x.sum()", "out -= 0.5", "out.mul_(0.5)"])
@pytest.mark.parametrize("rows,a", [(3, 4), (5, 2)])
def test_a_result_that_is_changed_without_gradients_keeps_its_own(line, rows, a):
    module, theirs = both(UNRECORDED.format(line), "unrecorded")
    expected = theirs["train"](rows, a)
    np.testing.assert_allclose(module.train(rows, a), expected, rtol=1e-4)
    assert expected[0] != expected[-1]


TRAINED = """
import torch
import torch.nn as nn
import torch.nn.functional as F

net = nn.Linear(3, 2)
with torch.no_grad():
    net.weight.copy_(torch.sin(torch.arange(6.0)).view(2, 3))
    net.bias.zero_()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
OUT = []
for i in range(3):
    x = torch.cos(torch.arange(3.0 * ROWS) + i).view(ROWS, 3)
    y = torch.sin(x[:, :2] * 2)
    loss = torch.zeros(())
LINES
    opt.zero_grad()
    loss.backward()
    opt.step()
    OUT.append(loss.item())
"""
PAST = (
    *("out[:, 0] = y[:, 0]", "out[0] = 3.0", "out[...] = y", "out[[0, 1]] = y[:2]"),
    *("out[:, 0] *= 3", "out[:, 0] += y[:, 0]", "out[out > 0] = 0.5", "out[out > 0] *= 0.5"),
    "out[0][1] = 2.0",
)


@pytest.mark.parametrize("rows", [2, 4])
def test_the_gradient_goes_on_past_parts_that_no_grad_writes(rows):
    lines = ""
    for i, line in enumerate(PAST):
        name = f"out{i}"
        lines += f"    {name} = net(x)\n    with torch.no_grad():\n"
        lines += (
            f"        {line.replace('out', name)}\n    loss = loss + F.mse_loss({name}, y * 2)\n"
        )
    lines += (
        "    seen = net(x + 1)\n    seen.detach_()\n    loss = loss + F.mse_loss(net(x), seen)\n"
    )
    ours, theirs = both(TRAINED.replace("LINES", lines).replace("ROWS", str(rows)), "past")
    np.testing.assert_allclose(ours.OUT, theirs["OUT"], rtol=1e-5)
    np.testing.assert_allclose(
        np.array(ours.net.weight), theirs["net"].weight.detach(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "line",
    [
        "with torch.no_grad():\n        out[0], out[1] = y[0], y[1]",
        "with torch.no_grad():\n        out[0] = out[1] = y[0]",
        "held = out\n    held.detach_()",
        "for one in [out]:\n        one.detach_()",
    ],
)
def test_what_is_cut_off_or_written_under_several_names_is_refused(line):
    lines = f"    out = net(x)\n    {line}\n    loss = F.mse_loss(out, y) + F.mse_loss(net(x), y)\n"
    left = torch2mlx.port(TRAINED.replace("LINES", lines).replace("ROWS", "2")).unsupported
    assert any("detach()" in one.reason for one in left)
