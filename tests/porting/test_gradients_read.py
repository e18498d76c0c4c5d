"""Gradients that scripts read behind a backward, for logs and norms, are torch's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")
import torch

import torch2mlx
from tests.porting.compare import executed, give_weights

LOGGED = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x.unsqueeze(1))).flatten(1))


def run(net, xs):
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    seen = []
    for i, x in enumerate(xs):
        x = torch.tensor(x)
        opt.zero_grad()
        loss = net(x).pow(2).sum()
        loss.backward()
        total = 0
        for p in net.parameters():
            if p.grad is not None:
                total += p.grad.data.norm(2).item() ** 2
        seen.append(total ** 0.5)
        seen.append(max(p.grad.abs().max().item() for p in net.parameters()))
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        opt.step()
        if i % 2 == 0:
            for tag, value in net.named_parameters():
                tag = tag.replace(".", "/")
                seen += value.grad.cpu().numpy().ravel().tolist()
                seen.append(len(tag))
        shapes = {n: tuple(q.grad.shape) for n, q in net.named_parameters() if q.grad is not None}
        seen += shapes["conv.weight"]
    return seen
"""


@pytest.mark.parametrize("batch", [1, 3])
def test_gradients_that_are_read_are_torchs(batch, tmp_path):
    made = torch2mlx.port(LOGGED)
    assert not made.unsupported
    theirs: dict = {}
    exec(LOGGED, theirs)
    ours = executed(made.source, "logged")
    net, twin = theirs["Net"](), ours.Net()
    give_weights(twin, net, tmp_path)
    xs = np.random.default_rng(0).standard_normal((5, batch, 4)).astype(np.float32)
    np.testing.assert_allclose(ours.run(twin, xs), theirs["run"](net, xs), rtol=1e-4, atol=1e-6)


TWO = """
import torch


def run(first, second, xs):
    one = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    seen = []
    for x in xs:
        one.zero_grad()
        loss = second(torch.tanh(first(torch.tensor(x)))).mean()
        loss.backward()
        one.step()
        seen.append(sum(p.grad.sum().item() for p in second.parameters()))
    return seen
"""


@pytest.mark.parametrize("batch", [1, 3])
def test_gradients_of_one_of_two_modules_are_read(batch, tmp_path):
    import mlx.nn as nn

    made = torch2mlx.port(TWO, answers={"run.first": "module", "run.second": "module"})
    assert not made.unsupported
    theirs: dict = {}
    exec(TWO, theirs)
    nets = [torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)]
    twins = [nn.Linear(4, 3), nn.Linear(3, 2)]
    for net, twin in zip(nets, twins, strict=True):
        give_weights(twin, net, tmp_path)
    xs = np.random.default_rng(0).standard_normal((3, batch, 4)).astype(np.float32)
    found = executed(made.source, "two").run(*twins, xs)
    np.testing.assert_allclose(found, theirs["run"](*nets, xs), rtol=1e-5)


@pytest.mark.parametrize(
    "lines",
    [
        "        opt.zero_grad()\n        seen += [p.grad for p in net.parameters()]",
        "        seen += [p.grad.mul_(2) for p in net.parameters()]\n        opt.step()",
        "        seen += [p.grad for p in other.parameters()]\n        opt.step()",
    ],
)
def test_gradients_that_are_gone_changed_or_of_others_are_refused(lines):
    head = LOGGED[: LOGGED.index("        total = 0")].replace(
        "run(net, xs)", "run(net, other, xs)"
    )
    made = torch2mlx.port(f"{head}{lines}\n    return seen\n")
    assert any(".grad" in str(left) for left in made.unsupported)
