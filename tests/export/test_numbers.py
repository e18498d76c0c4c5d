"""Numbers at their edges: masked rows, long rows, large means, division, nothing at all."""

import math

import numpy as np
import pytest

from tests.export.test_kinks import Several, compare
from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx import kit, registry
from torch2mlx.export.ir.structures import to_mlx

INF = float("inf")
attend = F.scaled_dot_product_attention


def agree(functions, *args, others=()):
    """Each function's values in both frameworks, exactly where they are whole numbers."""
    model = Several(list(functions.values()))
    made = torch2mlx.translate(model, args).module
    for given in (args, *others):
        for name, a, b in zip(functions, made(*map(to_mlx, given)), model(*given), strict=True):
            parts = zip(a, b, strict=True) if isinstance(b, (tuple, list)) else [(a, b)]
            for x, y in parts:
                assert tuple(x.shape) == tuple(y.shape), name
                np.testing.assert_allclose(np.array(x), y.numpy(), 1e-6, 1e-7, err_msg=name)


def test_a_query_that_may_attend_to_nothing_answers_zero():
    q = torch.randn(2, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    keep = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    keep[0, :, 3:], keep[1, ..., 2] = False, True
    compare(
        {
            "bool": lambda q, b: attend(q, q, q, attn_mask=keep),
            "float": lambda q, b: attend(q, q, q, attn_mask=b),
            "made": lambda q, b: attend(q, q, q, attn_mask=torch.where(keep, 0.0, -INF)),
            "before": lambda q, b: attend(q, q, q, attn_mask=torch.ones(6, 6).tril(-1).bool()),
            "three axes": lambda q, b: attend(q[0], q[0], q[0], attn_mask=b[0]),
            "wide values": lambda q, b: attend(q, q, torch.cat([q, q], -1), attn_mask=keep),
        },
        q,
        torch.zeros(2, 1, 6, 6).masked_fill(~keep, -INF),
    )


class Masked(nn.Module):
    """Masks that leave every query something: MLX's own attention takes them."""

    def forward(self, q, padding):
        low = torch.finfo(torch.float32).min
        window = torch.ones(q.shape[2], q.shape[2]).triu(-2).bool()
        near = attend(q, q, q, attn_mask=window)
        return near, attend(q, q, q, attn_mask=(1 - padding.float())[:, None, None] * low)


def test_masks_that_bar_no_row_need_no_care():
    q, padding = torch.randn(2, 2, 6, 8), torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    made = torch2mlx.translate(Masked(), (q, padding))
    assert "kit." not in made.source
    assert torch2mlx.verify(Masked(), made, (q, padding)).difference < 1e-5


@pytest.mark.parametrize("weights", (False, True))
@pytest.mark.parametrize("kind", ("bool", "float", "padding"))
def test_multi_head_attention_over_barred_rows(kind, weights):
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 4, 8)
    mask = {"attn_mask": torch.eye(4).bool()}
    mask["attn_mask"][2] = True
    if kind == "float":
        mask = {"attn_mask": torch.zeros(4, 4).masked_fill(mask["attn_mask"], -INF)}
    if kind == "padding":
        mask = {"key_padding_mask": torch.tensor([[False] * 4, [True] * 4])}
    made = registry.build(layer)
    given = {name: to_mlx(value) for name, value in mask.items()}
    found, _ = made(*[to_mlx(x)] * 3, need_weights=weights, **given)
    expected, _ = layer(x, x, x, need_weights=weights, **mask)
    np.testing.assert_allclose(np.array(found), expected.detach(), 1e-4, 1e-5)
    assert bool(mx.isnan(found).any()) == weights  # as in torch


@pytest.mark.parametrize("mean", (0.0, 100.0, 1e4))
def test_norms_of_long_rows(mean):
    """Variances about the mean, sums in blocks: never farther from the truth than torch is."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 200, 200, generator=g) + mean
    wide, weight = to_mlx(x.permute(0, 2, 3, 1).contiguous()), mx.ones(8)

    def spread(y, axes):
        return (y - y.mean(axes, True)) / (y.var(axes, False, keepdim=True) + 1e-5).sqrt()

    cases = (
        (kit.moments.group_norm(wide, 2, weight), lambda y: spread(y.reshape(1, 2, -1), -1)),
        (kit.InstanceNorm(8)(wide), lambda y: spread(y, (2, 3))),
        (kit.BatchNorm(8)(wide), lambda y: spread(y, (0, 2, 3))),
    )
    allowed = 1e-5 * max(1.0, mean / 4)  # the mean of 1e4 is known to 5e-4
    for found, truth in cases:
        truth = truth(x.double()).reshape(x.shape)
        assert np.abs(np.moveaxis(np.array(found), -1, 1) - truth.numpy()).max() <= allowed
    flat = to_mlx(x.reshape(2, -1))
    layer = kit.LayerNorm((8, 200, 100))(flat.reshape(2, 8, 200, 100)).reshape(flat.shape)
    assert np.abs(np.array(layer) - spread(x.double().reshape(2, -1), 1).numpy()).max() <= allowed
    truth = x.double().reshape(2, -1)
    for name in ("mean", "var", "std"):
        found = np.array(getattr(kit.moments, name)(flat, axis=1))
        np.testing.assert_allclose(found, getattr(truth, name)(1).numpy(), 1e-5)


class Long(nn.Module):
    def __init__(self):
        super().__init__()
        self.group, self.instance = nn.GroupNorm(2, 4, eps=1e-8), nn.InstanceNorm1d(4)

    def forward(self, x):
        scaled = F.group_norm(x, 1) + F.instance_norm(x)
        means = x.mean((1, 2)), x.sum(2), x.var((1, 2)), x.std(2)
        return self.group(x) + self.instance(x) + scaled, *means


def test_translations_of_long_rows():
    x = torch.randn(2, 4, 40000, generator=torch.Generator().manual_seed(0)) + 30
    model = Long().eval()
    made = torch2mlx.translate(model, (x,))
    for given in (x, x[:1] * 3):
        found = torch2mlx.verify(model, made, (given,))
        assert found.ok and found.difference < 1e-5, str(found)


def test_floats_are_divided_as_in_torch():
    x = torch.tensor([7.5, -7.5, 7.5, -7.5, 0.0, 6.0, -6.0, 1e8, 0.3, 5.9999995, 3e38, 1.0])
    y = torch.tensor([2.0, 2.0, -2.0, -2.0, 3.0, 3.0, 3.0, 3.0, 0.1, 1.0, 0.1, 0.1])
    agree(
        {
            "floor": torch.floor_divide,
            "by numbers": lambda x, y: (x // 2, x // -0.3, x // 0, x // INF, 7 // y),
            "rounded": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
            "remainder": lambda x, y: (x % y, x % -2.5, x % -INF, torch.remainder(7.5, y)),
            "fmod": lambda x, y: (torch.fmod(x, y), torch.fmod(x, -2.5), torch.fmod(x, INF)),
        },
        x,
        y,
    )


@pytest.mark.parametrize("dtype", (torch.int32, torch.int64, torch.uint8))
def test_whole_numbers_are_divided_and_overflow_as_in_torch(dtype):
    low = 0 if dtype == torch.uint8 else torch.iinfo(dtype).min
    x = torch.tensor([7, -7, 7, -7, 0, 6, 250, torch.iinfo(dtype).max, low, 1]).to(dtype)
    y = torch.tensor([2, 2, -2, -2, 3, 3, 3, 2, 7, 5]).to(dtype)
    agree(
        {
            "floor": lambda x, y: (x // y, x // 2, torch.div(x, y, rounding_mode="floor")),
            "trunc": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
            "rest": lambda x, y: (x % y, torch.fmod(x, y), x % 3),
            "wrapped": lambda x, y: (x + y, y - x, x * y, x * x, ~x),
            "floats": lambda x, y: (x / y, x.float() * 2),
        },
        x,
        y,
    )


def test_rows_of_infinities():
    x = torch.tensor([[-INF] * 3, [1.0, -INF, 2.0], [INF, 1.0, 2.0], [float("nan"), 1.0, 2.0]])
    functions = (
        *(lambda x, f=f: f(x, 1) for f in (torch.softmax, torch.log_softmax, torch.logsumexp)),
        *(lambda x, f=f: f(x, 0) for f in (torch.logsumexp, torch.logcumsumexp, torch.amax)),
        *(F.relu, F.relu6, F.hardtanh, F.silu, F.softplus, F.elu, F.leaky_relu),
        lambda x: F.gelu(x.clamp(max=99.0)),  # of infinity torch gives NaN on some processors
        *(torch.sigmoid, torch.tanh, torch.nan_to_num, torch.nansum, torch.isfinite),
        lambda x: F.threshold(x, 0, 0),
        lambda x: (x.clamp(-1, 1), x.clamp(min=0), torch.fmax(x, torch.zeros(3))),
        lambda x: (x.max(1).values, x.min(1).values, x.mean(1), x.cumsum(1)),
    )
    agree({str(i): f for i, f in enumerate(functions)}, x)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_one_row_and_none():
    functions = {
        "sums": lambda x: (x.sum(0), x.sum(), x.prod(0), (x**2).sum(0), x.cumsum(0)),
        "means": lambda x: (x.mean(0), x.mean(), x.nansum(0), x.nanmean(0)),
        "spreads": lambda x: (x.std(0), x.var(0), x.std(), x.var(0, unbiased=False)),
        "logic": lambda x: ((x > 0).any(0), (x > 0).all(), torch.count_nonzero(x, 0)),
        "norms": lambda x: (x.norm(dim=0), x.norm(), F.normalize(x, dim=1)),
        "layers": lambda x: (F.layer_norm(x, (3,)), F.linear(x, torch.ones(2, 3)), x.relu()),
        "products": lambda x: (x.T @ x, x @ x.T, torch.outer(x[:, 0], x[:, 1])),
        "softmax": lambda x: (x.softmax(0), x.softmax(1)),
        "order": lambda x: (x.sort(0).values, x.flip(0), x.amax(1)),
        "shapes": lambda x: (torch.cat([x, x]), x.repeat(2, 2), F.pad(x, (1, 1, 1, 0)), x[:, None]),
        "masks": lambda x: (torch.where(x > 0, x, 0), x.masked_fill(x > 0, 1.0), x.tril()),
    }
    for rows in (0, 1):
        agree(functions, torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows)))


def test_the_spread_of_nothing_is_nan():
    for name in ("var", "std"):
        for shape, options in (((1,), {"ddof": 1}), ((0,), {}), ((2,), {"ddof": 2})):
            assert math.isnan(getattr(kit.moments, name)(mx.zeros(shape), **options).item())
    with pytest.raises(ValueError, match="3 groups do not divide 4 channels"):
        kit.moments.group_norm(mx.zeros((1, 2, 4)), 3)


def test_extremes_of_nothing_have_the_shapes_that_torch_gives_them():
    agree(
        {
            "argmax": lambda x: x[:, 4:].argmax(-1),
            "argmin, kept": lambda x: x[:, 4:].argmin(-1, keepdim=True),
            "max": lambda x: tuple(x[:, 4:].max(-1)),
            "min": lambda x: tuple(x[:, 4:].min(0, keepdim=True)),
            "logsumexp": lambda x: x[:, 4:].logsumexp(-1),
            "logsumexp over nothing": lambda x: x[:, 4:].logsumexp((0, 1)),
        },
        torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)),
        others=[(torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1)),)],
    )


def test_hypot_neither_overflows_nor_loses_what_is_small():
    edges = [0.0, 3.0, -4.0, 1e-30, 1e-20, -1e30, 3e38, INF, -INF, math.nan]
    x, y = torch.cartesian_prod(torch.tensor(edges), torch.tensor(edges)).unbind(1)
    plain = {"hypot": torch.hypot, "method": lambda x, y: x.hypot(y)}
    agree(plain, x, y, others=((x[:7], y[30:37]),))
    halves = torch.tensor([1e-4, 200.0, 300.0]).half(), torch.tensor([1e-4, 300.0, -4e4]).half()
    made = torch2mlx.translate(Several([torch.hypot]), halves).module
    np.testing.assert_allclose(made(*map(to_mlx, halves))[0], torch.hypot(*halves), rtol=2e-3)
    compare(plain, torch.tensor([3.0, 1e-25, -1e25, 2.0]), torch.tensor([4.0, 1e-25, 1e25, 0.0]))


def test_kl_div_of_what_is_no_probability_is_nan():
    targets = torch.tensor([0.0, 0.25, 1.0, -1.0, -INF, math.nan])
    plain = {"kl": lambda x, y: F.kl_div(x, y, reduction="none")}
    agree(plain, torch.linspace(-3, 0, 6), targets, others=((torch.zeros(3), targets[2:5]),))
    compare({"sum": lambda x, y: F.kl_div(x, y, reduction="sum")}, -torch.ones(3), targets[:3])
