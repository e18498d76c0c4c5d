"""kit.parts: writes to a part of a part reach the whole where torch's do."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from torch2mlx.kit import parts

#: Places, one for each bracket: those of views, then a last one of any kind.
PLACES = [
    (0, 1),
    (slice(0, 2), 1),
    (slice(None, None, 2), 0, slice(1, None)),
    ((0, 1), 2),
    (None, 0, 1),
    (Ellipsis, 1),
    ([0, 1], 0),
    (1, [0, 1]),
]


@pytest.mark.parametrize("places", PLACES, ids=str)
def test_a_part_of_a_part_is_written_where_torch_writes_it(places):
    for shape in ((2, 3, 3), (3, 4, 5)):
        x = torch.randn(*shape)
        set_to, changed = mx.array(x.numpy()), mx.array(x.numpy())
        expected, grown = x.clone(), x.clone()
        one, two = expected, grown
        for place in places[:-1]:
            one, two = one[place], two[place]
        one[places[-1]] = 5.0
        two[places[-1]] *= 3
        parts.put(set_to, _of_mlx(places), 5.0)
        parts.change(changed, _of_mlx(places), "*", 3)
        np.testing.assert_array_equal(np.array(set_to), expected.numpy())
        np.testing.assert_allclose(np.array(changed), grown.numpy(), rtol=1e-6)


def _of_mlx(places):
    """Places in which lists are arrays, as the port writes them."""
    return tuple(mx.array(p) if isinstance(p, list) else p for p in places)


def test_masks_write_rows_and_lists_keep_their_parts():
    x = mx.array([[1.0, -2.0], [-3.0, 4.0]])
    parts.put(x, (0, mx.array([False, True])), 9.0)
    parts.change(x, (1, mx.array([True, True])), "+", mx.array([1.0, 2.0]))
    assert x.tolist() == [[1.0, 9.0], [-2.0, 6.0]]
    parts.put(x, (mx.array([True, False]), 0), 0.0)  # torch changes a copy
    assert x.tolist() == [[1.0, 9.0], [-2.0, 6.0]]
    held = {"a": [np.zeros((2, 2)), mx.zeros((2, 2))]}
    parts.put(held, ("a", 0, 1, 0), 3.0)
    parts.put(held, ("a", 1, 1, 0), 4.0)
    assert held["a"][0].tolist() == [[0, 0], [3, 0]]
    assert held["a"][1].tolist() == [[0, 0], [4, 0]]


def test_gradients_reach_what_is_written_and_what_stays():
    def ours(x, y):
        z = x * 2
        parts.put(z, (1, slice(0, 2)), y)
        return (z * z).sum()

    for rows in (2, 3):
        x, y = torch.randn(rows, 3, requires_grad=True), torch.randn(2, requires_grad=True)
        z = x * 2
        z[1][0:2] = y
        (z * z).sum().backward()
        given = [mx.array(t.detach().numpy()) for t in (x, y)]
        for found, t in zip(mx.grad(ours, argnums=(0, 1))(*given), (x, y), strict=True):
            np.testing.assert_allclose(np.array(found), t.grad.numpy(), rtol=1e-6)
