"""What the kit holds for translated programs: equal to torch in value, ties of topk included."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import torch

from torch2mlx.kit import algebra, indexing, moe, sequences, sorting
from torch2mlx.kit.ties import order_of_equals

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((4, 5)).astype(np.float32)
WHOLE, OTHER = (DRAW.integers(-40, 40, (4, 5)) for _ in range(2))


@pytest.mark.parametrize("n", (1, 2, 3, 4, 5, 16, 17, 33, 64, 100, 300))
def test_topk_of_equal_items_takes_those_that_torch_takes(n):
    for k in {1, min(2, n), n // 2, n} - {0}:
        assert order_of_equals(n, k) == tuple(torch.topk(torch.zeros(n), k).indices.tolist())


@pytest.mark.parametrize("name", ("cummax", "cummin"))
def test_running_extremes(name):
    rows = np.round(X)  # with ties
    values, places = getattr(torch, name)(torch.from_numpy(rows), 1)
    found = getattr(sorting, name)(mx.array(rows), 1)
    close(found[0], values)
    assert (np.array(found[1]) == places.numpy()).all()


def test_histc_and_quantile():
    close(sorting.histc(mx.array(X), 7, -1, 1), torch.histc(torch.from_numpy(X), 7, -1, 1))
    close(sorting.histc(mx.array(X), 5), torch.histc(torch.from_numpy(X), 5))
    q = np.array([0.1, 0.5, 0.9], np.float32)
    expected = torch.quantile(torch.from_numpy(X), torch.from_numpy(q), dim=1)
    close(sorting.quantile(mx.array(X), mx.array(q), 1), expected)


@pytest.mark.parametrize("name", ("gcd", "lcm"))
def test_divisors(name):
    expected = getattr(torch, name)(torch.from_numpy(WHOLE), torch.from_numpy(OTHER)).numpy()
    assert (np.array(getattr(sorting, name)(mx.array(WHOLE), mx.array(OTHER))) == expected).all()


def test_det_and_pinv():
    square = DRAW.standard_normal((3, 4, 4)).astype(np.float32)
    close(algebra.det(mx.array(square)), torch.linalg.det(torch.from_numpy(square)))
    deficient = X.copy()
    deficient[3] = deficient[2]
    expected = torch.linalg.pinv(torch.from_numpy(deficient))
    close(algebra.pinv(mx.array(deficient), 5 * 2.0**-23), expected)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_logarithms_of_determinants_that_are_out_of_range(scale):
    for size in (1, 3, 64):
        square = (DRAW.standard_normal((2, size, size)) * scale).astype(np.float32)
        square[1, 0] *= -1
        for found, expected in zip(
            algebra.slogdet(mx.array(square)), torch.slogdet(torch.from_numpy(square)), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        expected = torch.logdet(torch.from_numpy(square))
        np.testing.assert_allclose(algebra.logdet(mx.array(square)), expected, rtol=1e-5, atol=1e-5)


def test_the_logarithm_of_a_singular_matrix():
    zeros = np.zeros((2, 2), np.float32)
    sign, size = algebra.slogdet(mx.array(zeros))
    assert (sign.item(), size.item()) == (0.0, -np.inf)
    assert algebra.logdet(mx.array(zeros)).item() == torch.logdet(torch.from_numpy(zeros)).item()


def test_writing_by_index_and_mask():
    x = torch.from_numpy(X)
    expected = x.clone()
    expected[1:3, 0] = 7
    where = (slice(1, 3), 0)
    close(indexing.assign(mx.array(X), where, 7.0), expected)
    rows = np.array([True, False, True, False])
    assert (np.array(indexing.masked_rows(mx.array(X), mx.array(rows))) == X[rows]).all()
    expected = x.clone()
    expected[torch.from_numpy(rows)] = torch.ones(2, 5)
    found = indexing.masked_rows_put(mx.array(X), mx.array(rows), mx.ones((2, 5)))
    close(found, expected)
    diagonal = torch.diagonal_scatter(x, torch.ones(4), 1)
    close(indexing.diagonal_scatter(mx.array(X), mx.ones(4), 1), diagonal)
    close(indexing.accumulate(mx.zeros(3), (mx.array([1, 1]),), mx.array([2.0, 3.0])), [0, 5, 0])


@pytest.mark.parametrize("dims", [(0, 1), (2, 0), (-2, -1)])
@pytest.mark.parametrize("offset", [-1, 0, 2])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 4, 3, 5)])
def test_a_diagonal_of_two_of_several_axes_is_written(shape, offset, dims):
    x = torch.from_numpy(DRAW.standard_normal(shape).astype(np.float32)).requires_grad_()
    part = torch.diagonal(x, offset, *dims).detach() * 2 + 1
    expected = torch.diagonal_scatter(x, part, offset, *dims)
    given, source = mx.array(x.detach().numpy()), mx.array(part.numpy())
    write = lambda x: indexing.diagonal_scatter(x, source, offset, *dims)
    close(write(given), expected.detach())
    (expected**2).sum().backward()
    close(mx.grad(lambda x: (write(x) ** 2).sum())(given), x.grad)


def test_grouped_products():
    x, w = DRAW.standard_normal((6, 5)), DRAW.standard_normal((3, 5, 2))
    x, w, ends = x.astype(np.float32), w.astype(np.float32), [2, 2, 5]
    expected = np.zeros((6, 2), np.float32)
    start = 0
    for group, end in enumerate(ends):
        expected[start:end] = x[start:end] @ w[group]
        start = end
    close(moe.grouped_mm(mx.array(x), mx.array(w), mx.array(ends)), expected)
    for dtype in (mx.bfloat16, mx.float16):
        halves = (mx.array(x).astype(dtype), mx.array(w).astype(dtype))
        found = moe.grouped_mm(*halves, mx.array(ends))
        assert found.dtype == dtype
        close(found.astype(mx.float32), expected, 2e-2)


@pytest.mark.parametrize("kind", ("LSTM", "GRU", "RNN"))
def test_sequences_by_their_operators(kind):
    torch.manual_seed(0)
    layer = getattr(torch.nn, kind)(5, 3, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 4, 5)
    output, state = layer(x)
    states = [mx.zeros((4, 2, 3))] * (2 if kind == "LSTM" else 1)
    weights = [mx.array(w.detach().numpy()) for w in layer._flat_weights]
    run = getattr(sequences, kind.lower())
    found = run(mx.array(x.numpy()), tuple(states), weights, True, 2, True, True)
    close(found[0], output.detach())
    close(found[1], (state[0] if kind == "LSTM" else state).detach())
