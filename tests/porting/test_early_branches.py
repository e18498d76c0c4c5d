"""Backward passes behind a condition, and trainers that keep their model: as torch learns."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx
from tests.porting.test_steps import HEAD, batches, both

#: A function `run(xs)` of a list of (4, 3) arrays, which gives a list of numbers.
RUNS = {
    "phases": """
def run(xs):
    out = []
    for i, x in enumerate(xs):
        phase = "train" if i % 2 == 0 else "val"
        model.train(phase == "train")
        opt.zero_grad()
        with torch.set_grad_enabled(phase == "train"):
            y = model(x)
            _, best = torch.max(y, 1)
            loss = y.pow(2).mean()
            if phase == "train":
                loss.backward()
                opt.step()
        out += [loss.item(), best.sum().item()]
    return out
""",
    "one function for training and evaluation": """
def epoch(xs, training, out):
    for x in xs:
        # the forward pass
        y = model(x)
        loss = y.abs().mean()
        if training and out is not None:
            opt.zero_grad()
            loss.backward()
            opt.step()
        elif out:
            out.append(-1.0)
        out.append(loss.item())
def run(xs):
    out = []
    epoch(xs, True, out)
    epoch(xs, False, out)
    return out
""",
    "the mode of the model": """
def run(xs):
    out = []
    for i, x in enumerate(xs):
        model.train(i % 2 == 0)
        loss = model(x).pow(2).mean()
        if model.training:
            opt.zero_grad()
            loss.backward()
            opt.step()
        else:
            loss = loss * 2
        out.append(loss.item())
    return out
""",
    "a trainer that keeps its model": """
class Trainer:
    def __init__(self, net, rate):
        self.net, self.count = net, 0
        large = [p for p in net.parameters() if p.dim() >= 2]
        small = [p for p in net.parameters() if p.dim() < 2]
        groups = [{"params": large, "weight_decay": 0.1}, {"params": small}]
        self.optimizer = torch.optim.SGD(groups, lr=rate)
    def loss(self, x):
        return self.net(x).pow(2).mean()
    def step(self, x):
        loss = self.loss(x) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.count += 1
        return loss.item()
def run(xs):
    trainer = Trainer(model, 0.2)
    return [trainer.step(x) for x in xs] + [trainer.count]
""",
}


@pytest.mark.parametrize("name", RUNS)
def test_what_a_branch_learns_is_what_it_learns_in_torch(name, tmp_path):
    theirs, ours, _ = both(HEAD + RUNS[name], tmp_path)
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    weight = theirs.model.weight.detach().numpy()
    assert np.allclose(weight, np.array(ours.model.weight), atol=1e-5)


LATE = {
    "a call": "if ready():",
    "a value of the forward pass": "if loss > 0:",
    "what the forward pass may change": "if model.count == 1:",
    "what a function counts": "if calls == 1:",
}


@pytest.mark.parametrize("name", LATE)
def test_a_condition_that_the_forward_pass_may_change_is_not_asked_before_it(name):
    step = "calls = 0\ndef count(*_):\n    global calls\n    calls += 1\n"
    step += "loss = model(torch.ones(2, 3)).sum()\n" + LATE[name]
    made = torch2mlx.port(HEAD + step + "\n    loss.backward()\n    opt.step()\n")
    assert not made.ok
    assert made.source.index("model(mx.ones((2, 3)))") < made.source.index(LATE[name])


def test_comments_stay_above_the_branch():
    made = torch2mlx.port(HEAD + RUNS["one function for training and evaluation"]).source
    assert made.index("# the forward pass") < made.index("if training and")
