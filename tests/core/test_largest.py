"""The largest finite magnitude against numpy's."""

import numpy as np
import pytest

from torch2mlx import _core


def largest(array):
    return _core.largest(_core.from_buffer(array, array.dtype.name))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 511, 512, 513, 1100])
def test_every_place_counts_at_every_length(count):
    values = np.linspace(-1, 1, count)
    for place in {0, count // 2, count - 1}:
        for worst in (9.5, -9.5):
            marked = values.copy()
            marked[place] = worst
            assert largest(marked) == 9.5


def test_what_is_not_finite_does_not_count():
    assert largest(np.array([np.nan, -np.inf, 3.0, np.inf, -4.0])) == 4.0
    assert largest(np.array([np.nan, np.inf])) == 0


def test_views_empty_and_single_tensors():
    values = np.random.randn(6, 10, 4)
    strided = values[::2, ::-3].transpose(2, 0, 1)
    assert largest(strided) == np.abs(strided).max()
    assert largest(np.zeros((0, 3))) == 0
    assert largest(np.array(-2.5)) == 2.5
    assert largest(np.array([1e308, -1.7e308])) == 1.7e308


def test_other_dtypes_are_refused():
    with pytest.raises(_core.CoreError) as caught:
        largest(np.zeros(3, np.float32))
    assert caught.value.args[0] == "BAD_CAST"
