"""Functions that only zero, take or apply gradients: what they do is done where they are called."""

import numpy as np
import pytest

from tests.porting.test_steps import batches, both
from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx

HEAD = """
import torch
import torch.nn as nn

torch.manual_seed(0)
model, other = nn.Linear(3, 3), nn.Linear(3, 1)
opt = torch.optim.Adam(model.parameters(), lr=0.01)
last = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.5)
"""
RUNS = {
    "both optimizers are reset by a function": """
def reset():
    opt.zero_grad()
    last.zero_grad()

def run(xs):
    out = []
    for x in xs:
        reset()
        loss = other(model(x)).pow(2).mean()
        loss.backward()
        opt.step()
        reset()
        second = (other(model(x)) - 1).pow(2).mean()
        second.backward()
        last.step()
        out += [loss.item(), second.item()]
    return out
""",
    "a function takes the gradient, clips it and steps": """
def learn(loss, optimizer, most=0.1):
    \"\"\"One step.\"\"\"
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), most)
    optimizer.step()

def run(xs):
    out = []
    for x in xs:
        y = model(x)
        loss = y.pow(2).mean()
        learn(loss, opt)
        out.append(loss.item())
    return out
""",
    "a loop over the optimizers": """
def run(xs):
    out = []
    for x in xs:
        loss = other(model(x)).pow(2).mean()
        for optimizer in (opt, last):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (opt, last):
            optimizer.step()
        out.append(loss.item())
    return out
""",
    "a function that loops over a list": """
nets = [model, other]

def reset():
    for net in nets:
        net.zero_grad()

def run(xs):
    out = []
    for x in xs:
        loss = other(model(x)).pow(2).mean()
        loss.backward()
        opt.step()
        reset()
        second = (other(model(x)) - 1).pow(2).mean()
        second.backward()
        last.step()
        reset()
        out += [loss.item(), second.item()]
    return out
""",
    "methods": """
class Trainer:
    def __init__(self):
        self.net = model
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.5)

    def clear(self):
        self.optimizer.zero_grad()

    def apply(self, loss):
        loss.backward()
        self.optimizer.step()

    def run(self, xs):
        out = []
        for x in xs:
            self.clear()
            loss = self.net(x).pow(2).mean()
            self.apply(loss)
            out.append(loss.item())
        return out

def run(xs):
    return Trainer().run(xs)
""",
}


@pytest.mark.parametrize("name", RUNS)
def test_a_step_over_several_functions_learns_what_it_does_in_torch(name, tmp_path):
    theirs, ours, text = both(HEAD + RUNS[name], tmp_path, ("model", "other"))
    assert "training.add" not in text
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    for module in ("model", "other"):
        weight = getattr(theirs, module).weight.detach().numpy()
        assert np.allclose(weight, np.array(getattr(ours, module).weight), atol=1e-5)


@pytest.mark.parametrize(
    "reset",
    ["def reset():\n    print()\n    opt.zero_grad()\n", "reset = lambda: opt.zero_grad()\n"],
)
def test_gradients_that_are_set_to_zero_out_of_sight_are_refused(reset):
    """They would add up for ever."""
    run = RUNS["both optimizers are reset by a function"].partition("def run")[2]
    made = torch2mlx.port(HEAD + reset + "\ndef run" + run)
    assert any("gradients add up from step to step" in u.reason for u in made.unsupported)


def test_a_name_that_means_something_else_where_it_is_called_is_left():
    made = torch2mlx.port(
        HEAD + "def reset():\n    opt.zero_grad()\n\n"
        "def run(xs, opt):\n    for x in xs:\n        reset()\n        loss = model(x).mean()\n"
        "        loss.backward()\n        opt.step()\n"
    )
    assert "reset()" in made.source
    assert not made.ok
