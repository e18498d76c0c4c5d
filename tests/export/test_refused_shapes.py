"""Inputs of shapes that torch refuses are refused, also behind layers whose channels were moved."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx

SHAPES = [(2, 3, 8, 8), (4, 2, 8, 8), (2, 8, 8), (2, 1, 4, 4), (2, 1, 8, 8, 1), (64,), (2, 64)]
SHAPES += [(1, 64, 2, 1), (2, 48), (6, 1, 8, 4)]


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(self.conv(x)).permute(0, 2, 3, 1).reshape(x.shape[0], 4)


class Viewed(nn.Module):
    """Reshapes in a row: the first one decides what may come in."""

    def forward(self, x):
        rows = x.reshape(x.shape[0], 8, 8)
        return rows.reshape(-1, 16) + 1


def flat():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 2))


@pytest.mark.parametrize("make", (flat, Pooled, Viewed), ids=("flat", "pooled", "viewed"))
def test_what_torch_refuses_is_refused(make):
    torch.manual_seed(0)
    model = make().eval()
    made = torch2mlx.translate(model, (torch.randn(2, 1, 8, 8),))
    assert torch2mlx.verify(model, made, (torch.randn(5, 1, 8, 8),)).difference < 1e-5
    assert "(-1, 8" not in made.source
    refused = 0
    for shape in SHAPES:
        try:
            model(torch.ones(shape))
        except RuntimeError:
            refused += 1
            with pytest.raises(ValueError, match=r"."):
                made.module(to_mlx(torch.ones(shape)))
    assert refused >= 5
