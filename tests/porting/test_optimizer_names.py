"""Names that are given one optimizer here and another one there: each trains its own modules."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")


import torch2mlx
from tests.porting.compare import assert_trains_alike

HEAD = """
import torch
import torch.nn as nn

net, head = nn.Linear(4, 3), nn.Linear(3, 1)
"""
STEP = """
{pad}for x in torch.tensor(xs):
{pad}    {opt}.zero_grad()
{pad}    loss = {loss}
{pad}    loss.backward()
{pad}    {opt}.step()
"""
NET, BOTH = "(net(x) - 1).square().mean()", "(head(net(x)) - 1).square().mean()"


def step(opt: str, loss: str, pad: int) -> str:
    return STEP.format(opt=opt, loss=loss, pad=" " * pad)


FUNCTIONS = (
    HEAD
    + "\n\ndef first(net, xs):\n    opt = torch.optim.SGD(net.parameters(), lr=0.1)"
    + step("opt", NET, 4)
    + "\n\ndef second(net, head, xs):\n"
    + "    opt = torch.optim.SGD(list(net.parameters()) + list(head.parameters()), lr=0.1)"
    + step("opt", BOTH, 4)
    + "\n\ndef train(xs):\n    first(net, xs)\n    second(net, head, xs)\n"
)
GLOBAL = (
    HEAD
    + "\n\ndef first(net, xs):\n    opt = torch.optim.SGD(net.parameters(), lr=0.1)"
    + step("opt", NET, 4)
    + "\n\nopt = torch.optim.SGD(list(head.parameters()) + list(net.parameters()), lr=0.1)\n"
    + "\n\ndef train(xs):\n    first(net, xs)"
    + step("opt", BOTH, 4)
)
CLASSES = (
    HEAD
    + "\n\nclass First:\n    def __init__(self, net):\n        self.net = net\n"
    + "        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.1)\n"
    + "\n    def train(self, xs):"
    + step("self.opt", "(self.net(x) - 1).square().mean()", 8)
    + "\n\nclass Second:\n    def __init__(self, net, head):\n"
    + "        self.net, self.head = net, head\n"
    + "        both = list(net.parameters()) + list(head.parameters())\n"
    + "        self.opt = torch.optim.SGD(both, lr=0.1)\n"
    + "\n    def train(self, xs):"
    + step("self.opt", "(self.head(self.net(x)) - 1).square().mean()", 8)
    + "\n\none, two = First(net), Second(net, head)\n"
    + "\n\ndef train(xs):\n    one.train(xs)\n    two.train(xs)\n"
)


AGAIN = HEAD + "\n\ndef train(xs):\n    opt = {}{}\n    opt = {}{}"
OF_NET = "torch.optim.SGD(net.parameters(), lr=0.1)"
OF_BOTH = "torch.optim.SGD(list(net.parameters()) + list(head.parameters()), lr=0.1)"
ONE_THEN_BOTH = AGAIN.format(OF_NET, step("opt", NET, 4), OF_BOTH, step("opt", BOTH, 4))
BOTH_THEN_ONE = AGAIN.format(OF_BOTH, step("opt", BOTH, 4), OF_NET, step("opt", BOTH, 4))
SAME = AGAIN.format(OF_NET, step("opt", NET, 4), OF_NET, step("opt", BOTH, 4))
ARGUMENT = (
    HEAD
    + "\n\ndef fit(model, opt, xs):"
    + step("opt", "(model(x) - 1).square().mean()", 4).replace(
        "torch.tensor(xs)", "torch.as_tensor(xs)"
    )
    + f"\n\nopt = {OF_NET}\nfit(net, opt, torch.ones(2, 3, 4))\n"
    + "opt = torch.optim.SGD(head.parameters(), lr=0.1)\nfit(head, opt, torch.ones(2, 3, 3))\n"
    + f"\n\ndef train(xs):\n    fit(net, {OF_NET}, xs)\n"
)


TEXTS = {
    "functions": FUNCTIONS,
    "a global": GLOBAL,
    "classes": CLASSES,
    "an argument": ARGUMENT,
    "one name": ONE_THEN_BOTH,
    "one name for fewer": BOTH_THEN_ONE,
    "one name for the same": SAME,
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_optimizer_trains_what_it_is_made_of_where_it_is_made(name, tmp_path):
    assert_trains_alike(TEXTS[name], "optimizer_names", tmp_path)


LATER = """

def train(xs, more):
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    if more:
        opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
"""
CHOSEN = """

def train(xs, more):
    if more:
        params = head.parameters()
    else:
        params = list(net.parameters()) + list(head.parameters())
    opt = torch.optim.SGD(params, lr=0.1)
"""
CALLED = """
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def learn(loss):
    opt.zero_grad()
    loss.backward()
    opt.step()


opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
"""


@pytest.mark.parametrize(
    "text",
    [
        HEAD + LATER + step("opt", BOTH, 4),
        HEAD + CHOSEN + step("opt", BOTH, 4),
        HEAD + CALLED + "\n\ndef train(xs):" + step("opt", BOTH, 4),
    ],
    ids=["in a branch", "by its parameters", "read by functions"],
)
def test_a_name_that_may_hold_either_of_two_optimizers_is_refused(text):
    reasons = [u.reason for u in torch2mlx.port(text).unsupported]
    assert any("of some modules or of others" in r for r in reasons)


def test_parameters_that_an_optimizer_gets_later_are_refused():
    text = (
        HEAD
        + LATER.partition("    if more")[0]
        + '    opt.add_param_group({"params": head.parameters()})'
    )
    reasons = [u.reason for u in torch2mlx.port(text + step("opt", BOTH, 4)).unsupported]
    assert any("add_param_group" in r for r in reasons)
