"""What Python answers of a length while a model is traced: its class, its text, its root."""

import copy
import functools
import numbers
import string

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import torch

from tests.export.forwards import Forward
from torch2mlx import translate
from torch2mlx.export.capture import plain_names

TABLE = {"8": 2.0, "k8": 3.0}


def whole(x):
    size = x.shape[1] // 2
    return x[:, :size] if isinstance(size, int) else x


def broken(x):
    size = x.shape[1] / 4
    return x * (2 * size if isinstance(size, float) and isinstance(size, numbers.Real) else size)


def abstract(x):
    size = x.shape[1]
    return x * 2 if isinstance(size, numbers.Integral) else x


def compared(x):
    size = x.shape[1] // 2
    return x[:, :size] if type(size) is int else x


@functools.singledispatch
def doubled(size):
    return 1


@doubled.register
def _(size: int):
    return 2 * size


def dispatched(x):
    return x * doubled(x.shape[1])


def counted(x):
    size, part = x.shape[1], x.shape[1] / 4
    whole = np.isscalar(size) and np.issubdtype(type(size), np.integer)
    return x * (2 if whole else 3) * (5 if issubclass(type(part), float) else 7)


def looked_up(x):
    return x * {int: 2.0, float: 3.0}[type(x.shape[1])] * {"int": 5}[type(x.shape[1]).__name__]


def not_torchs(x):
    numbers = (torch.SymInt, torch.SymFloat)
    traced = isinstance(x.shape[1], numbers) or isinstance(x.shape[1] / 2, torch.SymFloat)
    return x * (3 if traced or not isinstance(x.shape[1], int) else 2)


def to_tens(x):
    size = x.shape[1]
    return x * round(size, -1) + round(size + 4, -1) + round(size, 2) + round(size, -2)


def copied(x):
    size = copy.deepcopy([x.shape[1]])[0]
    return x[:, : copy.copy(size) // 2].real * size.real * size.numerator + size.imag


def rooted(x):
    return x * np.sqrt(x.shape[1]) + np.sqrt(x.shape[0] / 3) + np.round(x.shape[1] / 3)


def spaced(x):
    return x * torch.linspace(-1, x.shape[1] - 0.5, 5).sum()


def told(x):
    size = x.shape[1]
    message = f"too short: {size} of {x.shape}"
    torch._assert(size > 1, f"length {size}")
    if size < 2:
        raise ValueError(message)
    return x / size


@pytest.mark.parametrize(
    "form",
    [
        *(whole, broken, abstract, compared, dispatched, rooted, spaced, told),
        *(counted, looked_up, not_torchs, to_tens, copied),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_length_is_a_number_to_those_who_ask(form, check):
    model = Forward(form)
    made = translate(model, (torch.ones(2, 16),), check=check)
    for shape in ((2, 16), (3, 21), (1, 40)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        mine = np.array(made.module(mx.array(x.numpy())))
        np.testing.assert_allclose(mine, model(x).numpy(), rtol=2e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x * TABLE.get(str(x.shape[1] // 2), 5.0),
        lambda x: x * TABLE.get(f"k{x.shape[1] // 2}", 5.0),
        lambda x: x * len(f"{x.shape[1]}"),
        lambda x: x * (2 if f"{x.shape[1] / 4:.1f}" == "4.0" else 3),
        lambda x: x / np.log(x.shape[1]),
        lambda x: x * {16: 2.0}[x.shape[1]] * (3 if type(x.shape[1]) is int else 5),
        lambda x: x * TABLE.get(string.Template("k$size").substitute(size=x.shape[1] // 2), 5.0),
        lambda x: (x * 2, f"{x.shape[1]} items"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_is_read_from_the_text_of_a_length_is_for_that_length(form, check):
    model, args = Forward(form), (torch.randn(2, 16),)
    made = translate(model, args, check=check)
    for x in (args[0], torch.randn(3, 16)):
        mine, theirs = made.module(mx.array(x.numpy())), model(x)
        mine, theirs = (mine, theirs) if isinstance(theirs, tuple) else ((mine,), (theirs,))
        np.testing.assert_allclose(np.array(mine[0]), theirs[0].numpy(), rtol=1e-5)
        assert mine[1:] == theirs[1:]
    with pytest.raises(ValueError, match=r"x.shape\[1\] is 9, translated"):
        made.module(mx.zeros((2, 9)))


def test_what_stands_for_type_is_else_pythons():
    kind = plain_names._TYPE
    own = int.__class__
    assert isinstance(int, kind) and not isinstance(3, kind) and issubclass(own, kind)
    assert kind(3) is int and kind(int) is own and {own: 1}[kind] == 1
    made = kind("Made", (list,), {"more": 2})
    assert made([1]) == [1] and made.more == 2


def test_torch_keeps_its_own_classes():
    names = ("__getattribute__", "__repr__", "__format__", "sqrt", "log")
    before = [getattr(torch.SymInt, name, None) for name in names]
    translate(Forward(whole), (torch.ones(2, 16),), check=False)
    with pytest.raises(ValueError, match="no such"):
        translate(Forward(lambda x: {}["no such"]), (torch.ones(2, 16),))
    assert [getattr(torch.SymInt, name, None) for name in names] == before
    assert not {"type", "isinstance"} & globals().keys()


def without_torchs_own(x):
    size = x.shape[1]
    traced = hasattr(size, "node") or getattr(size / 2, "node", None) is not None
    return x * (3 if traced or not hasattr(size, "bit_length") else 2) * getattr(size, "real", 7)


def test_lengths_have_the_attributes_of_numbers():
    model = Forward(without_torchs_own)
    made = translate(model, (torch.randn(2, 8),), check=False).built()
    for shape in ((2, 8), (3, 5), (1, 11)):
        x = torch.randn(shape)
        assert np.array_equal(made(mx.array(x.numpy())), model(x))
