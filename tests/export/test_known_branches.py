"""Branches on buffers and parameters that are not trained: traced as the model is, with a check
that it still is so; refused where the forward changes what it branches on."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from tests.export.alike import assert_alike
from torch2mlx.errors import ExportError, TranslationError

X, Y = torch.randn(5, 4), torch.randn(3, 4)


class ActNorm(nn.Module):
    """An affine layer that takes its first values from the first batch."""

    def __init__(self, flag):
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(4))
        self.register_buffer("initialized", flag)

    def is_new(self):
        return not self.initialized

    def forward(self, x):
        if self.is_new():
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
                self.scale.copy_(1 / x.std(0))
                self.initialized.fill_(1)
        return (x + self.shift) * self.scale


class ByNumber(ActNorm):
    def is_new(self):
        return self.initialized.item() == 0


class ByInt(ActNorm):
    def is_new(self):
        return int(self.initialized) < 1


class ByAll(ActNorm):
    def is_new(self):
        return (self.initialized == 0).all()


class ByMode(ActNorm):
    def is_new(self):
        return self.training and not self.initialized


class ByParameter(ActNorm):
    """The flag is a parameter that is not trained."""

    def __init__(self, flag):
        super().__init__(flag)
        del self.initialized
        self.initialized = nn.Parameter(flag.float(), requires_grad=False)


KINDS = [ActNorm, ByNumber, ByInt, ByAll, ByMode, ByParameter]
FLAG, BYTE = torch.tensor(False), torch.zeros(1, dtype=torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", [FLAG, BYTE])
def test_an_initialized_model_is_right_and_asks_whether_it_is(kind, flag):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), kind(flag.clone()), kind(flag.clone()))
    model(X)
    made = assert_alike(model, (X,), (Y,))
    assert made.source.count("class ") == 2  # both layers are of one
    layer = made.module.layers[1]
    layer.initialized = mx.zeros_like(layer.initialized)
    with pytest.raises(ValueError, match=r"^initialized has another value than when translated"):
        made.module(mx.zeros((2, 4)))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_its_first_call_initializes_is_refused(kind, check):
    model = nn.Sequential(kind(FLAG.clone()))
    told = r"the forward branches on 0\.initialized \(test_known_branches\.py:\d+\), and changes it"
    with pytest.raises(TranslationError, match=told):
        torch2mlx.translate(model, (X,), check=check)
    assert not model[0].initialized


def test_evaluation_that_does_not_ask_needs_no_flag():
    model = nn.Sequential(ByMode(FLAG.clone())).eval()
    made = assert_alike(model, (X,), (Y,))
    assert "another value" not in made.source


class Counts(nn.Module):
    """Does something else from the sixth call on."""

    def __init__(self, before):
        super().__init__()
        self.register_buffer("count", torch.tensor(3))
        self.before, self.linear = before, nn.Linear(4, 4)

    def forward(self, x):
        if self.before:
            self.count += 1
        x = self.linear(x) if self.count > 5 else x
        if not self.before:
            self.count = self.count + 1
        return x


def test_a_counter_that_decides_is_refused():
    with pytest.raises(TranslationError, match=r"branches on count .*, and changes it"):
        torch2mlx.translate(Counts(False), (X,))
    with pytest.raises(ExportError, match="branches on values of a tensor"):
        torch2mlx.translate(Counts(True), (X,))


class Repeats(nn.Module):
    """A buffer says how often a layer is called, another with the input whether it is at all."""

    def __init__(self, mixed=False):
        super().__init__()
        self.register_buffer("times", torch.tensor(3))
        self.mixed, self.linear = mixed, nn.Linear(4, 4)

    def forward(self, x):
        if self.mixed and self.times > x.sum():
            return x
        for _ in range(self.times):
            x = self.linear(x)
        return x


def test_numbers_of_buffers_that_steer_are_those_of_now():
    made = assert_alike(Repeats(), (X,), (Y,))
    made.module.times = mx.array(2)
    with pytest.raises(ValueError, match=r"^times has another value than when translated"):
        made.module(mx.zeros((2, 4)))


def test_what_inputs_decide_too_is_refused():
    with pytest.raises(ExportError, match="branches on values of a tensor"):
        torch2mlx.translate(Repeats(mixed=True), (X,))


class Asks(nn.Module):
    """A truth of the input, compared with a number."""

    def __init__(self, wanted):
        super().__init__()
        self.wanted = wanted

    def forward(self, x):
        return x * 2 if (x > 100).any().item() == self.wanted else x


@pytest.mark.parametrize("wanted", [0, True, 1.0])
def test_truths_are_not_unequal_to_every_number(wanted):
    with pytest.raises(ExportError, match="branches on values of a tensor"):
        torch2mlx.translate(Asks(wanted), (X,), check=False)


def test_models_without_values_decide_nothing():
    model = nn.Sequential(ActNorm(torch.tensor(True))).to("meta")
    with pytest.raises(ExportError, match="branches on values of a tensor"):
        torch2mlx.translate(model, (X.to("meta"),))
