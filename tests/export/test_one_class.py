"""One class of the file for one class of torch: names of arguments, options, widths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx


class Normed(nn.BatchNorm2d):
    """A batch norm with an activation, as timm writes it."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        return self.act(x)


class Block(nn.Module):
    """Values come in from layers of several names."""

    def __init__(self, width: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, 2 * width, 3, stride, 1, bias=bias)
        self.norm = Normed(2 * width)
        self.second = nn.Conv2d(2 * width, width, 1)
        self.other = Normed(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.other(self.second(self.norm(self.first(images))))


class Net(nn.Module):
    """Blocks of two widths that differ in their options."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.a, self.b = Block(4, 1, True), Block(4, 2, False)
        self.wider, self.c = nn.Conv2d(4, 6, 1), Block(6, 2, True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.wider(self.b(self.a(self.stem(x)))))


def _net() -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
    return net


@pytest.fixture(scope="module")
def made() -> tuple[Net, Any]:
    net = _net()
    return net, torch2mlx.translate(net, (torch.randn(2, 3, 8, 8),))


def _classes(source: str) -> Sequence[str]:
    return re.findall(r"^class (\w+)", source, re.MULTILINE)


def test_instances_that_differ_in_widths_and_options_are_one_class(made: Any) -> None:
    assert _classes(made[1].source) == ["Normed", "Block", "Net"]
    assert "stride=stride" in made[1].source
    assert "bias=bias" in made[1].source


def test_arguments_are_named_as_in_the_forward_of_torch(made: Any) -> None:
    assert made[1].source.count("def __call__(self, images):") == 1
    assert made[1].source.count("def __call__(self, x):") == 2


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (5, 3, 12, 8)])
def test_the_values_are_those_of_torch(made: Any, shape: tuple[int, ...]) -> None:
    net, _ = made
    args = (torch.randn(shape),)
    assert torch2mlx.verify(net, torch2mlx.translate(net, args), args).ok


def test_an_option_that_no_instance_changes_is_not_printed() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval()
    source = torch2mlx.translate(net, (torch.randn(2, 3, 8, 8),)).source
    assert "nn.Conv2d(3, 4, (3, 3))" in source


def test_a_transpose_of_the_result_stands_in_the_model_itself(made: Any) -> None:
    model = made[1].source[made[1].source.index("class Net") :]
    assert model.count(".transpose(") == 2
    assert made[1].source.count(".transpose(") == 2
