"""Images that are padded to multiples of a window, and windows as large as the image: free lengths
stay free, and what is taken for granted of them is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "sympy")

import sympy
import torch
from torch import nn

import torch2mlx
from torch2mlx.export.capture.length_algebra import certain, without_padding
from torch2mlx.export.ir.structures import to_mlx

W = 4
PADDINGS: dict[str, Callable[[int], int]] = {
    "a remainder of a remainder": lambda n: (W - n % W) % W,
    "of the negative": lambda n: -n % W,
    "where it is needed": lambda n: W - n % W if n % W != 0 else 0,
    "rounded up": lambda n: (n + W - 1) // W * W - n,
}


class Windows(nn.Module):
    """Mixes the pixels of each window."""

    def __init__(self, padding: Callable[[int], int]) -> None:
        super().__init__()
        self.padding, self.mix = padding, nn.Linear(W * W, W * W)

    def forward(self, x: Any) -> Any:
        b, h, w, c = x.shape
        x = nn.functional.pad(x, (0, 0, 0, self.padding(w), 0, self.padding(h)))
        _, high, wide, _ = x.shape
        x = x.view(b, high // W, W, wide // W, W, c).permute(0, 1, 3, 5, 2, 4)
        x = self.mix(x.reshape(-1, c, W * W))
        x = x.view(b, high // W, wide // W, c, W, W).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(b, high, wide, c)[:, :h, :w].contiguous()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(8, 12), (7, 10)])
def test_images_are_padded_to_windows(padding: str, size: tuple[int, int]) -> None:
    model = Windows(PADDINGS[padding]).eval()
    made = torch2mlx.translate(model, (torch.randn(2, *size, 3),))
    right = 0
    for other in ((8, 12), (7, 10), (5, 9), (16, 4), (9, 8)):
        x = torch.randn(1 + right % 3, *other, 3)
        try:
            found = made.module(to_mlx(x))
        except ValueError:  # another branch of the model
            assert padding == "where it is needed"
            continue
        right += 1
        np.testing.assert_allclose(found, model(x).detach(), rtol=1e-5, atol=1e-5)
    assert right == 5 or (padding == "where it is needed" and right > 1)


class Whole(nn.Module):
    """A window as large as the image, where that is small; its bias is made for one of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(W * W, W * W))

    def forward(self, x: Any) -> Any:
        b, h, w, c = x.shape
        window = min(h // 2, w // 2, W)
        x = x[:, : window * (h // window), : window * (w // window)]
        parts = x.reshape(b, h // window, window, w // window, window, c).transpose(2, 3)
        parts = parts.reshape(-1, window * window, c)
        return (parts @ parts.mT + self.bias).softmax(-1) @ parts


@pytest.mark.parametrize("size", [(8, 9), (11, 8), (12, 14)])
def test_a_window_that_the_image_decides(size: tuple[int, int]) -> None:
    model = Whole().eval()
    made = torch2mlx.translate(model, (torch.randn(2, *size, 3),))
    right = 0
    for other in ((8, 9), (11, 8), (12, 14), (9, 8), (6, 8), (8, 7)):
        x = torch.randn(1, *other, 3)
        try:
            expected = model(x).detach()
        except RuntimeError:
            with pytest.raises(ValueError):
                made.module(to_mlx(x))
            continue
        try:
            found = made.module(to_mlx(x))
        except ValueError:
            continue
        right += 1
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert right


def test_padding_is_the_same_number_when_it_is_written_otherwise() -> None:
    from torch.utils._sympy.functions import Mod, PythonMod

    h, w = (sympy.Symbol(name, integer=True, nonnegative=True) for name in "hw")
    written = [Mod(w - Mod(h, w), w), PythonMod(w - PythonMod(h, w), w), PythonMod(-h, w)]
    for expression in (*written, w - Mod(h, w), PythonMod(w - Mod(h, w), w)):
        other = without_padding(expression)
        assert other != expression and not other.has(Mod, PythonMod)
        assert certain(sympy.Ge(other, 0)) == (expression != w - Mod(h, w))
        for high in range(9):
            for wide in range(1, 5):
                values = {h: sympy.Integer(high), w: sympy.Integer(wide)}
                assert other.xreplace(values) == expression.xreplace(values)
    for expression in (h + Mod(h, 2), Mod(h * w, 2) + h * w):
        other = without_padding(expression)
        assert not other.has(Mod)
        for high in range(9):
            values = {h: sympy.Integer(high), w: sympy.Integer(3)}
            assert other.xreplace(values) == expression.xreplace(values)
    for expression in (
        Mod(h, w),
        h + Mod(h, 3),
        w + Mod(h, 2),
        h - Mod(h, w),
        Mod(w + h, w),
        PythonMod(h - w, w),
    ):
        assert without_padding(expression) == expression
    assert not certain(sympy.Ge(w * (h // w) - h, 0)) and not certain(sympy.Ge(h, 2))


class Layer(nn.Module):
    """A block of windows over a list of pixels, which is told how high and wide the image is."""

    def __init__(self, channels: int, shift: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(channels), nn.Linear(channels, channels)
        self.shift = shift

    def forward(self, x: Any, dimensions: tuple[int, int]) -> Any:
        (h, w), (b, _, c) = dimensions, x.shape
        y = self.norm(x).view(b, h, w, c)
        y = nn.functional.pad(y, (0, 0, 0, (W - w % W) % W, 0, (W - h % W) % W))
        y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        high, wide = y.shape[1:3]
        y = y.view(b, high // W, W, wide // W, W, c).transpose(2, 3).reshape(-1, W * W, c)
        y = (self.mix(y) @ y.mT).softmax(-1) @ y
        y = y.view(b, high // W, wide // W, W, W, c).transpose(2, 3).reshape(b, high, wide, c)
        y = torch.roll(y, (self.shift, self.shift), (1, 2))
        return x + y[:, :h, :w].reshape(b, h * w, c)


class Stage(nn.Module):
    """Two such blocks, and half the size after them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Layer(channels, 1 + i) for i in range(2))
        self.down = nn.Linear(4 * channels, 2 * channels)

    def forward(self, x: Any, dimensions: tuple[int, int]) -> Any:
        for block in self.blocks:
            x = block(x, dimensions)
        (h, w), (b, _, c) = dimensions, x.shape
        x = nn.functional.pad(x.view(b, h, w, c), (0, 0, 0, w % 2, 0, h % 2))
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return self.down(x.view(b, -1, 4 * c)), ((h + 1) // 2, (w + 1) // 2)


class Pyramid(nn.Module):
    """Stages of windows over the patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.stages = nn.ModuleList([Stage(8), Stage(16)])

    def forward(self, x: Any) -> Any:
        x = self.patches(x)
        dimensions = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        for stage in self.stages:
            x, dimensions = stage(x, dimensions)
        return x


@pytest.mark.parametrize("size", [(1, 64, 48), (3, 48, 80)])
def test_lengths_that_the_model_hands_to_its_blocks_are_handed_to_them(size: Any) -> None:
    model = Pyramid().eval()
    made = torch2mlx.translate(model, (torch.randn(size[0], 3, *size[1:]),))
    source = made.source
    assert source.count("class Layer") == source.count("class Stage") == 1
    assert "def __call__(self, x, dimensions_0, dimensions_1):" in source
    for batch, high, wide in ((1, 64, 48), (3, 44, 112), (2, 80, 52)):
        x = torch.randn(batch, 3, high, wide, requires_grad=True)
        np.testing.assert_allclose(
            made.module(to_mlx(x.detach())), model(x).detach(), rtol=1e-5, atol=1e-5
        )


class Apart(nn.Module):
    """Reads how far two lengths are apart, which a sub-module is told by a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head()

    def forward(self, x: Any, y: Any) -> Any:
        n = abs(x.shape[1] - y.shape[1])
        return self.head(x, first=n), self.head(torch.cat([x, y], 1), first=n + 1)


class Head(nn.Module):
    def forward(self, x: Any, first: int) -> Any:
        return x[:, :first] * first


def test_how_far_two_lengths_are_apart() -> None:
    model = Apart()
    made = torch2mlx.translate(model, (torch.randn(2, 5, 3), torch.randn(2, 8, 3)))
    assert not made.notes and "abs(" in made.source
    for batch, n, m in ((2, 5, 8), (1, 4, 9), (3, 9, 4), (2, 6, 6)):
        x, y = torch.randn(batch, n, 3), torch.randn(batch, m, 3)
        for found, expected in zip(made.module(to_mlx(x), to_mlx(y)), model(x, y), strict=True):
            np.testing.assert_array_equal(np.array(found), expected.numpy())
