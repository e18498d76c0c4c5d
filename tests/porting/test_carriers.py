"""Names that hold what uses a module: a closure, an alias, a wrapper, a list of modules."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import numpy as np

import torch2mlx
from tests.porting.compare import executed, give_weights

TEXT = """
import functools
import torch
import torch.nn as nn


def made(m):
    def inner(v):
        return torch.tanh(m(v))

    return inner


class Wrapper:
    def __init__(self, m):
        self.m = m

    def encode(self, v):
        return torch.tanh(self.m(v))


class Wrapped(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, v):
        return torch.tanh(self.m(v))


net = nn.Linear(4, 3)
head = nn.Linear(3, 1)
{}


def train(xs, net, head):
    opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
    {}
    losses = []
    for x in torch.tensor(xs):
        opt.zero_grad()
        out = {}
        loss = head(out).square().mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses
"""
FORMS = {
    "alias": ("m = net", "m(x)"),
    "compiled": ("m = torch.compile(net)", "m(x)"),
    "closure": ("f = made(net)", "f(x)"),
    "lambda": ("f = lambda v: torch.tanh(net(v))", "f(x)"),
    "lambda handed on": ("f = lambda v: torch.tanh(net(v))", "sum(map(f, [x, x]))"),
    "function": ("def f(v):\n        return torch.tanh(net(v))", "f(x)"),
    "functions": ("def g(v):\n        return net(v)\n    def f(v):\n        return g(v)", "f(x)"),
    "partial": ("f = functools.partial(net)", "f(x)"),
    "object": ("w = Wrapper(net)", "w.encode(x)"),
    "module": ("w = Wrapped(net)", "w(x)"),
    "sequence": ("w = nn.Sequential(net, nn.Tanh())", "w(x)"),
    "dict": ("nets = {'a': net}", "nets['a'](x)"),
    "list": ("nets = [net, nn.Tanh()]", "nets[1](nets[0](x))"),
    "appended": ("nets = []\n    nets.append(net)", "nets[0](x)"),
    "reduced": ("nets = [net]", "functools.reduce(lambda v, m: m(v), nets, x)"),
}


@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_what_uses_a_module_leads_to_its_weights(form, of_file, tmp_path):
    given, called = FORMS[form]
    around = (given.replace("\n    ", "\n"), "pass") if of_file else ("", given)
    if of_file and "def " in given:
        around = (given.replace("\n    ", "\n"), "pass")
    text = TEXT.format(*around, called)
    theirs: dict = {"__name__": "in_torch"}
    exec(text.replace("torch.compile(net)", "net"), theirs)
    ported = torch2mlx.port(text)
    assert ported.ok, ported.unsupported
    ours = executed(ported.source, "carriers")
    for name in ("net", "head"):
        give_weights(getattr(ours, name), theirs[name], tmp_path)
    draws = np.random.default_rng(0)
    for updates, batch in ((3, 2), (2, 5)):
        xs = draws.standard_normal((updates, batch, 4)).astype(np.float32)
        got = ours.train(xs, ours.net, ours.head)
        expected = theirs["train"](xs, theirs["net"], theirs["head"])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    for name in ("net", "head"):
        for key, expected in theirs[name].named_parameters():
            got = np.array(getattr(ours, name)[key])
            np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
