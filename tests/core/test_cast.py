"""Casts against ml_dtypes and numpy: every value of the narrow types, hard values of the wide."""

import numpy as np
import pytest

from tests.support import need

ml_dtypes, _ = need("ml_dtypes", "hypothesis")

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from torch2mlx import _core

NARROW = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
FLOATS = {**NARROW, "float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}
INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
RAW = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def raw(array):
    return array.view(RAW[array.dtype.itemsize])


def cast(array, dtype, **options):
    source = _core.from_buffer(raw(array) if array.dtype.kind == "V" else array, array.dtype.name)
    dense = np.asarray(source.dense(dtype, **options))
    return dense.view(FLOATS[dtype]) if dtype in NARROW else dense


def assert_same(found, expected):
    """Equal bits, any NaN for a NaN."""
    assert found.dtype == expected.dtype
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(found.astype(np.float64)), nan)
    np.testing.assert_array_equal(raw(found)[~nan], raw(expected)[~nan])


def every_value(dtype):
    return (
        np.arange(1 << (8 * dtype.itemsize), dtype=np.uint64)
        .astype(RAW[dtype.itemsize])
        .view(dtype)
    )


def hard_values():
    """float32s around every rounding and range boundary of the narrow types."""
    found = [np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e38, -3.4e38], np.float32)]
    for dtype in NARROW.values():
        values = every_value(dtype).astype(np.float32)
        values = np.unique(values[np.isfinite(values)])
        middles = (values[1:].astype(np.float64) + values[:-1]) / 2
        middles = middles.astype(np.float32)
        found += [values, middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf)]
    return np.concatenate(found).astype(np.float32)


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("dtype", NARROW)
def test_widening_is_exact_for_every_value(dtype, simd):
    values = every_value(NARROW[dtype])
    with np.errstate(invalid="ignore"):
        assert_same(cast(values, "float32", simd=simd), values.astype(np.float32))
        assert_same(cast(values, "float64", simd=simd), values.astype(np.float64))


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrowing_rounds_to_nearest_even_and_overflows_to_infinity(dtype, simd):
    values = hard_values()
    with np.errstate(over="ignore"):
        assert_same(cast(values, dtype, simd=simd), values.astype(NARROW[dtype]))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_narrowing_to_float8(dtype):
    values = hard_values()
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same(cast(values, dtype), values.astype(NARROW[dtype]))


@pytest.mark.parametrize("dtype", NARROW)
def test_float64_is_rounded_once(dtype):
    # a float64 just above a midpoint of float32 must not round twice
    with np.errstate(invalid="ignore"):
        base = every_value(NARROW[dtype]).astype(np.float64)
    base = np.unique(base[np.isfinite(base)])
    middles = (base[1:] + base[:-1]) / 2
    tiny = np.maximum(np.abs(middles), 1e-30) * 1e-14
    exact = np.concatenate([middles, middles + tiny, middles - tiny])
    expected = []
    for value in exact:
        at = np.searchsorted(base, value)
        low, high = base[max(at - 1, 0)], base[min(at, len(base) - 1)]
        below, above = value - low, high - value
        if below == above:
            even = raw(np.array([low, high]).astype(NARROW[dtype])) & 1
            expected.append(low if even[0] == 0 else high)
        else:
            expected.append(low if below < above else high)
    found = cast(exact, dtype).astype(np.float64)
    np.testing.assert_array_equal(found, np.array(expected))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", [*FLOATS, *INTEGERS])
def test_integers_to_everything(source, target):
    if source == "bool":
        values = np.array([True, False])
    else:
        limits = np.iinfo(source)
        values = np.array([limits.min, limits.max, 0, 1, 100, limits.max // 3], source)
    found = cast(values, target)
    if target in FLOATS:
        with np.errstate(over="ignore"):
            wide = values.astype(np.float64)
            if target in ("float32", "float64"):
                assert_same(found, values.astype(target))
            elif source not in ("uint64", "int64"):
                assert_same(found, wide.astype(FLOATS[target]))
    elif target == "bool":
        np.testing.assert_array_equal(found, values != 0)
    else:
        np.testing.assert_array_equal(found, values.astype(target))


def test_floats_to_integers_truncate_and_saturate():
    values = np.array([1.9, -1.9, 3e9, -3e9, np.inf, -np.inf, np.nan, 0.4], np.float32)
    top, bottom = 2**31 - 1, -(2**31)
    np.testing.assert_array_equal(
        cast(values, "int32"), np.array([1, -1, top, bottom, top, bottom, 0, 0], np.int32)
    )
    np.testing.assert_array_equal(
        cast(values, "uint8"), np.array([1, 0, 255, 0, 255, 0, 0, 0], np.uint8)
    )


def test_real_to_complex_and_never_back():
    values = np.array([1.5, -2.0], np.float32)
    np.testing.assert_array_equal(cast(values, "complex64"), values.astype(np.complex64))
    with pytest.raises(_core.CoreError) as error:
        cast(values.astype(np.complex64), "float32")
    assert error.value.args[0] == "BAD_CAST"


@given(arrays(np.uint32, st.integers(0, 100)), st.sampled_from(["float16", "bfloat16"]))
def test_any_float32_bits(bits, dtype):
    values = bits.view(np.float32)
    with np.errstate(all="ignore"):
        expected = values.astype(NARROW[dtype])
    assert_same(cast(values, dtype), expected)
    assert_same(cast(values, dtype, simd=False), expected)


@given(arrays(np.uint64, st.integers(0, 64)), st.sampled_from(["float32", "float16"]))
def test_any_float64_bits(bits, dtype):
    values = bits.view(np.float64)
    with np.errstate(all="ignore"):
        expected = values.astype(dtype)
    assert_same(cast(values, dtype), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_cast_and_gather_together(dtype):
    values = np.random.randn(9, 17, 5).astype(np.float32).transpose(2, 0, 1)
    assert_same(cast(values, dtype), values.astype(FLOATS[dtype]))
