"""Gradients of kit functions that no layer's grid reaches, plain and under mx.compile."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn as nn
import torch
import torch.nn.functional as F

from torch2mlx import kit
from torch2mlx.kit import (
    distance,
    elementwise,
    indexing,
    padding,
    pooling,
    resample,
    shuffle,
    signal,
    sorting,
)

INDEX = np.random.default_rng(0).integers(0, 4, (4, 3))
MASK = np.random.default_rng(1).random((4, 3)) > 0.5
GRID = np.random.default_rng(2).uniform(-1.2, 1.2, (2, 5, 4, 2)).astype(np.float32)
nchw = lambda x: x.permute(0, 3, 1, 2)
nhwc = lambda x: x.permute(0, 2, 3, 1)
t, m = torch.from_numpy, mx.array

#: name: (torch function, MLX function, shape of the input)
CASES = {
    "gather": (
        lambda x: torch.gather(x, 0, t(INDEX)),
        lambda x: indexing.gather(x, 0, m(INDEX)),
        (4, 3),
    ),
    "scatter_add": (
        lambda x: torch.zeros(4, 3).scatter_add(0, t(INDEX), x),
        lambda x: indexing.scatter_add(mx.zeros((4, 3)), 0, m(INDEX), x),
        (4, 3),
    ),
    "index_add": (
        lambda x: torch.ones(4, 3).index_add(0, t(INDEX[:, 0]), x),
        lambda x: indexing.index_add(mx.ones((4, 3)), 0, m(INDEX[:, 0]), x),
        (4, 3),
    ),
    "masked_scatter": (
        lambda x: torch.zeros(4, 3).masked_scatter(t(MASK), x),
        lambda x: indexing.masked_scatter(mx.zeros((4, 3)), m(MASK), x),
        (4, 3),
    ),
    "sort": (lambda x: torch.sort(x, 1)[0], lambda x: sorting.sort(x, 1)[0], (4, 5)),
    "topk": (lambda x: torch.topk(x, 2)[0], lambda x: sorting.topk(x, 2)[0], (4, 5)),
    "kthvalue": (lambda x: torch.kthvalue(x, 2)[0], lambda x: sorting.kthvalue(x, 2)[0], (4, 5)),
    "renorm": (
        lambda x: torch.renorm(x, 2, 0, 1.0),
        lambda x: sorting.renorm(x, 2, 0, 1.0),
        (4, 5),
    ),
    "renorm of nothing": (
        lambda x: torch.renorm(x * 0, 2, 0, 1.0),
        lambda x: sorting.renorm(x * 0, 2, 0, 1.0),
        (2, 3),
    ),
    "copysign": (
        lambda x: torch.copysign(x, -x),
        lambda x: elementwise.copysign(x, -x),
        (4, 5),
    ),
    "cdist": (lambda x: torch.cdist(x[:2], x[2:]), lambda x: distance.cdist(x[:2], x[2:]), (4, 5)),
    "pdist": (F.pdist, distance.pdist, (4, 5)),
    "normalize": (F.normalize, distance.normalize, (4, 5)),
    "stft": (
        lambda x: torch.stft(x, 8, window=torch.ones(8), return_complex=True).abs(),
        lambda x: mx.abs(signal.stft(x, 8)),
        (2, 40),
    ),
    "grid_sample": (
        lambda x: nhwc(F.grid_sample(nchw(x), t(GRID), align_corners=False)),
        lambda x: resample.grid_sample(x, m(GRID)),
        (2, 6, 5, 3),
    ),
    "grid_sample bicubic, reflected": (
        lambda x: nhwc(F.grid_sample(nchw(x), t(GRID), "bicubic", "reflection", False)),
        lambda x: resample.grid_sample(x, m(GRID), "bicubic", "reflection"),
        (2, 6, 5, 3),
    ),
    "the grid of grid_sample": (
        lambda g: nhwc(
            F.grid_sample(torch.arange(90.0).view(1, 3, 6, 5) / 9, g, align_corners=True)
        ),
        lambda g: resample.grid_sample(
            mx.transpose(mx.arange(90.0).reshape(1, 3, 6, 5) / 9, (0, 2, 3, 1)),
            g,
            align_corners=True,
        ),
        (1, 4, 3, 2),
    ),
    "affine_grid": (
        lambda x: F.affine_grid(x, (2, 1, 4, 5), align_corners=False),
        lambda x: resample.affine_grid(x, (2, 4, 5, 1)),
        (2, 2, 3),
    ),
    "interpolate, antialiased": (
        lambda x: nhwc(F.interpolate(nchw(x), (3, 4), mode="bicubic", antialias=True)),
        lambda x: resample.interpolate(x, (3, 4), mode="bicubic", antialias=True),
        (2, 7, 6, 3),
    ),
    "pad": (
        lambda x: F.pad(x, (1, -1, 2, 0)),
        lambda x: padding.pad(x, (1, -1, 2, 0)),
        (4, 5),
    ),
    "unfold": (
        lambda x: F.unfold(nchw(x), 2).transpose(1, 2),
        lambda x: shuffle.unfold(x, 2),
        (2, 4, 5, 3),
    ),
    "max_pool": (
        lambda x: nhwc(F.max_pool2d(nchw(x), 3, 2, 1, ceil_mode=True)),
        lambda x: pooling.max_pool(x, 2, 3, 2, 1, ceil_mode=True),
        (2, 7, 6, 3),
    ),
    "max_unpool": (
        lambda x: nhwc(F.max_unpool2d(*F.max_pool2d(nchw(x), 2, return_indices=True), 2)),
        lambda x: pooling.max_unpool(*pooling.max_pool(x, 2, 2, return_indices=True), 2, (6, 4)),
        (2, 6, 4, 3),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients(name, compiled):
    in_torch, in_mlx, shape = CASES[name]
    array = np.random.randn(*shape).astype(np.float32)
    array = array * 0.4 if name == "the grid of grid_sample" else array
    x = torch.from_numpy(array).requires_grad_()
    expected = in_torch(x)
    weight = np.random.randn(*expected.shape).astype(np.float32)
    (expected * torch.from_numpy(weight)).sum().backward()
    function = mx.compile(in_mlx) if compiled else in_mlx
    close(function(mx.array(array)), expected.detach().numpy())
    gradient = mx.grad(lambda given: (function(given) * mx.array(weight)).sum())
    close(gradient(mx.array(array)), x.grad.numpy())


@pytest.mark.parametrize("make", [kit.embedding.Embedding, kit.layers.Embedding])
@pytest.mark.parametrize("padding_idx", [0, 3, -1])
def test_the_padding_row_gets_no_gradient(make, padding_idx):
    """A negative row is counted from the end, as torch counts it."""
    layer, theirs = make(5, 3, padding_idx), torch.nn.Embedding(5, 3, padding_idx)
    layer.weight = mx.array(theirs.weight.detach().numpy())
    rows = np.array([[0, 3, 4], [1, 4, 3]])
    theirs(t(rows)).pow(2).sum().backward()
    grads = nn.value_and_grad(layer, lambda: mx.square(layer(mx.array(rows))).sum())()[1]
    close(theirs.weight.grad, grads["weight"])
    assert not mx.any(grads["weight"][padding_idx]).item()
