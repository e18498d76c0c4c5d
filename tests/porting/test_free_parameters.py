"""Parameters that no module holds, in one list with those of a module."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import numpy as np

import torch2mlx
from tests.porting.compare import executed, give_weights

TEXT = """
import torch
import torch.nn as nn

net = nn.Linear(4, 3)
scale = nn.Parameter(torch.zeros(2))
shift = torch.ones(1, requires_grad=True)
opt = torch.optim.{}


def train(xs):
    for x in torch.tensor(xs):
        opt.zero_grad()
        loss = torch.exp(-scale[0]) * (net(x) - shift).square().mean() + scale.square().sum()
        loss.backward()
        {}
        opt.step()


def values():
    return [scale.sum().item(), shift.sum().item()]
"""
GIVEN = (
    "Adam(list(net.parameters()) + [scale, shift], lr=0.01)",
    "SGD([*net.parameters(), scale], lr=0.1, momentum=0.9)",
    "SGD([shift] + list(net.parameters()) + [scale], lr=0.1)",
)


@pytest.mark.parametrize("clip", ["pass", "nn.utils.clip_grad_norm_(net.parameters(), 0.05)"])
@pytest.mark.parametrize("given", GIVEN)
def test_free_parameters_train_beside_those_of_a_module(given, clip, tmp_path):
    text = TEXT.format(given, clip)
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    ported = torch2mlx.port(text)
    assert ported.ok, ported.unsupported
    ours = executed(ported.source, "free_parameters")
    give_weights(ours.net, theirs["net"], tmp_path)
    draws = np.random.default_rng(0)
    for updates, batch in ((3, 2), (2, 5)):
        xs = draws.standard_normal((updates, batch, 4)).astype(np.float32)
        ours.train(xs)
        theirs["train"](xs)
        np.testing.assert_allclose(ours.values(), theirs["values"](), rtol=1e-5, atol=1e-6)
    for key, expected in theirs["net"].named_parameters():
        got = np.array(ours.net[key])
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
