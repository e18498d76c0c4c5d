"""What the kit writes at indices and decomposes goes where MLX has it, whatever the device."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from tests.gpu_refusals import NotOnAGPU, as_on_a_gpu
from torch2mlx.kit import algebra, indexing, sorting, sparse, tensors

WIDE = (torch.int64, torch.complex64)


def arrays(*values):
    return tuple(mx.array(value.numpy()) for value in values)


def test_a_gpu_refuses_what_the_kit_goes_around():
    whole, place = mx.arange(4).astype(mx.int64), mx.array([1, 1])
    with as_on_a_gpu():
        for name in ("add", "multiply", "maximum"):
            with pytest.raises(NotOnAGPU, match="int64"):
                getattr(whole.at[place], name)(1)
        with pytest.raises(NotOnAGPU, match="int64"):
            whole[place] = 0
        with pytest.raises(NotOnAGPU, match="inv"):
            mx.linalg.inv(mx.eye(2))
        with mx.stream(mx.cpu):
            assert whole.at[place].add(1).tolist() == [0, 3, 2, 3]
        whole[1:3] = 7  # slices are no scatter
        assert mx.zeros(3).at[place].add(1).tolist() == [0, 2, 0]
    assert whole.tolist() == [0, 7, 7, 3]
    assert whole.at[place].add(1).tolist() == [0, 9, 7, 3]


@pytest.mark.parametrize("length", (0, 1, 9))
def test_counts_are_made_on_any_device(length):
    numbers = torch.randint(0, 5, (length,))
    (given,) = arrays(numbers)
    for least in (0, 8):
        expected = torch.bincount(numbers, minlength=least)
        with as_on_a_gpu():
            found = [f(given, minlength=least) for f in (tensors.bincount, sorting.bincount)]
        for one in found:
            assert one.dtype == mx.int64 and np.array_equal(one, expected)


@pytest.mark.parametrize("dtype", (torch.int64, torch.int32, torch.float32))
def test_sums_of_weights_are_made_on_any_device(dtype):
    for length in (0, 7):
        numbers, weights = torch.randint(0, 5, (length,)), torch.randint(-9, 9, (length,)).to(dtype)
        with as_on_a_gpu():
            found = sorting.bincount(*arrays(numbers, weights), minlength=3)
        assert np.array_equal(found, torch.bincount(numbers, weights, minlength=3))


@pytest.mark.parametrize("dtype", WIDE)
def test_sparse_values_are_put_on_any_device(dtype):
    for shape, rest in (((4, 3), ()), ((2, 5), (3,))):
        places = torch.stack([torch.randint(0, n, (6,)) for n in shape])
        held = torch.randint(-9, 9, (6, *rest)).to(dtype)
        whole = (*shape, *rest)
        expected = torch.zeros(whole, dtype=dtype).index_put(tuple(places), held, True)
        with as_on_a_gpu():
            found = sparse.dense(*arrays(places, held), whole)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", WIDE)
def test_writes_at_indices_are_made_on_any_device(dtype):
    for rows, width in ((4, 3), (6, 1)):
        x, source = (torch.randint(-9, 9, (n, width)).to(dtype) for n in (rows, 2))
        index = torch.tensor([rows - 1, 0])
        wide = index[:, None].expand(2, width).contiguous()
        mx_x, mx_source, mx_index, mx_wide = arrays(x, source, index, wide)
        with as_on_a_gpu():
            found = [
                indexing.index_add(mx_x, 0, mx_index, mx_source),
                indexing.index_put(mx_x, (mx_index,), mx_source),
                indexing.scatter(mx_x, 0, mx_wide, mx_source),
                indexing.scatter_add(mx_x, 0, mx_wide, mx_source),
            ]
        expected = [
            x.index_add(0, index, source),
            x.index_put((index,), source),
            x.scatter(0, wide, source),
            x.scatter_add(0, wide, source),
        ]
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("reduce", ("sum", "prod", "amax"))
def test_whole_numbers_are_reduced_on_any_device(reduce):
    for rows, width in ((4, 3), (6, 1)):
        x, source = (torch.randint(-9, 9, (n, width)) for n in (rows, 2))
        index = torch.tensor([[1], [1]]).expand(2, width).contiguous()
        given = arrays(x, index, source)
        with as_on_a_gpu():
            found = indexing.scatter_reduce(given[0], 0, *given[1:], reduce)
        assert np.array_equal(found, x.scatter_reduce(0, index, source, reduce))


def test_decompositions_are_made_on_any_device():
    x = torch.randn(3, 3) + 3 * torch.eye(3)
    (given,) = arrays(x)
    with as_on_a_gpu():
        inverse, solved = algebra.inv(given), algebra.solve(given, given)
        det = mx.array(algebra.det(given))
    assert np.allclose(inverse, x.inverse(), atol=1e-4)
    assert np.allclose(solved, np.eye(3), atol=1e-4)
    assert np.allclose(det, x.det(), rtol=1e-4)
