"""Functions of the kit that no layer uses, beside torch's of the same name."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core", "hypothesis")

import mlx.core as mx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch2mlx.kit import distance, elementwise, indexing, signal, sorting, tensors, tracking


def pair(array):
    return torch.from_numpy(np.array(array)), mx.array(array)


def randn(*shape):
    return pair(np.random.randn(*shape).astype(np.float32))


def same(found, expected):
    found = found if isinstance(found, tuple) else (found,)
    expected = tuple(expected) if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(shapes, st.data())
def test_scatter_family(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    smaller = [data.draw(st.integers(1, n)) for n in shape]
    (x, mlx_x), (source, mlx_source) = randn(*shape), randn(*shape)
    index, mlx_index = pair(np.random.randint(0, shape[dim], smaller))
    same(indexing.gather(mlx_x, dim, mlx_index), torch.gather(x, dim, index))
    same(
        indexing.scatter_add(mlx_x, dim, mlx_index, mlx_source),
        torch.scatter_add(x, dim, index, source),
    )
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for own in (True, False):
            same(
                indexing.scatter_reduce(mlx_x, dim, mlx_index, mlx_source, reduce, own),
                torch.scatter_reduce(x, dim, index, source, reduce, include_self=own),
            )


@pytest.mark.parametrize("dtype", (torch.int64, torch.complex64, torch.float32))
def test_items_of_64_bits_are_written_on_the_cpu(dtype, monkeypatch):
    """MLX refuses to scatter them on a GPU, and this machine may have none."""
    asked, stream = [], mx.stream
    monkeypatch.setattr(mx, "stream", lambda place: asked.append(place) or stream(place))
    x, rows = torch.arange(12).reshape(4, 3).to(dtype), torch.ones(2, 3).to(dtype)
    index = torch.tensor([1, 1])
    mlx_x, mlx_rows, mlx_index = (mx.array(t.numpy()) for t in (x, rows, index))
    added = indexing.index_add(mlx_x, 0, mlx_index, mlx_rows)
    assert np.array_equal(added, torch.index_add(x, 0, index, rows))
    put = indexing.index_put(mlx_x, (mlx_index[:1],), mlx_rows[:1])
    assert np.array_equal(put, torch.index_put(x, (index[:1],), rows[:1]))
    wide = dtype != torch.float32
    assert asked == ([mx.cpu] * 2 if wide else [])


def test_scatter_without_equal_indices():
    (x, mlx_x), (source, mlx_source) = randn(3, 5), randn(3, 5)
    index, mlx_index = pair(np.stack([np.random.permutation(5)[:4] for _ in range(3)]))
    same(indexing.scatter(mlx_x, 1, mlx_index, mlx_source), torch.scatter(x, 1, index, source))
    same(indexing.scatter(mlx_x, 1, mlx_index, 7.0), torch.scatter(x, 1, index, 7.0))


def test_index_add_and_put():
    (x, mlx_x), (rows, mlx_rows) = randn(4, 5), randn(3, 5)
    index, mlx_index = pair(np.array([0, 2, 0]))
    same(
        indexing.index_add(mlx_x, 0, mlx_index, mlx_rows, 2.0),
        x.index_add(0, index, rows, alpha=2.0),
    )
    same(indexing.index_put(mlx_x, (mlx_index,), mlx_rows, True), x.index_put((index,), rows, True))
    columns, mlx_columns = randn(4, 2)
    pick, mlx_pick = pair(np.array([1, 3]))
    expected = x.clone()
    expected[:, pick] = columns
    same(indexing.index_put(mlx_x, (None, mlx_pick), mlx_columns), expected)
    mask, mlx_mask = pair(np.random.randn(4, 5) > 0)
    value = mx.array(3.0)
    same(indexing.index_put(mlx_x, (mlx_mask,), value), x.index_put((mask,), torch.tensor(3.0)))


@pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 3, 2)])
def test_masks(shape):
    x, mlx_x = randn(*shape)
    mask, mlx_mask = x > 0, mlx_x > 0
    source, mlx_source = randn(30)
    same(indexing.nonzero(mlx_mask), torch.nonzero(mask))
    same(indexing.masked_select(mlx_x, mlx_mask), torch.masked_select(x, mask))
    same(indexing.masked_scatter(mlx_x, mlx_mask, mlx_source), x.masked_scatter(mask, source))
    none = mx.zeros(shape, mx.bool_)
    assert indexing.nonzero(none).shape == (0, len(shape))


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_keeps_the_order_of_ties(dim, descending):
    x, mlx_x = pair(np.random.randint(0, 3, (5, 7)).astype(np.float32))
    expected = torch.sort(x, dim=dim, descending=descending, stable=True)
    same(sorting.sort(mlx_x, dim, descending), tuple(expected))


def test_order_statistics():
    x, mlx_x = randn(5, 8)
    same(sorting.topk(mlx_x, 3), tuple(torch.topk(x, 3)))
    same(sorting.topk(mlx_x, 2, 0, False), tuple(torch.topk(x, 2, 0, largest=False)))
    same(sorting.kthvalue(mlx_x, 3, 1), tuple(torch.kthvalue(x, 3, 1)))
    same(sorting.median(mlx_x), torch.median(x))
    same(sorting.median(mlx_x, 1, True), tuple(torch.median(x, 1, True)))
    y, mlx_y = pair(np.random.randint(0, 4, (5, 9)))
    same(sorting.mode(mlx_y), torch.mode(y))
    same(sorting.unique(mlx_y), torch.unique(y, return_inverse=True, return_counts=True))
    edges, mlx_edges = pair(np.array([0.0, 1.0, 2.0], np.float32))
    for right in (False, True):
        same(sorting.bucketize(mlx_x, mlx_edges, right), torch.bucketize(x, edges, right=right))
    same(sorting.renorm(mlx_x, 2, 0, 1.5), torch.renorm(x, 2, 0, 1.5))


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.5, float("inf")])
def test_distances(p):
    (a, mlx_a), (b, mlx_b) = randn(2, 5, 3), randn(2, 4, 3)
    same(distance.cdist(mlx_a, mlx_b, p), torch.cdist(a, b, p))
    same(distance.pdist(mlx_a[0], p), torch.pdist(a[0], p))
    if p:
        same(distance.normalize(mlx_a, p), torch.nn.functional.normalize(a, p))


@pytest.mark.parametrize(
    "options",
    [{}, {"hop_length": 5}, {"win_length": 12}, {"normalized": True}, {"center": False}],
)
def test_stft_and_back(options):
    x, mlx_x = randn(2, 100)
    size = options.get("win_length", 16)
    window, mlx_window = pair(np.hanning(size + 2)[1:-1].astype(np.float32))
    expected = torch.stft(x, 16, window=window, return_complex=True, **options)
    found = signal.stft(mlx_x, 16, window=mlx_window, **options)
    same((found.real, found.imag), (expected.real, expected.imag))
    back = torch.istft(expected, 16, window=window, **options)
    same(signal.istft(found, 16, window=mlx_window, **options), back)
    if options.get("center", True):
        longer = torch.istft(expected, 16, window=window, length=100, **options)
        same(signal.istft(found, 16, window=mlx_window, length=100, **options), longer)


@pytest.mark.parametrize("mode", ["floor", "trunc", None])
def test_ported_divisions(mode):
    pairs = [
        (np.float32([6.0, -6.0, 1.0, 7.5, -7.5]), np.float32([0.1, 0.1, 0.1, 2, 2])),
        (np.int32([7, -7, 7, -7, 6]), np.int32([2, 2, -2, -2, 3])),
    ]
    for a, b in pairs:
        (x, mlx_x), (y, mlx_y) = pair(a), pair(b)
        found, expected = tensors.divide(mlx_x, mlx_y, mode), torch.div(x, y, rounding_mode=mode)
        assert str(found.dtype).split(".")[-1] == str(expected.dtype).split(".")[-1]
        same(found, expected)


def test_ported_spreads_of_large_means():
    x, mlx_x = pair(np.float32(1e4) + np.random.randn(3, 70_000).astype(np.float32))
    for name in ("var", "std"):
        for options in ({}, {"dim": 1}, {"dim": 1, "unbiased": False, "keepdim": True}):
            expected = getattr(torch, name)(x.double(), **options)
            found = np.array(getattr(tensors, name)(mlx_x, **options))
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics_of_long_rows(name):
    """A mean of a hundred deviations over forty thousand places."""
    x, mlx_x = pair(np.float32(100) + np.random.randn(2, 200, 200, 3).astype(np.float32))
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    function = getattr(torch.nn.functional, name)
    flag = {"training": True} if name == "batch_norm" else {"use_input_stats": True}
    expected = function(x.double().permute(0, 3, 1, 2), mean, var, momentum=0.3, **flag)
    function = getattr(tracking, name)
    found, *moved = function(mlx_x, mx.zeros(3), mx.ones(3), momentum=0.3)
    np.testing.assert_allclose(np.array(found), expected.permute(0, 2, 3, 1), atol=1e-4)
    for a, b in zip(moved, (mean, var), strict=True):
        np.testing.assert_allclose(np.array(a), b.numpy(), rtol=1e-5)


def test_heaviside_is_zero_at_nan_as_torchs():
    x, mlx_x = pair(np.array([-1, 0, 2, np.nan, -0.0], np.float32))
    for value in (torch.tensor(0.5), torch.arange(5.0)):
        same(
            elementwise.heaviside(mlx_x, mx.array(value.numpy())),
            torch.heaviside(x, value),
        )
