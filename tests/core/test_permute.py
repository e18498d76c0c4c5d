"""The strided gather against numpy: every permutation, item size, stride sign and alignment."""

import itertools
import math

import numpy as np
import pytest

from tests.support import BARE
from torch2mlx import _core

ITEMS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
SHAPES = ((5,), (7, 9), (3, 17, 8), (2, 5, 16, 9))


def filled(shape, dtype):
    count = math.prod(shape)
    return (np.arange(count, dtype=np.uint64) * 2654435761).astype(dtype).reshape(shape)


def tensor_of(array):
    return _core.from_buffer(array, array.dtype.name)


def assert_gathers(array, **options):
    dense = tensor_of(array).dense(**options)
    assert dense.shape == array.shape
    np.testing.assert_array_equal(np.asarray(dense), array, strict=True)


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_permutation_to_rank_4(shape, item, simd):
    source = filled(shape, ITEMS[item])
    for axes in itertools.permutations(range(len(shape))):
        found = tensor_of(source).permute(axes).dense(simd=simd)
        np.testing.assert_array_equal(np.asarray(found), source.transpose(axes), strict=True)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_large_transpositions_on_threads(threads):
    source = filled((130, 67, 3, 5), "uint32")
    for axes in ((0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)):
        assert_gathers(source.transpose(axes), threads=threads)


@pytest.mark.parametrize("item", ITEMS)
def test_negative_zero_and_odd_strides(item):
    base = filled((6, 10, 7), ITEMS[item])
    for view in (
        base[::-1],
        base[:, ::-2, ::3],
        base[::-1, ::-1, ::-1],
        np.broadcast_to(base[:1], (4, 10, 7)),
        np.broadcast_to(base[0, 0, 0], (3, 5)),
        base.T[1:, 2:9:3, ::-1],
        np.asfortranarray(base),
        base[2:2],
        base[0, 0, 0],
    ):
        assert_gathers(np.asarray(view))


@pytest.mark.parametrize("item", [2, 4, 8])
def test_unaligned_memory(item):
    raw = np.random.randint(0, 256, 3 * 4 * 5 * item + 1).astype(np.uint8)
    array = np.frombuffer(raw.tobytes(), ITEMS[item], 60, offset=1).reshape(3, 4, 5)
    for axes in itertools.permutations(range(3)):
        assert_gathers(array.transpose(axes))


def test_rank_eight_is_gathered_and_seventeen_refused():
    array = filled((2, 1, 3, 2, 1, 2, 3, 2), "uint16").transpose(7, 5, 3, 1, 0, 2, 4, 6)
    assert_gathers(array)
    with pytest.raises((ValueError, BufferError)):
        _core.from_buffer(np.zeros((1,) * 17, np.uint8), "uint8")


def test_complex_items():
    array = (np.random.randn(5, 6, 3) + 1j * np.random.randn(5, 6, 3)).astype(np.complex64)
    assert_gathers(array.transpose(2, 0, 1))


def test_views_check_their_arguments():
    tensor = tensor_of(filled((4, 6), "uint32"))
    for wrong in ((0,), (0, 0), (0, 2), (1, 0, 2)):
        with pytest.raises(ValueError):
            tensor.permute(wrong)
    for wrong in ((1, 3, 7), (2, 2, 9), (1, 1, 6)):
        with pytest.raises(ValueError):
            tensor.narrow(*wrong)
    with pytest.raises(ValueError):
        tensor.split((5, 5))


if not BARE:
    from hypothesis import given
    from hypothesis import strategies as st

    @st.composite
    def strided(draw):
        """Any numpy view: rank to 8, any order, steps of either sign, broadcast axes."""
        shape = draw(st.lists(st.integers(0, 5), min_size=0, max_size=8))
        item = draw(st.sampled_from(sorted(ITEMS)))
        array = filled(tuple(shape), ITEMS[item])
        steps = [draw(st.sampled_from([1, -1, 2, -2])) for _ in shape]
        array = array[tuple(slice(None, None, step) for step in steps)]
        array = array.transpose(draw(st.permutations(range(len(shape)))))
        if draw(st.booleans()) and array.ndim < 8:
            array = np.broadcast_to(array, (draw(st.integers(0, 3)), *array.shape))
        return array

    @given(strided(), st.booleans())
    def test_any_view_like_numpy(array, simd):
        assert_gathers(array, simd=simd)
