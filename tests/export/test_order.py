"""Quantiles between neighbours, places in sorted rows, running extremes, types of results, sigmoids
of complex numbers: values at several sizes, in rows with NaN and rows that are not sorted."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx.export.ir.structures import arrays_of, numpy_of, to_mlx

NAN, INF = float("nan"), float("inf")
WAYS = ("linear", "lower", "higher", "nearest", "midpoint")
SEVERAL = torch.tensor([0.0, 0.3, 0.5, 0.77, 1.0])


class Quantiles(nn.Module):
    """Of rows, of columns and of all items, by every way between neighbours."""

    def forward(self, x):
        options = [{"dim": d, "interpolation": way} for d in (0, 1, None) for way in WAYS]
        kept = [torch.quantile(x, q, keepdim=True, **o) for o in options for q in (0.3, SEVERAL)]
        return kept, [torch.nanquantile(x, SEVERAL, **o) for o in options]


class Places(nn.Module):
    """Before and behind equal items, in rows that are sorted, by another order, and not at all."""

    def forward(self, rows, values):
        order = torch.arange(rows.shape[1]).flip(0).expand(rows.shape).contiguous()
        found = [
            torch.searchsorted(r, values, right=w) for r in (rows, -rows) for w in (False, True)
        ]
        turned = torch.searchsorted(rows.flip(1), values, sorter=order, out_int32=True)
        return [*found, turned, torch.searchsorted(rows, rows, side="right")]


class Types(nn.Module):
    """Types that torch is asked for while it is traced, and sigmoids of all of them."""

    def forward(self, x, i):
        z = torch.complex(x, x.flip(0))
        sides = torch.tensor([x.shape[0], x.shape[1]])
        both = (
            x[:, :2] / sides,
            i.to(torch.result_type(i, x)),
            i.to(torch.promote_types(i.dtype, x.dtype)),
        )
        return (
            *both,
            z.sigmoid(),
            torch.special.expit(z),
            i.sigmoid(),
            (x > 0).sigmoid(),
            x.half().sigmoid(),
        )


class Odd(nn.Module):
    """What a number that is none, or infinite, becomes; and powers as columns."""

    def forward(self, x):
        running = x.cummax(1), x.cummin(1), x.cummax(0).values
        powers = torch.vander(x[0], 3), torch.vander(x[0], increasing=True), torch.linalg.vander(x)
        return *running, *powers, F.hardswish(x), F.softshrink(x), F.softshrink(x, 2.0)


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def ordered(*shape):
    return drawn(*shape).mul(2).round().sort(1).values


CASES = {
    "quantiles": (
        Quantiles,
        [(drawn(4, 6),), (drawn(3, 5),), (torch.tensor([[1, NAN, 3], [NAN] * 3]),)],
    ),
    "places": (Places, [(ordered(3, 6), drawn(3, 4)), (ordered(2, 9), ordered(2, 3))]),
    "odd": (Odd, [(drawn(3, 4),), (torch.tensor([[1, NAN, 3, -INF], [INF, -3, NAN, 0]]),)]),
    "types": (Types, [(drawn(4, 3), torch.arange(4)), (drawn(2, 5), torch.arange(2))]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_torchs_at_every_size(name):
    kind, examples = CASES[name]
    made = torch2mlx.translate(kind(), examples[0]).module
    for args in examples:
        expected = list(arrays_of(kind()(*args)))
        found = list(arrays_of(made(*map(to_mlx, args))))
        assert len(found) == len(expected)
        for (path, a), (_, b) in zip(expected, found, strict=True):
            np.testing.assert_allclose(numpy_of(b), numpy_of(a), 1e-3, 1e-6, err_msg=str(path))
