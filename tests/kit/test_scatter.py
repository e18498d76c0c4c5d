"""scatter_reduce where several items meet: values, and whom the gradient goes to."""

import itertools

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from torch2mlx.kit.indexing import scatter_reduce

WAYS = list(itertools.product(("sum", "prod", "mean", "amax", "amin"), (True, False)))
#: Equal items, zeros alone and in pairs, and places that nothing goes to.
VALUES = {
    "drawn": lambda draw, *shape: draw.standard_normal(shape),
    "ties and zeros": lambda draw, *shape: draw.integers(-1, 2, shape),
    "zeros": lambda draw, *shape: np.zeros(shape),
}


@pytest.mark.parametrize("reduce, include_self", WAYS)
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("rows, given, compiled", [(5, 9, False), (3, 20, True), (4, 1, False)])
def test_what_meets_shares_the_gradient_as_in_torch(
    reduce, include_self, name, rows, given, compiled
):
    draw = np.random.default_rng(rows)
    x, source = (VALUES[name](draw, n, 2).astype(np.float32) for n in (rows, given))
    index = draw.integers(0, rows - 1, (given, 2))
    weight = draw.standard_normal((rows, 2)).astype(np.float32)
    leaves = [torch.from_numpy(v.copy()).requires_grad_() for v in (x, source)]
    place = torch.from_numpy(index)
    expected = leaves[0].scatter_reduce(0, place, leaves[1], reduce, include_self=include_self)
    (expected * torch.from_numpy(weight)).sum().backward()

    def ours(x, source):
        return scatter_reduce(x, 0, mx.array(index), source, reduce, include_self)

    ours = mx.compile(ours) if compiled else ours
    close(ours(mx.array(x), mx.array(source)), expected.detach())
    slopes = mx.grad(lambda *a: (ours(*a) * mx.array(weight)).sum(), argnums=(0, 1))
    for found, leaf in zip(slopes(mx.array(x), mx.array(source)), leaves, strict=True):
        close(found, leaf.grad)


@pytest.mark.parametrize("reduce, include_self", WAYS)
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_integers_are_reduced_to_integers(reduce, include_self, dtype):
    low = 0 if dtype == "uint8" else -9
    x = np.random.default_rng(0).integers(low, 9, (4, 2)).astype(dtype)
    source = np.random.default_rng(1).integers(low, 5, (6, 2)).astype(dtype)
    index = np.array([[0, 1], [0, 0], [2, 1], [0, 1], [2, 2], [0, 1]])
    tensors = [torch.from_numpy(v) for v in (x, index, source)]
    expected = tensors[0].scatter_reduce(0, *tensors[1:], reduce, include_self=include_self)
    arrays = [mx.array(v) for v in (index, source)]
    found = scatter_reduce(mx.array(x), 0, *arrays, reduce, include_self)
    assert found.dtype == getattr(mx, dtype)
    assert np.array(found).tolist() == expected.tolist()


@pytest.mark.parametrize("reduce", ("amax", "amin"))
@pytest.mark.parametrize("include_self", (True, False))
def test_an_extreme_of_what_holds_a_nan_is_nan(reduce, include_self):
    source = np.array([[np.nan, 1, 2], [3, np.nan, 1], [2, 5, np.nan], [1, 1, 1]], np.float32)
    x = np.array([[0, 0, 0], [np.nan, 1, 4]], np.float32)
    index = np.repeat(np.array([0, 0, 0, 1])[:, None], 3, 1)
    tensors = [torch.from_numpy(a) for a in (x, index, source)]
    expected = tensors[0].scatter_reduce(0, *tensors[1:], reduce, include_self=include_self)
    arrays = [mx.array(a) for a in (x, index, source)]
    found = scatter_reduce(arrays[0], 0, *arrays[1:], reduce, include_self)
    np.testing.assert_array_equal(np.array(found), expected.numpy())
