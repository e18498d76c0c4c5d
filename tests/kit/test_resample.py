"""interpolate: sides that a scale leaves or doubles, and what torch refuses."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.kit.resample import interpolate


def picture(*shape):
    torch.manual_seed(0)
    image = torch.randn(*shape)
    return image, mx.array(np.ascontiguousarray(image.movedim(1, -1).numpy()))


SIDES = {
    "linear": [(7,)],
    "bilinear": [(2, 4), (5, 1)],
    "trilinear": [(2, 4, 5)],
    "bicubic": [(2, 4)],
}
SIDES |= {
    "nearest": [(7,), (2, 4), (70, 61), (2, 4, 5)],
    "nearest-exact": [(7,), (2, 4), (2, 4, 5)],
}


@pytest.mark.parametrize("mode", SIDES)
@pytest.mark.parametrize("scale", [1.01, 1.3, 2.05, 2.3, 0.6])
def test_a_scale_that_leaves_or_doubles_a_side(mode, scale):
    for sides in SIDES[mode]:
        image, ours = picture(1, 2, *sides)
        for antialias in (False, True) if mode in ("bilinear", "bicubic") else (False,):
            options = {"scale_factor": scale, "mode": mode, "antialias": antialias}
            if antialias and int(sides[1] * scale) == 1 and sides[0] != 1:
                continue  # see below
            if min(int(n * scale) for n in sides) == 0:
                continue  # an error in torch
            expected = F.interpolate(image, **options).movedim(1, -1)
            close(interpolate(ours, **options), expected.numpy())


REFUSED = {
    "size and scale": {"size": 4, "scale_factor": 2.0},
    "neither": {},
    "a scale to compute anew, and a size": {"size": 4, "recompute_scale_factor": True},
    "corners of what is not mixed": {"size": 4, "align_corners": False},
    "antialias of what is not mixed": {"size": 4, "antialias": True},
    "linear for a picture": {"size": 4, "mode": "linear"},
    "trilinear for a picture": {"size": 4, "mode": "trilinear"},
    "three sizes": {"size": (4, 4, 4)},
    "three scales": {"scale_factor": (2.0, 2.0, 2.0)},
    "an empty side": {"scale_factor": 0.1},
    "a side of -6": {"scale_factor": -1.0},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_refuses_is_refused(case):
    image, ours = picture(1, 2, 5, 6)
    with pytest.raises((ValueError, RuntimeError)):
        F.interpolate(image, **REFUSED[case])
    with pytest.raises(ValueError, match=r"give|mode|size|scale|empty"):
        interpolate(ours, **REFUSED[case])


def test_antialias_to_a_width_of_one_is_refused_where_torch_repeats_a_row():
    options = {"size": (3, 1), "mode": "bilinear", "antialias": True}
    image, ours = picture(1, 2, 5, 6)
    rows = F.interpolate(image, **options)
    assert torch.equal(rows, rows[:, :, :1].expand_as(rows))
    with pytest.raises(ValueError, match="width of 1"):
        interpolate(ours, **options)
    image, ours = picture(1, 2, 3, 6)  # the height stays
    close(interpolate(ours, **options), F.interpolate(image, **options).movedim(1, -1).numpy())


class Resized(nn.Module):
    """Sizes that fit at the example's length, and not at each."""

    def forward(self, x):
        half = F.interpolate(x, scale_factor=0.5, mode="bilinear")
        return (
            half,
            F.interpolate(x, scale_factor=1.1),
            F.interpolate(x, scale_factor=0.3, mode="area"),
        )


def test_a_translation_refuses_the_sizes_that_torch_refuses():
    made = torch2mlx.translate(Resized(), torch.randn(2, 3, 8, 6)).module
    for sides in ((8, 6), (4, 9), (12, 20)):
        x = torch.randn(1, 3, *sides)
        for a, b in zip(made(to_mlx(x)), Resized()(x), strict=True):
            np.testing.assert_allclose(np.array(a), b, 1e-5, 1e-5)
    x = torch.randn(1, 3, 8, 1)
    with pytest.raises(RuntimeError, match="greater than 0"):
        Resized()(x)
    with pytest.raises(ValueError, match="empty axis"):
        made(to_mlx(x))
