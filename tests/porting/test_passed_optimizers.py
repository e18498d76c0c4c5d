"""Whose parameters an optimizer moves that a function is given; what hooks keep for a loss."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx
from tests.porting.test_steps import batches, both

HEAD = """
import torch
import torch.nn as nn
one, two = nn.Linear(3, 3), nn.Linear(3, 3)
first, second = torch.optim.SGD(one.parameters(), 0.1), torch.optim.SGD(two.parameters(), 0.3)
"""
#: A function `run(xs)` of a list of (4, 3) arrays, which gives a list of numbers.
RUNS = {
    "two optimizers, by their places and by name": """
def train(a, b, oa, *, ob, x):
    oa.zero_grad()
    ob.zero_grad()
    loss = (b(a(x)) - x).pow(2).mean()
    loss.backward()
    oa.step()
    ob.step()
    return loss.item()
def run(xs):
    return [train(one, two, first, ob=second, x=x) for x in xs]
""",
    "one of two modules is trained": """
def train(net, frozen, x, optimizer):
    optimizer.zero_grad()
    loss = (net(x) - frozen(x)).pow(2).mean()
    loss.backward()
    optimizer.step()
    return loss.item()
def run(xs):
    return [train(one, two, x, first) for x in xs]
""",
    "an object keeps them": """
class Trainer:
    def __init__(self, net, frozen, optimizer):
        self.net, self.frozen = net, frozen
        self.optimizer = optimizer
    def run(self, x):
        self.optimizer.zero_grad()
        loss = (self.frozen(self.net(x)) - x).pow(2).mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()
def run(xs):
    trainer = Trainer(one, two, torch.optim.SGD(one.parameters(), lr=0.1))
    return [trainer.run(x) for x in xs]
""",
    "a function makes two at once": """
def made(a, b):
    o = torch.optim.SGD(a.parameters(), lr=0.1)
    return o, torch.optim.SGD(b.parameters(), lr=0.2)
def run(xs):
    out = []
    oa, ob = made(one, two)
    for x in xs:
        loss = (two(one(x)) - x).pow(2).mean()
        oa.zero_grad()
        ob.zero_grad()
        loss.backward()
        ob.step()
        oa.step()
        out.append(loss.item())
    return out
""",
    "a layer of a Sequential alone": """
both = nn.Sequential(one, nn.Tanh(), two)
last = torch.optim.SGD(both[2].parameters(), lr=0.2)
def run(xs):
    out = []
    for x in xs:
        loss = (both(x) - x).pow(2).mean()
        last.zero_grad()
        loss.backward()
        last.step()
        out.append(loss.item())
    return out
""",
    "layers of a module's Sequential in groups": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(one, nn.Tanh(), two)
    def forward(self, x):
        return self.body(x)
net = Net()
groups = [{"params": net.body[0].parameters()}, {"params": net.body[2].parameters(), "lr": 0.3}]
parts = torch.optim.SGD(groups, lr=0.1)
def run(xs):
    out = []
    for x in xs:
        loss = (net(x) - x).pow(2).mean()
        parts.zero_grad()
        loss.backward()
        parts.step()
        out.append(loss.item())
    return out
""",
    "a hook keeps what a loss is made of": """
kept = {}
def keeps(name):
    def hook(module, given, answer):
        kept[name] = answer
    return hook
handle = two.register_forward_hook(keeps("two"))
def run(xs):
    out = []
    for x in xs:
        first.zero_grad()
        found = two(one(x))
        size = sum(value.abs().mean() for value in kept.values())
        loss = found.pow(2).mean() + size
        loss.backward()
        first.step()
        out.append(loss.item())
    return out
""",
    "an object's hook keeps it, and nothing else of the call is read": """
class Saved:
    def __init__(self, module):
        self.handle = module.register_forward_hook(self.hook)
    def hook(self, module, given, answer):
        self.answer = answer
saved = Saved(two)
def run(xs):
    out = []
    for x in xs:
        first.zero_grad()
        two(one(x))
        loss = saved.answer.pow(2).mean()
        loss.backward()
        first.step()
        out.append(loss.item())
    return out
""",
}


@pytest.mark.parametrize("name", RUNS)
def test_what_an_optimizer_is_of_and_nothing_else_is_trained(name, tmp_path):
    theirs, ours, _ = both(HEAD + RUNS[name], tmp_path, ("one", "two"))
    xs, ys = batches(3)
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    for net in ("one", "two"):
        weight = getattr(theirs, net).weight.detach().numpy()
        assert np.allclose(weight, np.array(getattr(ours, net).weight), atol=1e-5)


def test_which_of_two_modules_an_unknown_optimizer_trains_is_not_guessed():
    """Calls that do not agree, and no call at all."""
    text = HEAD + RUNS["one of two modules is trained"]
    for more in ("train(two, one, one, first)", "train(one, two, one, given())"):
        made = torch2mlx.port(f"{text}\n{more}\n")
        assert next(u.reason for u in made.unsupported) == (
            "which of net, frozen optimizer trains is not seen here: make it in this function, or "
            "in the file that calls this function, from the modules that the call gives"
        )


@pytest.mark.parametrize("start", ["torch.Tensor([0])", "torch.zeros(1)", "torch.tensor([0.0])"])
def test_a_loss_of_the_shape_of_one_item_is_differentiated(start, tmp_path):
    text = f"""
def run(xs):
    out = []
    for x in xs:
        first.zero_grad()
        loss = {start}
        for row in x:
            loss += one(row).pow(2).mean()
        loss.backward()
        first.step()
        out.append(loss.item())
    return out
"""
    theirs, ours, _ = both(HEAD + text, tmp_path, ("one",))
    xs, ys = batches(3)
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    assert np.allclose(theirs.one.weight.detach().numpy(), np.array(ours.one.weight), atol=1e-5)
