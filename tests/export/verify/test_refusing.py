"""What a translation refuses is told from what fails in it, by where the error was raised."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import VerificationError
from torch2mlx.export.verify.refusing import refusal

TOLD = "x.shape[0] is 4, translated for 2"


class Rows(nn.Module):
    def forward(self, x):
        return x.sum(-1)


class Checks(mlx.nn.Module):
    def __call__(self, x):
        if x.shape[0] != 2:
            raise ValueError(TOLD)
        return x.sum(-1)


class Calls(mlx.nn.Module):
    """The same error, but of a function that is called."""

    def __call__(self, x):
        return checked(x).sum(-1)


class Adds(mlx.nn.Module):
    """An error of MLX, in a line of its own `__call__`."""

    def __call__(self, x):
        return (x + mx.zeros((2, 3))).sum(-1)


class Holds(mlx.nn.Module):
    """The error of a layer that it holds."""

    def __init__(self):
        super().__init__()
        self.layer = Checks()

    def __call__(self, x):
        return self.layer(x)


def checked(x):
    if x.shape[0] != 2:
        raise ValueError(TOLD)
    return x


def error_of(module, x):
    with pytest.raises(ValueError, match=r"translated|broadcast") as told:
        module(x)
    return told.value


@pytest.mark.parametrize("kind", [Calls, Adds, Holds])
def test_what_fails_on_the_way_is_no_refusal(kind):
    module = kind()
    assert refusal(module, error_of(module, mx.zeros((4, 3)))) is None
    sizes = [{"x": (4, 3)}]
    with pytest.raises(VerificationError, match=r"^at x \(4, 3\): MLX's side raises"):
        torch2mlx.verify(Rows(), module, (torch.zeros(2, 3),), sizes=sizes)


def test_a_check_at_the_head_is_a_refusal_and_a_note():
    module = Checks()
    error = error_of(module, mx.zeros((4, 3)))
    assert refusal(module, error) is error and refusal(Checks(), error) is None
    wrapped = VerificationError("told otherwise")
    wrapped.__cause__ = error
    assert refusal(module, wrapped) is error
    found = torch2mlx.verify(Rows(), module, (torch.zeros(2, 3),), sizes=[{"x": (4, 3)}])
    assert found.ok and found.notes == (f"at x (4, 3): refused, {TOLD}",)


def test_a_translation_that_was_saved_refuses_as_it_does_live(tmp_path):
    x = torch.zeros(2, 3)
    made = torch2mlx.translate(Rows(), (x,), dynamic=False)
    made.save(tmp_path / "out")
    sizes = [{"x": (4, 3)}, {"x": (2, 7)}]
    told = [torch2mlx.verify(Rows(), m, (x,), sizes=sizes) for m in (made, tmp_path / "out")]
    assert told[0].ok and told[0].notes == told[1].notes
    assert [note.split(",")[0] for note in told[0].notes] == ["at x (4", "at x (2"]
    assert all("refused, x.shape" in note for note in told[0].notes)
