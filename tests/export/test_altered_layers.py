"""Layers that their models use in parts: subclasses of Sequential, layers whose weights others took
over, computed weights at several places; values, gradients, buffers and strict loading."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import torch2mlx
from tests.export.alike import assert_alike
from torch2mlx import kit
from torch2mlx.errors import ExportError
from torch2mlx.export.verify.faults import short


class Growing(nn.Sequential):
    """A chain with names, whose result is put beside what came in."""

    def __init__(self, channels):
        super().__init__()
        self.add_module("norm", nn.BatchNorm2d(channels))
        self.add_module("relu", nn.ReLU())
        self.add_module("conv", nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, x):
        return torch.cat([x, super().forward(x)], 1)


class Stack(nn.Sequential):
    """A plain subclass, of children with names."""

    def __init__(self):
        super().__init__()
        self.add_module("first", Growing(4))
        self.add_module("second", Growing(7))


class Parts(nn.Sequential):
    """Children, one weight of a child and a parameter, each on its own."""

    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.Linear(4, 4))
        self.extra = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.randn(4))

    def forward(self, x):
        y = self[1](self[0](x) * self.scale)
        return y + self.extra(x) + self[0](y) * self.extra.weight.sum()


class Holder(nn.Module):
    """Asks for children of a child."""

    def __init__(self):
        super().__init__()
        self.parts = Parts()

    def forward(self, x):
        return self.parts.extra(x) + self.parts(x)


class ByHand(nn.Module):
    """A spectral norm as it was written before torch had one: the layer loses its weight."""

    def __init__(self, layer, tidy=True):
        super().__init__()
        self.layer, self.tidy = layer, tidy  # torch copies no module that holds a result
        weight = layer.weight.detach()
        del layer._parameters["weight"]
        u = F.normalize(torch.randn(len(weight)), dim=0)
        layer.register_parameter("weight_u", nn.Parameter(u, requires_grad=False))
        layer.register_parameter("weight_bar", nn.Parameter(weight))

    def forward(self, *args):
        weight, u = self.layer.weight_bar, self.layer.weight_u
        matrix = weight.view(len(weight), -1)
        v = F.normalize(torch.mv(matrix.t().data, u.data), dim=0)
        u.data = F.normalize(torch.mv(matrix.data, v), dim=0)
        self.layer.weight = weight / u.dot(matrix.mv(v))
        y = self.layer.forward(*args)
        if self.tidy:
            del self.layer.weight
        return y


class Twice(nn.Module):
    """One layer as an attribute and within a chain."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.chain = nn.Sequential(layer, nn.Identity())

    def forward(self, x):
        y = self.chain(x)
        return y[0] if isinstance(y, tuple) else y


CHAINS = {
    "grown": (lambda: Growing(4), ((2, 4, 5, 6), (3, 4, 7, 3))),
    "stacked": (Stack, ((2, 4, 5, 6), (3, 4, 7, 3))),
    "in parts": (Parts, ((2, 4), (5, 4))),
    "held": (Holder, ((2, 4), (5, 4))),
    "linear by hand": (lambda: ByHand(nn.Linear(4, 3)), ((2, 4), (5, 4))),
    "convolution by hand": (lambda: ByHand(nn.Conv2d(4, 3, 3)), ((2, 4, 5, 6), (3, 4, 7, 3))),
}


def test_a_weight_that_a_call_left_on_a_layer_is_not_taken_for_its_own():
    model, x = ByHand(nn.Linear(4, 3), tidy=False), torch.randn(2, 4)
    model(x)
    made = torch2mlx.translate(model, (x,))
    for given in (x, torch.randn(5, 4)):
        found = torch.tensor(made.module(given).tolist())
        torch.testing.assert_close(found, model(given).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", CHAINS)
def test_layers_in_parts_are_translated(name, training):
    torch.manual_seed(0)
    make, shapes = CHAINS[name]
    first, second = (torch.randn(shape) for shape in shapes)
    assert_alike(make().train(training), (first,), (second,))


PLACES = {
    "weight norm": (lambda: Twice(weight_norm(nn.Conv1d(4, 3, 2))), ((2, 4, 6), (3, 4, 9))),
    "spectral norm": (lambda: Twice(spectral_norm(nn.Linear(4, 3))), ((2, 4), (5, 4))),
    "parametrized": (
        lambda: Twice(parametrizations.spectral_norm(nn.Linear(4, 3))),
        ((2, 4), (5, 4)),
    ),
    "recurrent": (lambda: Twice(nn.GRU(4, 3, batch_first=True)), ((2, 6, 4), (3, 9, 4))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", PLACES)
def test_a_layer_with_computed_tensors_stands_at_two_places(name, training):
    torch.manual_seed(0)
    make, (first, second) = PLACES[name]
    model = make().train(training)
    made = torch2mlx.translate(model, (torch.randn(first),))
    for shape in (first, second):  # a power iteration goes on from one call to the next
        x = torch.randn(shape)
        found = torch.tensor(made.module(x).tolist())
        torch.testing.assert_close(found, model(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [lambda: weight_norm(nn.Linear(4, 3)), lambda: nn.GRU(4, 3)])
@pytest.mark.filterwarnings("ignore")
def test_a_computed_tensor_at_two_places_is_stored_once_and_comes_back(layer, tmp_path):
    model = Twice(layer()).eval()
    torch2mlx.convert(model, tmp_path / "weights.safetensors")
    translated = torch2mlx.translate(model, (torch.randn(2, 5, 4),))
    kept = [key for key in translated.weights if key.startswith("chain")]
    assert not kept
    back = torch2mlx.revert(tmp_path / "weights.safetensors")
    state = model.state_dict()
    assert set(back) == set(state)
    assert all(torch.equal(torch.as_tensor(back[key]), state[key]) for key in state)


class Fitted(nn.Module):
    """An image cropped or widened to the size of another, as a U-Net does."""

    def forward(self, x, like):
        high, wide = like.shape[2] - x.shape[2], like.shape[3] - x.shape[3]
        return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2), value=0.5)


@pytest.mark.parametrize(("high", "wide"), [(9, 4), (3, 8), (3, 4)])
def test_padding_by_lengths_crops_where_it_is_negative(high, wide):
    like = torch.randn(2, 1, high, wide)
    made = torch2mlx.translate(Fitted(), (torch.randn(2, 3, 6, 7), like))
    for lower in (0, 1):
        x, other = torch.randn(3, 3, 6 + lower, 7), torch.randn(3, 1, high + lower, wide)
        found = torch.tensor(made.module(x, other).tolist())
        torch.testing.assert_close(found, Fitted()(x, other), rtol=0, atol=0)


def test_padding_takes_no_more_than_there_is():
    x = mx.zeros((2, 3))
    assert kit.padding.pad(x, (-2, -1)).shape == (2, 0)
    with pytest.raises(ValueError, match=r"^axis 1 has 3 items, fewer than \(-5, 4\) takes away$"):
        kit.padding.pad(x, (-5, 4))


def test_a_message_that_only_announces_names_is_said_with_them():
    error = ValueError("Received 2 parameters not in model: \na.weight,\nb.weight.")
    assert short(error) == "ValueError: Received 2 parameters not in model:  a.weight, b.weight."
    assert short(RuntimeError("one\ntwo")) == "RuntimeError: one"


class Remembering(nn.Module):
    """A running mean that every call replaces."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return x - self.mean


class Improving(nn.Module):
    """A spectral norm by hand that keeps the weight: both are given new tensors from outside."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        layer.register_buffer("u", F.normalize(torch.randn(len(layer.weight)), dim=0))

    def forward(self, x):
        weight = self.layer.weight
        matrix = weight.view(len(weight), -1).data
        v = F.normalize(matrix.t() @ self.layer.u, dim=0)
        self.layer.u = F.normalize(matrix @ v, dim=0)
        weight.data = weight.data / torch.dot(self.layer.u, matrix @ v)
        return self.layer.forward(x)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), Remembering()), (3, 4)),
        (lambda: Improving(nn.Conv2d(4, 3, 3)), (2, 4, 5, 6)),
        (lambda: Improving(nn.ConvTranspose1d(4, 4, 3, groups=2)), (2, 4, 6)),
    ],
    ids=["running mean", "convolution", "grouped"],
)
def test_what_a_call_assigns_to_layers_is_there_in_the_next(make, shape):
    torch.manual_seed(0)
    model = make()
    made = torch2mlx.translate(model, (torch.randn(shape),))
    for _ in range(3):
        x = torch.randn(shape)
        found = torch.tensor(made.module(x).tolist())
        torch.testing.assert_close(found, model(x).detach(), rtol=1e-5, atol=1e-5)


def test_a_new_parameter_is_refused():
    class Renewing(Remembering):
        def forward(self, x):
            self.scale = nn.Parameter(self.scale * 2)
            return x * self.scale

    renewing = Renewing()
    renewing.scale = nn.Parameter(torch.ones(4))
    with pytest.raises(ExportError, match="gives scale another parameter"):
        torch2mlx.translate(renewing, (torch.randn(3, 4),))


class Steps(nn.Module):
    """Constants that no module registers, read by their data."""

    def __init__(self):
        super().__init__()
        self.steps = torch.arange(4.0)

    def forward(self, x):
        return x * self.steps.data + self.steps[:1].data


class Called(nn.Module):
    """A class that says how it is called, and has no forward."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def __call__(self, x, shift=None):
        return self.layer(x) if shift is None else self.layer(x) + shift


@pytest.mark.parametrize("names", [(), ("shift",)])
@pytest.mark.parametrize("make", [Steps, Called])
def test_constants_and_calls_of_ones_own(make, names):
    model, x = make(), torch.randn(3, 4)
    if make is Steps and names:
        model = nn.Sequential(model, Called())  # within another
        names = ()
    named = {name: torch.randn(4) for name in names}
    made = torch2mlx.translate(model, (x,), named)
    found = torch.tensor(made.module(x, **named).tolist())
    torch.testing.assert_close(found, model(x, **named).detach(), rtol=1e-5, atol=1e-6)
