"""LBFGS against torch's: losses and parameters over 20 steps, and how often it evaluates them."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import mlx.nn as nn
import torch

import torch2mlx
from tests.porting.compare import executed, give_weights
from torch2mlx import kit

OPTIONS = {
    "fixed steps": {"lr": 0.3, "max_iter": 3},
    "one iteration a step": {"lr": 0.2, "max_iter": 1, "history_size": 4},
    "strong Wolfe": {"lr": 1.0, "max_iter": 2, "line_search_fn": "strong_wolfe"},
    "strong Wolfe from too far": {
        **{"lr": 40.0, "max_iter": 4, "max_eval": 9, "history_size": 2},
        "line_search_fn": "strong_wolfe",
    },
    "a tolerance that ends it": {"lr": 0.5, "max_iter": 9, "tolerance_grad": 3e-2},
}


class Pair:
    """One convex problem in both frameworks: logistic regression with a penalty."""

    def __init__(self, size, options):
        rng = np.random.RandomState(size)
        x = rng.randn(20, size).astype(np.float32)
        y = (x.sum(1) + rng.randn(20) > 0).astype(np.float32)[:, None]
        self.counts = [0, 0]
        torch.manual_seed(0)
        self.net, self.module = torch.nn.Linear(size, 1), nn.Linear(size, 1)
        self.module.weight = mx.array(self.net.weight.detach().numpy())
        self.module.bias = mx.array(self.net.bias.detach().numpy())
        self.theirs = torch.optim.LBFGS(self.net.parameters(), **options)
        self.ours = kit.optimizers.LBFGS(**options)
        self.data = (torch.from_numpy(x), torch.from_numpy(y)), (mx.array(x), mx.array(y))

    def their_loss(self):
        x, y = self.data[0]
        self.counts[0] += 1
        self.theirs.zero_grad()
        found = torch.nn.functional.binary_cross_entropy_with_logits(self.net(x), y)
        loss = found + 0.05 * self.net.weight.pow(2).sum()
        loss.backward()
        return loss

    def our_loss(self):
        (x, y), self.counts[1] = self.data[1], self.counts[1] + 1

        def loss_fn():
            found = nn.losses.binary_cross_entropy(self.module(x), y)
            return found + 0.05 * mx.square(self.module.weight).sum()

        loss, gradients = nn.value_and_grad(self.module, loss_fn)()
        self.ours.update(self.module, gradients)
        return loss


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("name", OPTIONS)
def test_twenty_steps_are_those_of_torch(name, size):
    pair = Pair(size, OPTIONS[name])
    for _ in range(20):
        expected, found = pair.theirs.step(pair.their_loss), pair.ours.step(pair.our_loss)
        assert np.isclose(found.item(), expected.item(), rtol=1e-5, atol=1e-6)
    weight = pair.net.weight.detach().numpy()
    np.testing.assert_allclose(pair.module.weight, weight, rtol=2e-3, atol=2e-4)
    assert pair.counts[0] >= 20


def test_evaluations_are_as_many_as_in_torch():
    """Until the gradient is one of rounding, where a search may end at any place."""
    pair = Pair(6, {"line_search_fn": "strong_wolfe", "max_iter": 3})
    for _ in range(3):
        pair.theirs.step(pair.their_loss), pair.ours.step(pair.our_loss)
    assert pair.counts[0] == pair.counts[1] > 6


def test_it_goes_on_from_its_state(tmp_path):
    one, other = (Pair(3, {"lr": 0.3, "max_iter": 2}) for _ in range(2))
    for _ in range(3):
        one.ours.step(one.our_loss)
    kit.files.save(one.ours.state, tmp_path / "state.pt")
    other.module.update(one.module.parameters())
    other.ours.state = kit.files.load(tmp_path / "state.pt")
    for _ in range(3):
        expected, found = one.ours.step(one.our_loss), other.ours.step(other.our_loss)
        assert np.isclose(found.item(), expected.item(), rtol=1e-6)


def test_without_a_closure_it_is_refused():
    pair = Pair(3, {})
    with pytest.raises(ValueError, match=r"^LBFGS evaluates the loss several times a step: use "):
        pair.our_loss()
    with pytest.raises(RuntimeError, match=r"^only 'strong_wolfe' is supported$"):
        kit.optimizers.LBFGS(line_search_fn="wolfe")


SCRIPT = """
import torch
import torch.nn as nn
model = nn.Linear(3, 2)
opt = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
calls = [0]
def run(xs):
    out = []
    for x in xs:
        def closure():
            opt.zero_grad()
            loss = (model(x) - x[:, :2]).pow(2).mean()
            loss.backward()
            calls[0] += 1
            return loss
        loss = opt.step(closure)
        out.append(loss.item())
    return out + calls
"""


def test_a_script_with_a_closure_is_ported(tmp_path):
    need("libcst")
    theirs, made = executed(SCRIPT, "original"), torch2mlx.port(SCRIPT)
    assert made.ok, made.unsupported
    ours = executed(made.source, "lbfgs")
    give_weights(ours.model, theirs.model, tmp_path)
    drawn = np.random.RandomState(0).randn(4, 5, 3).astype(np.float32)
    expected = theirs.run([torch.from_numpy(x) for x in drawn])
    assert np.allclose(expected, ours.run([mx.array(x) for x in drawn]), rtol=1e-4)


@pytest.mark.parametrize("line", ["opt.zero_grad()", "loss.backward()"])
def test_a_closure_whose_gradients_add_up_or_are_not_seen_is_refused(line):
    need("libcst")
    assert not torch2mlx.port(SCRIPT.replace(line, "pass")).ok
