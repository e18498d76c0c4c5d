"""Gradients that one optimizer's backward leaves to another one's step, as torch keeps them."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import numpy as np

import torch2mlx
from tests.porting.compare import executed

HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F

G, D = nn.Linear(3, 4), nn.Linear(4, 1)


def start(gw, gb, dw, db):
    with torch.no_grad():
        G.weight.copy_(torch.tensor(gw))
        G.bias.copy_(torch.tensor(gb))
        D.weight.copy_(torch.tensor(dw))
        D.bias.copy_(torch.tensor(db))


g = torch.optim.{optimizer}(G.parameters(), lr=0.05)
d = torch.optim.{optimizer}(D.parameters(), lr=0.05)


def train(data, noise):
    data, noise = torch.tensor(data), torch.tensor(noise)
    {begin}
    for i in range(data.shape[0]):
{body}
    return G.weight, G.bias, D.weight, D.bias
"""

ONE = "one = F.softplus(-D(data[i])).mean() + F.softplus(D(G(noise[i]))).mean()"
TWO = "two = F.softplus(-D(torch.tanh(G(noise[i])))).mean()"
OTHER = "two = F.softplus(-D(torch.tanh(data[i]))).mean()"

WAYS = {
    "both are zeroed before": f"g.zero_grad(); d.zero_grad(); {ONE}; one.backward(); d.step(); "
    f"{TWO}; two.backward(); g.step()",
    "each is zeroed behind its step": f"{ONE}; one.backward(); d.step(); d.zero_grad(); {TWO}; "
    "two.backward(); g.step(); g.zero_grad()",
    "both step, then one": f"{ONE}; one.backward(); d.step(); g.step(); d.zero_grad(); "
    f"g.zero_grad(); {TWO}; two.backward(); g.step(); D.zero_grad(); G.zero_grad()",
    "one keeps what both were given": f"{ONE}; one.backward(); g.step(); d.step(); g.zero_grad(); "
    f"{TWO}; two.backward(); d.step(); g.zero_grad(); d.zero_grad()",
    "one is zeroed now and then": f"g.zero_grad(); {ONE}; one.backward(); g.step(); d.step()\n"
    "if i % 2: d.zero_grad()",
    "clipped": f"g.zero_grad(); d.zero_grad(); {ONE}; one.backward(); "
    f"nn.utils.clip_grad_norm_(D.parameters(), 0.05); d.step(); {TWO}; two.backward(); "
    "nn.utils.clip_grad_norm_(G.parameters(), 0.05); g.step()",
    "what was made is looked at behind the step": "g.zero_grad(); d.zero_grad(); "
    f"fake = G(noise[i]); one = F.softplus(D(fake)).mean(); one.backward(); d.step(); {TWO}; "
    "two.backward(); g.step(); size = fake.data[:1].abs().max().item(); assert size < 9",
    "a backward that leaves one out": f"d.zero_grad(); g.zero_grad(); {ONE}; one.backward(); "
    f"g.step(); d.step(); g.zero_grad(); {OTHER}; two.backward(); g.step(); d.step()",
}


def script(way: str, optimizer: str, begin: str = "G.zero_grad(); D.zero_grad()") -> str:
    lines = way.replace("; ", "\n").split("\n")
    body = "\n".join(f"        {x}" for x in lines)
    return HEAD.format(optimizer=optimizer, begin=begin.replace("; ", "\n    "), body=body)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_takes_what_every_backward_left(way, optimizer):
    text = script(WAYS[way], optimizer)
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    ported = torch2mlx.port(text)
    assert ported.ok, ported.unsupported
    ours = executed(ported.source, "shared_gradients")
    draws = np.random.default_rng(0)
    for updates, batch in ((3, 2), (4, 5)):
        shapes = [(4, 3), (4,), (1, 4), (1,)]
        weights = [draws.standard_normal(s).astype(np.float32) for s in shapes]
        data = draws.standard_normal((updates, batch, 4)).astype(np.float32)
        noise = draws.standard_normal((updates, batch, 3)).astype(np.float32)
        theirs["start"](*weights)
        ours.start(*weights)
        expected, got = theirs["train"](data, noise), ours.train(data, noise)
        for one, other in zip(expected, got, strict=True):
            np.testing.assert_allclose(np.array(other), one.detach().numpy(), 1e-4, 1e-5)


def test_a_call_that_would_step_by_what_the_call_before_left_is_refused():
    ported = torch2mlx.port(script(WAYS["each is zeroed behind its step"], "SGD", "pass"))
    assert any("by which the next call steps" in u.reason for u in ported.unsupported)
    assert torch2mlx.port(script(WAYS["both are zeroed before"], "SGD", "pass")).ok


def test_a_module_and_a_part_of_it_share_no_gradients():
    ported = torch2mlx.port(PARTS)
    assert {u.line for u in ported.unsupported} == {21, 24}


APART = """
import torch
import torch.nn as nn

G, D = nn.Linear(3, 4), nn.Linear(4, 1)
g = torch.optim.SGD(G.parameters(), lr=0.05)
d = torch.optim.SGD(D.parameters(), lr=0.05)


def train_d(x):
    d.zero_grad()
    loss = D({fake}).mean()
    loss.backward()
    d.step()


def train_g(x):
    {before}
    loss = D(G(x)).mean()
    loss.backward()
    g.step()
    {behind}
"""


@pytest.mark.parametrize(
    "fake, before, behind, left",
    [
        ("G(x)", "pass", "g.zero_grad()", True),
        ("G(x)", "g.zero_grad()", "pass", False),
        ("G(x).detach()", "pass", "g.zero_grad()", False),
    ],
)
def test_what_is_left_to_a_step_of_another_function_is_refused(fake, before, behind, left):
    ported = torch2mlx.port(APART.format(fake=fake, before=before, behind=behind))
    assert [u.line for u in ported.unsupported] == ([13] if left else [])


PARTS = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(3, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.base(x))


net = Net()
whole = torch.optim.SGD(net.parameters(), lr=0.05)
part = torch.optim.SGD(net.head.parameters(), lr=0.05)
for x in torch.ones(3, 2, 3):
    one = net(x).mean()
    one.backward()
    whole.step()
    two = net(x).square().mean()
    two.backward()
    part.step()
    whole.zero_grad()
"""
