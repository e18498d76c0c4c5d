"""Loops over parameters that change gradients or step by them, by torch's names and layouts."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import numpy as np

import torch2mlx
from tests.porting.compare import both, give_weights

TEXT = """
import torch
import torch.nn as nn

net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(27, 2))
other = nn.Linear(2, 1)
opt = torch.optim.SGD({trained}, lr=0.05)


def train(xs):
    for x in torch.tensor(xs):
        opt.zero_grad()
        net.zero_grad()
        loss = other(net(x)).square().mean()
        loss.backward()
{loop}
    return loss
"""
ALONE = "net.parameters()"
BOTH = "list(other.parameters()) + list(net.parameters())"
LOOPS = {
    "clamped": (ALONE, "for p in net.parameters():\n    p.grad.data.clamp_(-0.01, 0.02)", True),
    "halved": (BOTH, "for p in net.parameters():\n    p.grad = 0.5 * p.grad", True),
    "data": (BOTH, "for p in net.parameters():\n    p.grad.data = p.grad.data / 3", True),
    "decayed": (ALONE, "for p in net.parameters():\n    p.grad.add_(p.data, alpha=0.1)", True),
    "by its rows": (
        BOTH,
        "for name, p in net.named_parameters():\n"
        "    p.grad *= torch.arange(p.shape[0]).reshape(-1, *[1] * (p.dim() - 1))",
        True,
    ),
    "asked for": (
        BOTH,
        "for p in net.parameters():\n    if p.grad is not None:\n        p.grad.mul_(2)",
        True,
    ),
    "passed by": (
        ALONE,
        "for p in net.parameters():\n    if p.grad is None:\n        continue\n    p.grad /= 2",
        True,
    ),
    "stepped by hand": (
        ALONE,
        "with torch.no_grad():\n    for p in net.parameters():\n        p -= 0.05 * p.grad",
        False,
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_changes_gradients_as_in_torch(name, tmp_path):
    trained, loop, steps = LOOPS[name]
    lines = [*loop.split("\n"), *(["opt.step()"] if steps else [])]
    text = TEXT.format(trained=trained, loop="\n".join(f"        {x}" for x in lines))
    ours, theirs = both(text, "gradient_loops")
    for module in ("net", "other"):
        give_weights(getattr(ours, module), theirs[module], tmp_path)
    draws = np.random.default_rng(0)
    for updates, batch in ((3, 2), (2, 4)):
        xs = draws.standard_normal((updates, batch, 3, 5, 5)).astype(np.float32)
        loss, expected = ours.train(xs), theirs["train"](xs)
        np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-4, atol=1e-6)
    held = theirs["net"].state_dict()
    got = torch2mlx.kit.training.named_parameters(ours.net)
    assert [key for key, _ in got] == list(held)
    for key, value in got:
        np.testing.assert_allclose(np.array(value), held[key].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loop",
    [
        "for p in net.parameters():\n    if p.grad is not None:\n        p.grad.add_(p.data)",
        "for p in net.parameters():\n    p.grad.sqrt_()",
        "for p in net.parameters():\n    p.grad = -p.grad\n    print(p.grad.norm())",
    ],
)
def test_what_such_a_loop_may_not_do_is_refused(loop):
    lines = "\n".join(f"        {line}" for line in [*loop.split("\n"), "opt.step()"])
    assert torch2mlx.port(TEXT.format(trained=ALONE, loop=lines)).unsupported
