"""Evenly spaced numbers: torch's, to the last bit, since what is made of them may be cut."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import torch

from tests.export.forwards import Forward
from torch2mlx import kit, translate


def _same(mine, theirs):
    assert mine.shape == tuple(theirs.shape)
    if mine.dtype == mx.bfloat16:
        mine, theirs = mine.astype(mx.float32), theirs.float()
    np.testing.assert_array_equal(np.array(mine), theirs.numpy())


def test_lines_between_whole_numbers_are_cut_as_torch_cuts_them():
    for n in range(2, 37):
        for k in range(1, 47):
            _same(kit.tensors.linspace(0, n - 1, k), torch.linspace(0, n - 1, k))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int64", "int32"])
def test_lines_and_ranges_have_torchs_last_bits(kind):
    rng = np.random.default_rng(0)
    mine, theirs = getattr(mx, kind), getattr(torch, kind)
    for _ in range(100):
        start, end = (round(float(n), 2) for n in rng.normal(0, 9, 2))
        steps, step = int(rng.integers(0, 90)), round(float(rng.normal()), 2) or 0.5
        if not kind.startswith("int"):
            stop = start + step * steps
            made = kit.tensors.arange(start, stop, step, dtype=mine)
            _same(made, torch.arange(start, stop, step, dtype=theirs))
        made = kit.tensors.linspace(start, end, steps, dtype=mine)
        _same(made, torch.linspace(start, end, steps, dtype=theirs))


def test_ranges_of_whole_numbers_keep_their_class():
    assert kit.tensors.arange(3).dtype == mx.int64
    assert kit.tensors.arange(2.5).tolist() == [0, 1, 2]
    assert kit.tensors.arange(1, 2.5, dtype=mx.int32).tolist() == [1, 2]


def test_lines_between_arrays_end_where_torchs_do():
    for steps in (1, 2, 7, 12):
        ends = (0.1, 47.0)
        mine = kit.tensors.linspace(*map(mx.array, ends), steps)
        theirs = torch.linspace(*map(torch.tensor, ends), steps)
        np.testing.assert_allclose(np.array(mine), theirs.numpy(), rtol=1e-6)
        assert mine[0].item() == theirs[0].item() and mine[-1].item() == theirs[-1].item()


def of_a_length(x):
    n = x.shape[1]
    line = torch.linspace(0, n - 1, 13).long() + torch.linspace(-n / 3, n, n).floor().sum()
    return line, torch.linspace(x.min(), n, n)[-1], torch.arange(0, 3, 0.1).mul(n).long()


def of_steps(x):
    n = x.shape[1]
    return torch.arange(0, 1, 1 / n)[:n], torch.arange(-n / 2, n / 2, 0.3), torch.arange(0.1, n)


@pytest.mark.parametrize("form", [of_a_length, of_steps])
def test_translated_lines_of_a_length_have_torchs_last_bits(form):
    model = Forward(form)
    made = translate(model, (torch.ones(2, 16),))
    for shape in ((2, 16), (3, 49), (1, 48), (2, 7)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for mine, theirs in zip(made.module(mx.array(x.numpy())), model(x), strict=True):
            _same(mine, theirs)
