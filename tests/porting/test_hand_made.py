"""Parameters that no module holds: in lists of optimizers, in steps by hand, in dicts."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import numpy as np

import torch2mlx
from tests.porting.compare import executed

START = """
import itertools
import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd import Variable

draws = np.random.default_rng(0)


def numbers(*shape):
    return draws.standard_normal(shape).astype(np.float32)
"""

TWO_LISTS = """
def started(size):
    return Variable(torch.tensor(numbers(*size)) * 0.3, requires_grad=True)


V = started([3, 4])
c = Variable(torch.zeros(4), requires_grad=True)
W = started([4, 1])
b = torch.zeros(1, requires_grad=True)


def G(z):
    return torch.tanh(z @ V + c)


def D(x):
    return x @ W + b.repeat(x.size(0), 1)


G_params = [V, c]
D_params = [W, b]
params = G_params + D_params
G_solver = torch.optim.{0}(G_params, lr=0.05)
D_solver = torch.optim.{0}(D_params, lr=0.05)


def reset_grad():
    for p in params:
        {1}


def train(xs):
    losses = []
    for x in torch.tensor(xs):
        d_loss = (D(torch.cat([x, x[:, :1]], 1)) - 1).square().mean() + D(G(x)).square().mean()
        d_loss.backward()
        D_solver.step()
        reset_grad()
        g_loss = (D(G(x)) - 1).square().mean()
        g_loss.backward()
        G_solver.step()
        reset_grad()
        losses += [d_loss.item(), g_loss.item()]
    return losses + [v.sum().item() for v in (V * 1, c * 1, W * 1, b * 1)]
"""
ZEROS = {
    "None": "p.grad = None",
    "in place": "if p.grad is not None:\n            p.grad.data.zero_()",
    "new": "if p.grad is not None:\n"
    "            p.grad = Variable(p.grad.data.new(p.size()).zero_())",
    "of data": "if p.grad is not None:\n            data = p.grad.data\n"
    "            p.grad = Variable(data.new().resize_as_(data).zero_())",
}

BY_HAND = """
{made}


def train(xs):
    global W, b
    losses = []
    for x in torch.tensor(xs):
        loss = (x @ W + b - 1).square().mean()
        loss.backward()
        {step}
        losses.append(loss.item())
    return losses + [W.sum().item(), b.sum().item()]
"""
MADE = """W = torch.tensor(numbers(3, 2), requires_grad=True)
b = torch.zeros(2, requires_grad=True)
params = [W, b]"""
LATER = """W = torch.tensor(numbers(3, 2))
b = torch.zeros(2)
params = [W, b]
for p in params:
    p.requires_grad = True"""
STEPS = {
    "loop": "with torch.no_grad():\n            for p in params:\n"
    "                p -= 0.1 * p.grad\n                p.grad.zero_()",
    "loop over data": "for p in params:\n            p.data += -0.1 * p.grad\n"
    "        for p in params:\n            p.grad = None",
    "listed": "for p in [W, b]:\n            p.data.sub_(0.1 * p.grad.data)\n"
    "            p.grad.data.zero_()",
    "lines": "with torch.no_grad():\n            W -= 0.1 * W.grad\n            b -= 0.1 * b.grad\n"
    "            W.grad.zero_()\n            b.grad = None",
    "added": "W.data.add_(-0.1 * W.grad.data)\n        b.data.add_(b.grad.data, alpha=-0.1)\n"
    "        W.grad.data.zero_()\n        b.grad.data.zero_()",
    "set": "W.data = W.data - 0.1 * W.grad\n        b.data = b.data - 0.1 * b.grad\n"
    "        W.grad, b.grad = None, None",
    "made anew": "W = (W - 0.1 * W.grad).detach().requires_grad_(True)\n"
    "        b = (b - 0.1 * b.grad).detach().requires_grad_()",
    "made anew, then flagged": "with torch.no_grad():\n            W = W - 0.1 * W.grad\n"
    "            b = b - 0.1 * b.grad\n        W.requires_grad_()\n        b.requires_grad = True",
    "function": "sgd([W, b], 0.1)",
    "function of a list": "sgd(params, 0.1)",
}
SGD = """
def sgd(given, lr):
    with torch.no_grad():
        for p in given:
            p -= lr * p.grad
            p.grad.zero_()
"""

HELD = """
{made}
optimizer = torch.optim.{optimizer}


def train(xs):
    losses = []
    for x in torch.tensor(xs):
        loss = (net(x, params) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
"""
FUNCTION = """
def get_params(n):
    W = (torch.tensor(numbers(3, n)) * 0.5).requires_grad_()
    b = torch.zeros(n, requires_grad=True)
    return {}


def net(x, params):
    W, b = params
    return x @ W + b


params = get_params(2)
"""
DICT = """
params = {
    "W": torch.tensor(numbers(3, 2), requires_grad=True),
    "b": torch.zeros(2, requires_grad=True),
}


def net(x, params):
    return x @ params["W"] + params["b"]
"""


def compared(text, sizes=((3, 2), (2, 5))):
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    ported = torch2mlx.port(text)
    assert ported.ok, ported.unsupported
    ours = executed(ported.source, "hand_made")
    draws = np.random.default_rng(1)
    for updates, batch in sizes:
        xs = draws.standard_normal((updates, batch, 3)).astype(np.float32)
        got, expected = ours.train(xs), theirs["train"](xs)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("zero", ZEROS)
def test_lists_of_free_parameters_train_by_optimizers_of_their_own(optimizer, zero):
    compared(START + TWO_LISTS.format(optimizer, ZEROS[zero]))


@pytest.mark.parametrize("made", [MADE, LATER], ids=["made", "flagged later"])
@pytest.mark.parametrize("step", STEPS)
def test_free_parameters_are_stepped_by_hand(step, made):
    if "params" not in STEPS[step]:
        made = MADE.replace("\nparams = [W, b]", "")
    function = SGD if "sgd(" in STEPS[step] else ""
    compared(START + function + BY_HAND.format(made=made, step=STEPS[step]))


@pytest.mark.parametrize("answer", ["[W, b]", "W, b"])
def test_what_a_function_answers_is_trained(answer):
    made = FUNCTION.format(answer)
    compared(START + HELD.format(made=made, optimizer="Adam(params, lr=0.05)"))


def test_what_a_dict_holds_is_trained():
    compared(START + HELD.format(made=DICT, optimizer="SGD(params.values(), lr=0.1, momentum=0.9)"))


@pytest.mark.parametrize("zeroed", ["", "\n            W.grad.zero_()"])
def test_gradients_that_are_never_zeroed_add_up(zeroed):
    step = "with torch.no_grad():\n            W -= 0.1 * W.grad\n            b -= 0.1 * b.grad"
    step += zeroed
    made = MADE.replace("\nparams = [W, b]", "")
    text = START + BY_HAND.format(made=made, step=step)
    if zeroed:
        assert any("gradients" in u.reason for u in torch2mlx.port(text).unsupported)
        return
    compared(text)
    text = text.replace("def train(xs):", "def trained(xs):")
    text += (
        "\n\nxs = numbers(4, 2, 3)\nlosses = trained(xs)\n\n\ndef train(xs):\n    return losses\n"
    )
    compared(text)


UNREACHED = """
W = torch.tensor(numbers(3, 2), requires_grad=True)
b = torch.tensor(numbers(2), requires_grad=True)
optimizer = torch.optim.Adam([W, b], lr=0.05)


def train(xs):
    losses = []
    for i, x in enumerate(torch.tensor(xs)):
        {}
        loss = ((x @ W + b - 1) if i % 2 == 0 else (x @ W - 1)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses + [W.sum().item(), b.sum().item()]
"""
EMPTIED = {
    "zero_grad": "optimizer.zero_grad()",
    "None": "for p in [W, b]:\n            p.grad = None",
    "zeros": "optimizer.zero_grad(set_to_none=False)",
    "zeros by hand": "for p in [W, b]:\n            if p.grad is not None:\n"
    "                p.grad.zero_()",
}


@pytest.mark.parametrize("emptied", EMPTIED)
def test_a_parameter_that_a_loss_leaves_out_is_stepped_by_a_zero_alone(emptied):
    compared(START + UNREACHED.format(EMPTIED[emptied]))


HELD_TOO = {
    "another name": "V = W",
    "a default": "def f(x, w=W):\n    return x @ w",
    "a list": "kept = [W for _ in range(2)]",
    "a function": "kept = []\ndef keep(w):\n    kept.append(w)\nkeep(W)",
}


@pytest.mark.parametrize("held", HELD_TOO)
def test_a_free_parameter_that_something_else_holds_is_refused(held):
    text = START + MADE + "\n" + HELD_TOO[held] + "\n"
    text += "optimizer = torch.optim.SGD(params, lr=0.1)\n"
    text += "for _ in range(2):\n    loss = (torch.ones(2, 3) @ W + b).square().mean()\n"
    text += "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    ported = torch2mlx.port(text)
    assert any("no module holds" in u.reason for u in ported.unsupported), ported.source
