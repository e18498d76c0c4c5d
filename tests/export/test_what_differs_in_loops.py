"""What differs from turn to turn of a loop stands in lists: numbers, each in its own place, and
weights that are another module's."""

from __future__ import annotations

import pytest

from tests.export.test_blocks import made
from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

PADDINGS = [(0, 1, 2, 0), (1, 0, 0, 3), (2, 1, 1, 0), (0, 3, 1, 1)]


class Padded(nn.Module):
    """Layers with padding between them, all four numbers of which differ from layer to layer."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, (left, right, above, below) in zip(self.layers, PADDINGS, strict=False):
            x = layer(nn.functional.pad(x, (0, 0, left, right, above, below)).flip(1))
        return x


class Turned(nn.Module):
    """A layer between two turns of an image that differ; images go channels last into a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](x).permute(0, 2, 3, 1, 4).tanh()
        return self.layers[1](x).permute(0, 3, 1, 2, 4).tanh()


@pytest.mark.parametrize("count", [3, 4])
def test_several_numbers_of_one_statement_differ(count: int) -> None:
    source = made(Padded(count), ((2, 3, 2, 4),), ((1, 2, 5, 4),))
    assert "for layer," in source


def test_arrangements_that_differ_are_written_out() -> None:
    source = made(Turned(), ((2, 3, 5, 2, 4),), ((1, 4, 2, 3, 4),))
    assert "for " not in source.split("def __call__")[1].split("def load")[0]


class Gated(nn.Module):
    """Convolutions whose options are numbers of numpy, as a cumulative sum gives them."""

    def __init__(self) -> None:
        super().__init__()
        import numpy as np

        widths = np.cumsum([4, 4, 2])
        self.first = nn.Conv2d(4, widths[0], 3, padding=np.int32(1))
        self.second = nn.Conv2d(widths[1], widths[0] // 2, np.int64(3), padding=1)
        self.slope = np.float64(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat((self.first(x), x), 1)
        return nn.functional.leaky_relu(self.second(x), self.slope)


def test_options_are_numbers_of_numpy() -> None:
    made(Gated(), ((2, 4, 5, 6),), ((1, 4, 7, 3),))


class Row(nn.Module):
    """Layers in a row."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(count)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layers(x))


class Tied(nn.Module):
    """Two rows of layers, of which the second has the weights of the first."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.first, self.second = Row(count), Row(count)
        for one, other in zip(self.first.layers, self.second.layers, strict=True):
            other.weight = one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + x)


@pytest.mark.parametrize("count", [2, 3])
def test_each_layer_has_the_weight_that_is_given_for_it(count: int) -> None:
    made(Tied(count), ((2, 4),), ((3, 5, 4),))


class Maybe(nn.Module):
    """A layer, and a norm that some have."""

    def __init__(self, normed: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4) if normed else None
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x if self.norm is None else self.norm(x))


class LastAlone(nn.Module):
    """Blocks of which the last alone has a norm, and is called."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Maybe(i == 2) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[-1](x)


def test_blocks_that_are_never_called_hold_what_is_theirs_alone() -> None:
    made(LastAlone(), ((2, 4),), ((3, 4),))


class Dense(nn.Module):
    """Layers of which each gets all that was made before it, and the image: what a turn makes is
    handed on under two names, to the layer and to what is joined to its result."""

    def __init__(self, count: int) -> None:
        super().__init__()
        widths = range(3, 3 + 2 * count, 2)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 2, 3, padding=1), nn.ReLU()) for width in widths
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for layer in self.layers:
            x = torch.cat((layer(x), x), 1)
        return x, x.mean((2, 3))


@pytest.mark.parametrize("count", [2, 4])
def test_a_result_is_handed_on_under_two_names(count: int) -> None:
    made(Dense(count), ((2, 3, 5, 6),), ((1, 3, 4, 7),))


class Beside(nn.Module):
    """What was made before a loop is read in each of its turns, and nowhere after it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        y = x + 1
        z = x.softmax(-1) @ y.transpose(1, 2) @ y
        for layer in self.layers:
            z = (layer(z) + z) * 0.5
            z = torch.stack([y, z, torch.lerp(z, z.flip(1), 0.25)], 2).mean(2)
        return z


class FromTheFirst(nn.Module):
    """Each turn reads what the first one began with."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        begun = z = (x + 1) * x
        for layer in self.layers:
            z = layer(z) + begun
            z = z * begun.tanh() + z.flip(1)
        return z


@pytest.mark.parametrize("net", [Beside, FromTheFirst])
@pytest.mark.parametrize("count", [2, 4])
def test_what_each_turn_reads_keeps_its_name_until_the_loop_ends(
    net: type[nn.Module], count: int
) -> None:
    source = made(net(count), ((2, 5, 4),), ((1, 7, 4),))
    assert "for layer in self.layers:" in source
