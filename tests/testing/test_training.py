"""`assert_same_training`: what passes, and how a failure reads."""

import pytest

from tests.support import need

need("torch", "mlx", "libcst")

from torch2mlx.testing import assert_same_training

TORCH = """
import torch

torch.manual_seed(0)
x, model = torch.randn(8, 3), torch.nn.Linear(3, 2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for _ in range(4):
    optimizer.zero_grad()
    model(x).pow(2).mean().backward()
    optimizer.step()
"""
MLX = """
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

x, model, optimizer = mx.random.normal((8, 3)), nn.Linear(3, 2), optim.{optimizer}(0.1)
for _ in range(4):
    loss, grads = nn.value_and_grad(model, lambda: mx.square(model(x)).mean())()
    optimizer.update(model, grads)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(TORCH)
    return path


def test_a_script_and_its_port_train_alike(script):
    found = assert_same_training(script, steps=3)
    assert found.ok and len(found.steps) == 3
    assert all(step.torch_loss == pytest.approx(step.mlx_loss) for step in found.steps)


def test_a_script_of_ones_own_that_learns_otherwise_fails_with_the_cause(script, tmp_path):
    other = tmp_path / "train_mlx.py"
    other.write_text(MLX.format(optimizer="Adagrad"))
    with pytest.raises(AssertionError) as failure:
        assert_same_training(script, other, steps=2)
    told = str(failure.value)
    assert told.startswith(f"{script} and {other} train differently:\nstep  optimizer")
    assert "the two part: step 1: " in told


def test_what_cannot_be_compared_is_a_failure_that_says_why(tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text("import torch\nprint(torch.ones(2))\n")
    with pytest.raises(AssertionError, match=r"cannot be compared: .*trains nothing"):
        assert_same_training(path)
