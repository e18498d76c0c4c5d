"""Every row of docs/mapping-guide.md, run in both frameworks on the same inputs."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import mlx.utils
import torch

from torch2mlx import kit

GUIDE = Path(__file__).parent.parent / "docs" / "mapping-guide.md"
ALL = re.findall(r"^\| `(.+?)` \| `(.+?)` \|", GUIDE.read_text(), re.M)
SAID = GUIDE.read_text().split("## Said about MLX")[1]
CLAIMS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `(.+)` \|$", SAID, re.M)
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
    return [value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)]


def test_the_guide_has_its_rows():
    assert len(ROWS) > 220
    assert len(CLAIMS) > 55


@pytest.mark.parametrize(("in_torch", "in_mlx"), ROWS)
def test_row(in_torch, in_mlx):
    given = inputs()
    theirs = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
    ours = {name: mx.array(value) for name, value in given.items()}
    scope = {"torch": torch, "F": torch.nn.functional, "nn": torch.nn, "np": np, **theirs}
    expected = leaves(eval(in_torch, scope))
    found = leaves(eval(in_mlx, {"mx": mx, "nn": mlx.nn, "kit": kit, "np": np, **ours}))
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


def fails(call):
    """Whether calling raises."""
    try:
        call()
    except Exception:
        return True
    return False


def nodes(function, *arguments):
    """Names of the operations of the graph a function builds, in order."""
    mx.eval(*arguments)
    graph = io.StringIO()
    mx.export_to_dot(graph, function(*arguments))
    return [n for n in re.findall(r'label ?= ?"(\w+)"', graph.getvalue()) if n != "Broadcast"]


def custom_gradient(mx):
    """Gradient of a square by a vjp of one's own."""
    square = mx.custom_function(lambda t: t**2)
    square.vjp(lambda primals, cotangent, output: 2 * primals * cotangent)
    return mx.grad(square)


def layers_in_a_list(nn):
    """A module with two linear layers in a list."""
    module = nn.Module()
    module.layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    return module


def one_step(mx, nn, optim):
    """Whether a step of the loop that guides show changes the weights."""
    model, optimizer = nn.Linear(3, 2), optim.SGD(0.1)
    before = mx.array(model.weight)
    step = nn.value_and_grad(model, lambda model, t: (model(t) ** 2).mean())
    _, gradients = step(model, mx.ones((4, 3)))
    optimizer.update(model, gradients)
    mx.eval(model.parameters(), optimizer.state)
    return not mx.array_equal(before, model.weight)


@pytest.mark.parametrize(("said", "holds", "shown"), CLAIMS)
def test_claim(said, holds, shown):
    helpers = (fails, nodes, custom_gradient, layers_in_a_list, one_step)
    scope = {"mx": mx, "nn": mlx.nn, "mlx": mlx, "kit": kit, "np": np, "torch": torch}
    scope |= {"optim": mlx.optimizers, **{helper.__name__: helper for helper in helpers}}
    scope |= {name: mx.array(value) for name, value in inputs().items()}
    verdict = eval(shown, scope)
    assert verdict.item() if isinstance(verdict, mx.array) else verdict
