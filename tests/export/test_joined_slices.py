"""Parts of several axes are one index in the file, and written to in one assignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import torch
from torch import nn

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def regions(x: Any) -> Any:
    """The mask of shifted windows, as it is usually written."""
    mask, count = torch.zeros(x.shape[1:]), 0
    for rows in (slice(0, -4), slice(-4, -2), slice(-2, None)):
        for columns in (slice(0, -4), slice(-4, -2), slice(-2, None)):
            mask[rows, columns] = count
            count += 1
    return x + mask


def written(x: Any) -> Any:
    """Writes to parts, of which some overlap."""
    y = x[:, ::2, 1:-1].clone()
    y[:, 0, :2] = x[:, 0, :2] * 2
    y[0, 1:, 1] = 7
    y[:, :2][:, 1:] = x[:, :1, 1:-1]
    y[..., 0] += 1
    return y


#: Functions, and what their files hold.
READ: dict[str, tuple[Callable[[Any], Any], str]] = {
    "two axes": (lambda x: x[:, ::2, 1:3], "x[:, ::2, 1:3]"),
    "a number first": (lambda x: x[1, 2:] * 2, "x[1, 2:]"),
    "a number last": (lambda x: x[1:, :, 2], "x[1:, :, 2]"),
    "two numbers": (lambda x: x[0, 1] + 1, "x[0, 1]"),
    "one axis twice": (lambda x: x[:, 1:][:, :-1], "x[:, 1:][:, :-1]"),
    "halves": (lambda x: x[:, : x.shape[1] // 2, : x.shape[2] // 2], "// 2, :"),
    "read twice": (lambda x: (x[1:], x[1:][:, 2:]), "x[1:]"),
    "regions": (regions, "(slice(-2, None), slice(-4, -2))"),
    "written": (written, "(0, slice(1, None), 1)"),
}


@pytest.mark.parametrize("name", READ)
def test_parts_of_several_axes_are_one_index(name: str) -> None:
    function, held = READ[name]
    model = Of(function).eval()
    made = torch2mlx.translate(model, (torch.randn(3, 8, 9),))
    assert held in made.source
    for size in ((3, 8, 9), (2, 10, 12)):
        x = torch.randn(size)
        found, expected = made.module(to_mlx(x)), model(x)
        several = isinstance(expected, tuple)
        for a, b in zip(found, expected, strict=True) if several else [(found, expected)]:
            np.testing.assert_array_equal(np.array(a), b.numpy())


def test_gradients_of_what_is_written_to_a_part_of_a_part() -> None:
    import mlx.core as mx

    model = Of(written).eval()
    x = torch.randn(2, 8, 9)
    made = torch2mlx.translate(model, (x,)).module
    given = x.clone().requires_grad_()
    (model(given) ** 2).sum().backward()
    found = mx.grad(lambda a: (made(a) ** 2).sum())(to_mlx(x))
    np.testing.assert_allclose(np.array(found), given.grad.numpy(), rtol=1e-6, atol=1e-6)
