"""Views that no slice describes are written to: the file does so at every size."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx


class Written(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x):
        x = x.clone()
        self.way(x)
        return x


def windows(x):
    x.unfold(1, 2, 2)[:, 0] *= 3


def narrowed(x):
    half = x.shape[1] // 2
    x.narrow(1, half - 1, 2).add_(1)


WAYS = {
    "a diagonal": lambda x: x.diagonal().fill_(7),
    "windows": windows,
    "a part of two, from the middle": narrowed,
    "an expanded view": lambda x: x.expand_as(x).mul_(2),
    "a diagonal of a view": lambda x: x.view(x.shape[0], x.shape[1]).t().diagonal().add_(1),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_view_is_written_to_at_every_size(name):
    model = Written(WAYS[name])
    made = torch2mlx.translate(model, (torch.randn(3, 6),))
    assert made.free == {"x": (0, 1)}
    for shape in ((3, 6), (5, 4), (2, 9)):
        x = torch.randn(shape)
        np.testing.assert_allclose(made.module(to_mlx(x)), model(x), rtol=1e-6)
