"""Medians of rows with NaNs, ties and one item, and their gradients."""

import numpy as np
import pytest

from tests.support import need

torch, mx = need("torch", "mlx.core")

import torch2mlx
from torch2mlx.kit import reductions, sorting

NAN, INF = float("nan"), float("inf")
ROWS = {
    "distinct": [[3.0, 1.0, 2.0, 5.0], [9.0, 8.0, 7.0, 6.0]],
    "ties": [[2.0, 2.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]],
    "a NaN": [[3.0, NAN, 2.0, NAN], [1.0, 2.0, 3.0, 4.0]],
    "infinities": [[INF, -INF, NAN, INF], [INF, -INF, INF, 1.0]],
    "nothing but NaN": [[NAN, NAN, NAN, NAN], [1.0, NAN, NAN, NAN]],
}
ONE = {"one item": [[4.0], [NAN]]}
PAIRS = [(torch.median, sorting.median), (torch.nanmedian, reductions.nanmedian)]


@pytest.mark.parametrize("rows", {**ROWS, **ONE}.values(), ids={**ROWS, **ONE})
@pytest.mark.parametrize(("wanted", "kit"), PAIRS, ids=("median", "nanmedian"))
def test_medians_are_those_of_torch(wanted, kit, rows):
    for dim in (0, 1):
        values, _ = wanted(torch.tensor(rows), dim)
        found, where = kit(mx.array(rows), dim)
        np.testing.assert_array_equal(np.array(found), values.numpy())
        rows_taken = torch.tensor(rows).gather(dim, torch.tensor(where.tolist()).unsqueeze(dim))
        np.testing.assert_array_equal(rows_taken.squeeze(dim).numpy(), values.numpy())
    all_of_it = kit(mx.array(rows))
    np.testing.assert_array_equal(np.array(all_of_it), wanted(torch.tensor(rows)).numpy())


@pytest.mark.parametrize("rows", [ROWS["distinct"], ROWS["ties"], ROWS["a NaN"]])
@pytest.mark.parametrize(("wanted", "kit"), PAIRS, ids=("median", "nanmedian"))
def test_gradients_of_a_median_are_those_of_torch(wanted, kit, rows):
    leaf = torch.tensor(rows, requires_grad=True)
    wanted(leaf).backward()
    found = mx.grad(lambda x: kit(x))(mx.array(rows))
    np.testing.assert_allclose(np.array(found), leaf.grad.numpy())


@pytest.mark.parametrize("function", [torch.median, torch.nanmedian])
def test_translated_medians_know_a_nan(function):
    class Net(torch.nn.Module):
        def forward(self, x):
            return function(x), function(x, 1).values

    for count in (4, 5):
        x = torch.randn(3, count)
        made = torch2mlx.translate(Net(), x)
        x[1, 2] = NAN
        answer = made.module(mx.array(x.numpy()))
        for part, wanted in zip(answer, Net()(x), strict=True):
            np.testing.assert_array_equal(np.array(part), wanted.numpy())
