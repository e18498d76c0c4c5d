"""What a forward decides in Python, by a length, by what it was called with: the file decides the
same way, or refuses the call by name."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch

import torch2mlx
from tests.export.forwards import Forward


def arrays(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def answers(made, args, kwargs=None):
    """MLX's answer to torch's inputs, as numpy."""
    turned = {name: as_mlx(value) for name, value in (kwargs or {}).items()}
    return np.array(made.module(*map(as_mlx, args), **turned))


def as_mlx(value):
    return mx.array(value.numpy()) if isinstance(value, torch.Tensor) else value


def alike(made, model, args, kwargs=None):
    wanted = model(*args, **(kwargs or {})).detach().numpy()
    found = answers(made, args, kwargs)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


ASKS_WHETHER_EMPTY = {
    "numel is 0": lambda x: torch.zeros(2) if x.numel() == 0 else x.sum(0),
    "a length is 0": lambda x: x.new_ones(2, 3) if x.shape[0] == 0 else x * 2,
    "a length is above 0": lambda x: x * 2 if x.shape[0] > 0 else x.new_ones(2, 3),
    "a length is 1 or more": lambda x: x * 2 if x.shape[0] >= 1 else x.new_ones(2, 3),
    "a length is below 1": lambda x: x.new_ones(2, 3) if x.shape[0] < 1 else x * 2,
    "a length is true": lambda x: x * 2 if x.shape[0] else x.new_ones(2, 3),
    "0 is among the lengths": lambda x: x.new_ones(2) if 0 in x.shape else x * 2,
    "a product is above 0": lambda x: x * 2 if x.shape[0] * x.shape[1] > 0 else x.new_ones(2),
}


@pytest.mark.parametrize("question", ASKS_WHETHER_EMPTY)
def test_a_branch_for_empty_arrays_is_checked(question):
    model = Forward(ASKS_WHETHER_EMPTY[question])
    made = torch2mlx.translate(model, arrays(4, 3))
    for shape in ((4, 3), (1, 3), (7, 5), (3, 1)):
        alike(made, model, [arrays(*shape)])
    with pytest.raises(ValueError, match=r"^x.shape\[0\] is 0, .*translated where .*x.shape\[0\]"):
        answers(made, [arrays(0, 3)])


def test_a_comparison_with_nothing_that_makes_no_difference_leaves_no_check():
    model = Forward(lambda x: x * max(x.shape[0], 1) if x.shape[0] > 0 else x * 1)
    made = torch2mlx.translate(model, arrays(4, 3))
    assert "raise" not in made.source
    for shape in ((4, 3), (0, 3), (1, 5)):
        alike(made, model, [arrays(*shape)])


def test_a_length_that_both_sides_refuse_needs_no_check():
    model = Forward(lambda x: x.amax(0) * (2 if x.shape[0] > 0 else 3))
    made = torch2mlx.translate(model, arrays(4, 3))
    assert "raise" not in made.source
    for rows in (4, 1):
        alike(made, model, [arrays(rows, 3)])
    with pytest.raises(ValueError, match="Cannot max reduce"):
        answers(made, [arrays(0, 3)])


class Keywords(torch.nn.Module):
    def forward(self, x, scale=1.0, **more):
        x = x * scale
        for name in sorted(more):
            x = x * more[name] + len(name)
        return x


def test_lengths_are_free_in_arguments_that_a_forward_takes_as_keywords():
    model = Keywords()
    made = torch2mlx.translate(model, (arrays(2, 3),), {"one": arrays(2, 3), "two": arrays(3)})
    for rows, columns in ((2, 3), (5, 4), (1, 7)):
        given = {"two": arrays(columns), "one": arrays(rows, columns)}
        alike(made, model, [arrays(rows, columns)], given)
    with pytest.raises(TypeError, match="one"):
        answers(made, [arrays(2, 3)], {"two": arrays(3)})
    with pytest.raises(TypeError, match="three"):
        answers(made, [arrays(2, 3)], {"one": arrays(2, 3), "two": arrays(3), "three": arrays(3)})
    assert "forward" not in vars(model)


class Rest(torch.nn.Module):
    def forward(self, *xs, **more):
        return sum(xs) * more["more"]


def test_arguments_beside_keywords_have_names_of_their_own():
    model = Rest()
    made = torch2mlx.translate(model, (arrays(2, 3), arrays(2, 3)), {"more": arrays(3)})
    for rows in (2, 5):
        alike(made, model, [arrays(rows, 3), arrays(rows, 3)], {"more": arrays(3)})


def test_a_number_that_is_left_out_is_not_the_one_translated_with():
    model = Keywords()
    made = torch2mlx.translate(model, (arrays(2, 3),), {"scale": 2.0, "k": 3})
    for rows in (2, 5):
        alike(made, model, [arrays(rows, 3)], {"scale": 2.0, "k": 3})
    with pytest.raises(ValueError, match=r"^translated with scale=2.0$"):
        answers(made, [arrays(2, 3)], {"k": 3})
    with pytest.raises(ValueError, match=r"^translated with k=3$"):
        answers(made, [arrays(2, 3)], {"scale": 2.0})


LENGTHS_AS_NUMBERS = {
    "rounded": (lambda x: x * round(x.shape[0] * 0.5), {"x": (0, 1)}, None),
    "cut": (lambda x: x * int(x.shape[1] * 1.5), {"x": (0, 1)}, None),
    "divided": (lambda x: x * divmod(x.shape[0], 2)[1], {"x": (0, 1)}, None),
    "of numpy": (lambda x: x * int(np.int64(x.shape[1] * 1.5)), {"x": (0, 1)}, r"\)\) == 6"),
    "no operator of lengths": (lambda x: x * x.shape[0].bit_length(), {"x": (1,)}, r"\[0\] is 5"),
}


@pytest.mark.parametrize("name", LENGTHS_AS_NUMBERS)
def test_a_length_that_becomes_a_number_is_computed_or_checked(name):
    function, free, told = LENGTHS_AS_NUMBERS[name]
    model, x = Forward(function), arrays(3, 4)
    made = torch2mlx.translate(model, (x,))
    assert made.free == free
    assert not [key for key in vars(x) if "dynamo" in key]
    alike(made, model, [x])
    if told is None:
        for shape in ((2, 5), (8, 1), (5, 5)):
            alike(made, model, [arrays(*shape)])
    else:
        with pytest.raises(ValueError, match=told):
            answers(made, [arrays(5, 9)])
