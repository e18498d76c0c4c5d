"""What a forward asks of how memory lies: right at every length, or refused by name, and noted."""

import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import torch

from tests.export.forwards import Forward
from torch2mlx import translate

SIZES = ((2, 5, 4), (3, 9, 2), (4, 3, 7))
SMALL = ((3, 1, 4), (1, 7, 4), (2, 3, 1), (1, 1, 1))


def turned(x):
    y = x.transpose(1, 2)
    return y * 2 if y.is_contiguous() else y + 1


def as_given(x):
    return x * 2 if x.is_contiguous() else x + 1


def last(x):
    y = x[:, None]
    return y * 2 if y.is_contiguous(memory_format=torch.channels_last) else y + 1


def strides(x):
    return x * x.stride(0) + x.stride()[1] - x.stride(-1) * x.transpose(0, 2).stride(2)


def one_apart(x):
    return x * 2 if x.transpose(1, 2).stride(-1) == 1 else x + 1


def copied(x):
    return x * x.transpose(1, 2).contiguous().stride(1)


def viewed(x):
    return x * 2 if x.transpose(1, 2).reshape(x.shape[0], -1)._base is None else x + 1


def begins(x):
    return x * (1 + x[:, 1:].storage_offset())


def ordered(x):
    return x * 2 if x.transpose(1, 2).dim_order() == (0, 2, 1) else x + 1


FORMS = {
    "is_contiguous": (turned, as_given, last),
    "stride": (strides, one_apart, copied),
    "_base": (viewed,),
    "storage_offset": (begins,),
    "dim_order": (ordered,),
}


def alike(model, made, shape):
    """Whether both answer alike; None where the file refuses the lengths by name."""
    x = torch.randn(shape)
    try:
        answer = made(mx.array(x.numpy()))
    except ValueError as error:
        assert "translated" in str(error)
        return None
    return torch.equal(torch.from_numpy(answer.__array__()), model(x))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, forms in FORMS.items() for form in forms]
)
def test_answers_hold_at_every_length(name, form, check):
    model = Forward(form)
    made = translate(model, (torch.randn(2, 5, 4),), check=check)
    assert any(f"asks for {name}, " in note for note in made.notes)
    module = made.built()
    assert all(alike(model, module, shape) for shape in SIZES)
    assert False not in [alike(model, module, shape) for shape in SMALL]


def test_a_condition_is_only_where_an_answer_turns():
    model = Forward(turned)
    module = translate(model, (torch.randn(2, 5, 4),)).built()
    assert [alike(model, module, shape) for shape in SMALL] == [None, True, None, None]
    model = Forward(as_given)
    module = translate(model, (torch.randn(2, 5, 4),), check=False).built()
    assert all(alike(model, module, shape) for shape in SMALL)


def copying(x):
    y = x.transpose(1, 2)
    if not y.is_contiguous():
        y = y.contiguous()
    z = y if y.is_contiguous() else y.contiguous()
    return z.view(x.shape[0], -1)


def test_what_only_copies_asks_nothing():
    model = Forward(copying)
    made = translate(model, (torch.randn(2, 5, 4),), check=False)
    assert not any("asks for" in note for note in made.notes)
    module = made.built()
    assert all(alike(model, module, shape) for shape in SIZES + SMALL)
