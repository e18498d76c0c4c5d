"""`translate` runs what it made, and leaves the torch model as it was."""

import random

import numpy as np
import pytest

from tests.support import assert_same_state, need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.verify.preserved import preserved

F = nn.functional


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x)


class Exports(One):
    """Traces into another program than it runs."""

    def forward(self, x):
        return self.fc(x) * (2 if torch.compiler.is_exporting() else 3)


class Raises(One):
    def forward(self, x):
        if x.shape[0] == 3:
            raise RuntimeError("three are too many")
        return self.fc(x)


class Changes(One):
    """Writes to all that a module can hold."""

    def __init__(self):
        super().__init__()
        self.norm, self.runs, self.seen = nn.BatchNorm1d(4), 0, []
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.last, self.table = None, {"n": 0}
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x):
        self.runs += 1
        self.seen.append(self.runs)
        self.table["n"] += 1
        self.calls.add_(1)
        self.last = x.mean()
        x.mul_(2)
        return self.norm(self.fc(x)) + random.random() * 0 + np.random.rand() * 0


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def streams():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        mx.random.state[0].tolist(),
    )


def test_a_program_that_is_not_the_models_is_an_error_that_says_so():
    with pytest.raises(TranslationError) as told:
        torch2mlx.translate(Exports().eval(), (X,))
    message = str(told.value)
    assert "output: 3.3e-01 (allowed 1e-04)  <- differs" in message
    assert "first module that differs: the model itself" in message
    assert "torch.export traces another program than the model runs" in message
    assert message.endswith("check=False returns the translation all the same")


def test_without_a_check_it_comes_with_a_note():
    model = Exports().eval()
    made = torch2mlx.translate(model, (X,), check=False)
    assert made.notes == ("the result was not run and compared: check=False",)
    found = torch2mlx.verify(model, made, (X,))
    assert found.verdict == "differs" and not found.ok


def emitting(monkeypatch, old, new):
    """Lets translate print something else than it should."""
    emit = torch2mlx.translator.emit
    monkeypatch.setattr("torch2mlx.translator.emit", lambda *a: emit(*a).replace(old, new))


def test_a_file_that_answers_otherwise_is_an_error_with_the_table(monkeypatch):
    emitting(monkeypatch, "return self.fc(x)", "return self.fc(x) * 2")
    with pytest.raises(TranslationError) as told:
        torch2mlx.translate(One().eval(), (X,))
    found = str(told.value)
    assert found.startswith("on the example inputs MLX answers otherwise than torch:\noutput: ")
    assert "the fault is torch2mlx's" in found


def test_a_file_that_answers_in_another_shape_is_an_error(monkeypatch):
    emitting(monkeypatch, "return self.fc(x)", "return self.fc(x)[0]")
    with pytest.raises(TranslationError, match=r"output: torch gives \(3, 4\), MLX \(4,\)"):
        torch2mlx.translate(One().eval(), (X,))


def test_a_file_that_cannot_run_names_its_line(monkeypatch):
    emitting(monkeypatch, "return self.fc(x)", "return self.fd(x)")
    with pytest.raises(TranslationError) as told:
        torch2mlx.translate(One().eval(), (X,))
    found = str(told.value)
    assert found.startswith("the file that was made cannot run, a fault of torch2mlx: line ")
    assert "`return self.fd(x)`: AttributeError: " in found


def test_a_forward_that_raises_is_told_once_with_its_line():
    with pytest.raises(TranslationError) as told:
        torch2mlx.translate(Raises(), (X,))
    found = str(told.value)
    assert found.startswith("Raises.forward raises on these inputs at ")
    assert "test_check.py:" in found and '(`raise RuntimeError("three are too many")`)' in found
    assert found.endswith("RuntimeError: three are too many") and "\n" not in found


@pytest.mark.parametrize("way", ["translated", "fails"])
def test_the_model_its_inputs_and_random_streams_are_left_as_they_were(way):
    model, x = Changes().train(), X.clone()
    model.fc.eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    generator, before = model.generator.get_state(), streams()
    if way == "translated":
        torch2mlx.verify(model, torch2mlx.translate(model, (x,)), (x,))
    else:
        model.norm.forward = lambda x: x[7]
        with pytest.raises(TranslationError, match="forward raises on these inputs"):
            torch2mlx.translate(model, (x,))
    assert_same_state(model.state_dict(), state)
    assert (model.runs, model.seen, model.last, model.table) == (0, [], None, {"n": 0})
    assert model.calls.item() == 0 and torch.equal(x, X)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model.generator.get_state(), generator)
    assert streams() == before


def test_parameters_that_are_written_to_get_their_values_back_in_the_same_memory():
    model = One()
    weight, place = model.fc.weight.detach().clone(), model.fc.weight.data_ptr()
    gradient = model.fc.weight.grad = torch.ones(4, 4)
    with preserved(model):
        model.fc.weight.data.clamp_(-1e-3, 1e-3)
        model.fc.bias.data = torch.zeros(4)
        model.fc.weight.grad = None
        model.fc.weight.requires_grad_(False)
        model.extra = nn.Linear(2, 2)
    assert torch.equal(model.fc.weight, weight) and model.fc.weight.data_ptr() == place
    assert model.fc.weight.grad is gradient and model.fc.weight.requires_grad
    assert model.fc.bias.abs().sum() > 0 and not hasattr(model, "extra")


def test_an_mlx_module_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    made = torch2mlx.translate(model, (X,))
    assert torch2mlx.verify(model, made, (X,)).ok
    assert made.module.layers[1].running_mean.tolist() == [0.0] * 4


def test_dropout_and_draws_are_compared_with_torchs_own():
    class Draws(One):
        def forward(self, x):
            y = F.dropout(self.fc(x), 0.5, self.training) + torch.randn_like(x)
            return y * torch.rand(4) + torch.bernoulli(torch.full((4,), 0.5)), torch.randperm(5)

    model = Draws().train()
    made = torch2mlx.translate(model, (X,))
    found = torch2mlx.verify(model, made, (X,))
    assert found.ok and found.difference < 1e-6
    assert "MLX was given torch's random numbers" in str(found) and made.notes == found.notes


def test_channels_that_are_left_out_are_the_same_ones_with_channels_last():
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.Dropout2d(0.5), nn.BatchNorm2d(5), nn.Dropout(0.3), nn.ReLU()
    )
    image = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    assert torch2mlx.verify(model, torch2mlx.translate(model, image), image).ok


def test_draws_of_python_that_would_become_constants_are_refused():
    class Rolls(One):
        def forward(self, x):
            return self.fc(x) * random.random()

    with pytest.raises(TranslationError, match="draws with Python's random module"):
        torch2mlx.translate(Rolls(), (X,))
    made = torch2mlx.translate(Rolls(), (X,), check=False)
    assert torch2mlx.verify(Rolls(), made, (X,)).verdict == "incomparable"


def test_the_module_that_was_compared_is_given_as_it_was_before(monkeypatch):
    class Counts(One):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(2))

        def forward(self, x):
            self.calls += 1
            return self.fc(x) * self.calls[0]

    built = []
    original = torch2mlx.translator.Translation.built
    counted = lambda self, *given: built.append(self) or original(self, *given)
    monkeypatch.setattr(torch2mlx.translator.Translation, "built", counted)
    made = torch2mlx.translate(Counts(), (X,))
    assert made.module is made.module and len(built) == 1
    assert made.module.calls.tolist() == [0, 0]
    made(X)
    assert made.module.calls.tolist() == [1, 1] and made.built().calls.tolist() == [0, 0]
