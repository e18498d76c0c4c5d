"""Masks as indices, however they are made; numbers of numpy that one branch alone gives."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from tests.porting.compare import executed

#: Masks of the shape of x, a square matrix.
MASKS = (
    "torch.eye(len(x)).bool()",
    "~torch.eye(len(x), dtype=torch.bool)",
    "x.isnan()",
    "torch.isfinite(x) & (x > 0)",
    "x.gt(0)",
    "torch.logical_not(x > 0)",
    "(x > 0).view(len(x), -1).t()",
    "torch.zeros_like(x, dtype=torch.bool)",
    "(x < 1).to(torch.bool)",
    "x.round().type(torch.bool)",
    "(x > 0).any(dim=1)",
)


def test_a_mask_is_known_by_what_makes_it():
    lines = [f"def f{i}(x: torch.Tensor):\n    return x[{m}]\n" for i, m in enumerate(MASKS)]
    source = "import torch\n" + "\n".join(lines)
    theirs: dict = {}
    exec(source, theirs)
    made = torch2mlx.port(source)
    assert made.ok, made.unsupported
    ours = executed(made.source, "masks")
    for size in (2, 5):
        x = np.random.RandomState(size).randn(size, size).astype(np.float32)
        x[0, 0] = np.nan
        for i, text in enumerate(MASKS):
            expected = theirs[f"f{i}"](torch.from_numpy(x))
            np.testing.assert_array_equal(getattr(ours, f"f{i}")(mx.array(x)), expected, text)


BRANCHES = """
import numpy as np
import torch
np.random.seed(0)
def mixed(x: torch.Tensor, alpha):
    if alpha > 0:
        lam = np.random.beta(alpha, alpha)
    else:
        lam = 1
    return lam * x + (1 - lam) * x.flip(0), lam
def run(x: torch.Tensor, alpha):
    z, lam = mixed(x, alpha)
    share = np.clip(np.arange(3), 0, 1)[1] if alpha > 1 else 0.5
    return 0.5 * z + lam * z.pow(2) + (1 - lam) * z + share * z
"""


@pytest.mark.parametrize("alpha", [0, 0.5, 2])
def test_a_number_of_numpy_in_one_branch_stays_within_the_gradient(alpha):
    theirs, ours = (executed(s, "branches") for s in (BRANCHES, torch2mlx.port(BRANCHES).source))
    values = np.random.RandomState(0).rand(3, 2).astype(np.float32)
    np.random.seed(1)
    x = torch.from_numpy(values.copy()).requires_grad_()
    expected = theirs.run(x, alpha).sum()
    expected.backward()
    np.random.seed(1)
    found, slope = mx.value_and_grad(lambda v: ours.run(v, alpha).sum())(mx.array(values))
    assert np.isclose(found.item(), expected.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, x.grad.numpy(), rtol=1e-5)
