"""Buffer comparison against its definition in numpy."""

import numpy as np
import pytest

from torch2mlx import _core


def compare(a, b):
    make = lambda x: _core.from_buffer(x, x.dtype.name)
    return _core.compare(make(a), make(b))


def test_equal_buffers():
    a = np.random.randn(7, 5).astype(np.float32)
    found = compare(a, a.copy())
    assert found["count"] == 35
    assert found["differing"] == found["max_abs"] == found["max_ulp"] == 0


def test_differences_are_measured_and_located():
    a = np.array([1.0, 2.0, -4.0, 0.0], np.float32)
    b = np.array([1.0, 2.5, -4.0, 1e-3], np.float32)
    found = compare(a, b)
    assert found["differing"] == 2
    assert found["max_abs"] == pytest.approx(0.5)
    assert found["worst"] == 1
    assert found["max_magnitude"] == 4.0


def test_ulps_between_neighbours():
    a = np.array([1.0, -1.0], np.float32)
    assert compare(a, np.nextafter(a, np.float32(9)))["max_ulp"] == 1


def test_nan_and_infinity_are_counted_and_compared_as_values():
    a = np.array([np.nan, np.inf, 1, np.inf], np.float32)
    b = np.array([np.nan, np.inf, np.nan, -np.inf], np.float32)
    found = compare(a, b)
    assert (found["nan_a"], found["nan_b"], found["inf_a"], found["inf_b"]) == (1, 2, 2, 2)
    assert found["mismatched"] == 2


def test_dtypes_may_differ_and_views_are_followed():
    a = np.random.randn(4, 6).astype(np.float32)
    b = np.asfortranarray(a.astype(np.float64))
    assert compare(a, b)["max_abs"] == 0


def test_shapes_must_agree():
    with pytest.raises(_core.CoreError):
        compare(np.zeros(3, np.float32), np.zeros(4, np.float32))
