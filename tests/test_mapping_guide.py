"""Every row of docs/mapping-guide.md, run in both frameworks on the same inputs."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import torch

from torch2mlx import kit

GUIDE = Path(__file__).parent.parent / "docs" / "mapping-guide.md"
ALL = re.findall(r"^\| `(.+?)` \| `(.+?)` \|", GUIDE.read_text(), re.M)
OPTIMIZERS = [row for row in ALL if row[0].startswith("torch.optim.")]
ROWS = [row for row in ALL if row not in OPTIMIZERS]


def inputs():
    draw = np.random.default_rng(1)
    normal = lambda *shape: draw.standard_normal(shape).astype(np.float32)
    square, image = normal(5, 5), normal(2, 4, 9, 8)
    return {
        **{"x": normal(3, 4, 5), "y": normal(3, 4, 5), "p": np.abs(normal(3, 4, 5)) + 0.1},
        **{"u": draw.uniform(-0.9, 0.9, (3, 4, 5)).astype(np.float32)},
        **{"a": normal(4, 5), "b": normal(5, 6), "c": normal(4, 6), "v": normal(5), "w": normal(5)},
        **{"A": normal(2, 4, 5), "B": normal(2, 5, 6)},
        **{"i": draw.integers(1, 9, (3, 4), np.int32), "j": draw.integers(1, 9, (3, 4), np.int32)},
        **{"q": normal(4, 5) > 0, "idx": draw.integers(0, 5, (4, 5))},
        **{"spd": square @ square.T + 5 * np.eye(5, dtype=np.float32)},
        **{"image": image, "pic": np.ascontiguousarray(image.transpose(0, 2, 3, 1))},
    }


def leaves(value):
    if isinstance(value, (tuple, list)):
        return [np.asarray(leaf) for item in value for leaf in leaves(item)]
    if isinstance(value, mx.array) and value.dtype == mx.bfloat16:
        value = value.astype(mx.float32)
    return [np.asarray(value)]


def test_the_guide_has_its_rows():
    assert len(ROWS) > 120


@pytest.mark.parametrize(("in_torch", "in_mlx"), ROWS)
def test_row(in_torch, in_mlx):
    given = inputs()
    theirs = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
    ours = {name: mx.array(value) for name, value in given.items()}
    scope = {"torch": torch, "F": torch.nn.functional, "nn": torch.nn, **theirs}
    expected = leaves(eval(in_torch, scope))
    found = leaves(eval(in_mlx, {"mx": mx, "nn": mlx.nn, "kit": kit, "list": list, **ours}))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        a, b = (np.asarray(n, np.complex128) for n in (a, b))
        assert np.abs(a - b).max(initial=0) <= 1e-5 * max(1.0, np.abs(b).max(initial=0))


@pytest.mark.parametrize(("in_torch", "in_mlx"), OPTIMIZERS)
def test_optimizer(in_torch, in_mlx):
    draw = np.random.default_rng(2)
    start = draw.standard_normal((3, 4)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    theirs = eval(in_torch, {"torch": torch, "params": [parameter]})
    ours, weights = eval(in_mlx, {"optim": mlx.optimizers}), {"w": mx.array(start)}
    for _ in range(5):
        gradient = draw.standard_normal((3, 4)).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient.copy())
        theirs.step()
        weights = ours.apply_gradients({"w": mx.array(gradient)}, weights)
    assert np.abs(np.array(weights["w"]) - parameter.detach().numpy()).max() <= 1e-5
