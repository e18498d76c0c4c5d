"""RAdam steps as torch's does: before its variance can be told, while it begins to, and long after.

The step at which it begins is where a length passes 5, which differences of float32 would miss.
"""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from torch2mlx import kit

OPTIONS = [
    {},
    {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.1},
    {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"betas": (0.9, 0.9999)},
]


@pytest.mark.parametrize("shape", [(3,), (4, 5)])
@pytest.mark.parametrize("options", OPTIONS)
def test_it_steps_as_torchs(options, shape):
    draws = np.random.RandomState(0)
    first = draws.randn(*shape).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(first.copy()))
    optimizer, twin = torch.optim.RAdam([theirs], **options), kit.optimizers.RAdam(**options)
    ours = {"w": mx.array(first)}
    for step in range(20):
        gradient = draws.randn(*shape).astype(np.float32)
        before = theirs.detach().numpy().copy(), np.array(ours["w"])
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
        ours = twin.apply_gradients({"w": mx.array(gradient)}, ours)
        moved = theirs.detach().numpy() - before[0], np.array(ours["w"]) - before[1]
        np.testing.assert_allclose(moved[1], moved[0], rtol=2e-3, atol=2e-7, err_msg=str(step))


def test_the_length_is_torchs_at_every_step():
    for b2 in (0.9, 0.999, 0.9999):
        twin, longest = kit.optimizers.RAdam(betas=(0.9, b2)), 2 / (1 - b2) - 1
        steps = np.array([1, 2, 5, 6, 7, 100, 700, 5000], np.float64)
        expected = longest - 2 * steps * b2**steps / (1 - b2**steps)
        found = twin._length(mx.array(steps.astype(np.float32)))
        np.testing.assert_allclose(np.array(found), expected, rtol=2e-5)
