"""What a forward asks of torch's global state, and what a caller has switched on around a call."""

import copy
from contextlib import ExitStack

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import numpy as np
import torch
from torch import nn

import torch2mlx
from tests.export.alike import mlx_gradients, torch_gradients
from torch2mlx.export.ir.structures import to_mlx

from torch import is_grad_enabled  # isort: skip: the name that a model's file has for it


class Switch(nn.Module):
    """Two formulas, one while gradients are recorded."""

    def __init__(self, asks):
        super().__init__()
        self.asks, self.scale = asks, nn.Parameter(torch.full((4,), 3.0))

    def forward(self, x):
        y = x * self.scale
        return y if self.asks(y) else x + self.scale


ASKS = {
    "a function": lambda y: torch.is_grad_enabled(),
    "a function by another name": lambda y: is_grad_enabled(),
    "what a result needs": lambda y: y.requires_grad,
    "how a result was made": lambda y: y.grad_fn is not None,
    "whether a result is a leaf": lambda y: not y.is_leaf,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ASKS)
def test_a_branch_on_gradients_follows_the_mode(name, training, tmp_path):
    model, x = Switch(ASKS[name]).train(training), torch.randn(2, 4)
    made = torch2mlx.translate(model, (x,))
    with torch.set_grad_enabled(training):
        expected = model(x).detach()
    np.testing.assert_allclose(made.module(to_mlx(x)), expected, rtol=1e-6)
    assert made.graded == training
    told = "recorded, as in training" if training else "not recorded, as in evaluation"
    assert [note for note in made.notes if f"translated as if {told}" in note]
    assert "test_modes.py:" in "".join(made.notes)
    for translated in (made, made.save(tmp_path / "switch")):
        assert torch2mlx.verify(model, translated, (x,)).ok


class Inner(nn.Module):
    """Asks, and does the same either way but for what is recorded."""

    def __init__(self, asks):
        super().__init__()
        self.asks, self.up, self.down = asks, nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        with torch.no_grad():
            y = self.up(x)
        if self.asks and torch.is_grad_enabled():
            y.sum()
        return self.down(y + self.up(x)) if not self.asks or torch.is_grad_enabled() else y @ y.T


def test_inner_regions_keep_their_gradients_wherever_translate_is_called():
    torch.manual_seed(0)
    model, x = Inner(False).eval(), torch.randn(3, 4)
    plain = torch2mlx.translate(model, (x,))
    around = {
        "no_grad": torch.no_grad(),
        "inference": torch.inference_mode(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }
    for name, context in around.items():
        with context:
            made = torch2mlx.translate(model, (x,))
            assert torch2mlx.verify(model, made, (x,)).difference < 1e-5
        assert made.source == plain.source, name
        assert made.notes == plain.notes == ()
    expected, found = torch_gradients(model, (x,)), mlx_gradients(plain.module, (x,))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_that_asks_keeps_gradients_in_training(training):
    torch.manual_seed(0)
    model, x = Inner(True).train(training), torch.randn(3, 4)
    made = torch2mlx.translate(model, (x,))
    assert torch2mlx.verify(model, made, (x,)).ok
    assert (made.module(to_mlx(x)).shape == (3, 2)) == training
    if training:
        expected, found = torch_gradients(model, (x,)), mlx_gradients(made.module, (x,))
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


class Same(nn.Module):
    """Asks, and does the same."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(4, 4)

    def forward(self, x):
        y = self.up(x)
        if torch.is_grad_enabled() and y.requires_grad:
            assert y.grad_fn is not None
        with torch.no_grad():
            z = self.up(y)
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            return y * z


def test_a_question_that_changes_nothing_is_not_noted():
    torch.manual_seed(0)
    model, x = Same().eval(), torch.randn(3, 4)
    made = torch2mlx.translate(model, (x,))
    assert made.notes == () and not made.graded
    expected, found = torch_gradients(model, (x,)), mlx_gradients(made.module, (x,))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


QUESTIONS = {
    "torch.get_default_dtype()": (
        lambda: torch.get_default_dtype() == torch.float32,
        "torch.float32",
    ),
    "torch.is_autocast_enabled()": (lambda: not torch.is_autocast_enabled("cpu"), "False"),
    "torch.cuda.is_available()": (lambda: not torch.cuda.is_available(), "False"),
    "torch.backends.cudnn.enabled": (lambda: torch.backends.cudnn.enabled, "True"),
    "torch.backends.cudnn.deterministic": (
        lambda: not torch.backends.cudnn.deterministic,
        "False",
    ),
    "torch.backends.mps.is_available()": (lambda: not torch.backends.mps.is_available(), "False"),
    "torch.backends.cuda.flash_sdp_enabled()": (torch.backends.cuda.flash_sdp_enabled, "True"),
    "torch.get_float32_matmul_precision()": (
        lambda: torch.get_float32_matmul_precision() == "highest",
        "highest",
    ),
}


class Asking(nn.Module):
    """A branch on a flag."""

    def __init__(self, flag):
        super().__init__()
        self.flag = flag

    def forward(self, x):
        return x * 2 if self.flag() else x


@pytest.mark.parametrize("question", [q for q in QUESTIONS if "flash" not in q])
def test_other_questions_are_noted_with_their_answer(question):
    flag, answer = QUESTIONS[question]
    made = torch2mlx.translate(Asking(flag), (torch.ones(2),))
    (note,) = made.notes
    assert note.startswith(f"the forward asks {question} (")
    assert "test_modes.py:" in note and note.endswith(f"): translated for {answer}")


def test_another_default_dtype_is_that_of_the_forward_and_is_noted():
    class Makes(nn.Module):
        def forward(self, x):
            return x + torch.ones(2, dtype=torch.get_default_dtype())

    made = torch2mlx.translate(Makes(), (torch.ones(2),))
    with ExitStack() as stack:
        torch.set_default_dtype(torch.float64)
        stack.callback(torch.set_default_dtype, torch.float32)
        other = torch2mlx.translate(Makes(), (torch.ones(2, dtype=torch.float64),))
    assert "torch.float32" in made.notes[0] and "torch.float64" in "".join(other.notes)


class Half(nn.Module):
    """A region of autocast, and one without in it."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(4, 4)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = self.up(x)
            with torch.autocast("cpu", enabled=False):
                z = self.up(x)
        return y, z


def test_regions_of_autocast_are_the_forwards_own():
    torch.manual_seed(0)
    model, x = Half().eval(), torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        made = torch2mlx.translate(model, (x,))
    y, z = made.module(to_mlx(x))
    assert (str(y.dtype), str(z.dtype)) == ("mlx.core.bfloat16", "mlx.core.float32")
    assert torch2mlx.verify(model, made, (x,)).ok and torch.is_grad_enabled()


def test_what_was_switched_on_is_so_afterwards():
    model, x = copy.deepcopy(Switch(ASKS["a function"])), torch.randn(2, 4)
    original, attribute = torch.is_grad_enabled, torch.Tensor.__dict__.get("requires_grad")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch2mlx.translate(model, (x,))
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled is original is is_grad_enabled
    assert torch.Tensor.__dict__.get("requires_grad") is attribute
    assert torch.backends.cudnn.enabled is True
