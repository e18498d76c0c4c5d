"""A parameter stays one, whatever reads it: a grid over the layers of torch.nn that have some.

Each layer is called once, called twice, read beside its call, and called with other weights. In
both modes outputs agree and other weights can be loaded; trained, every parameter moves as torch's.
"""

import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import torch2mlx
from torch2mlx.errors import TranslationError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("enable_nested_tensor", ".*weight_norm.* is deprecated", ".*0/1 specialized")
]
STEPS = 10


class Scaled(nn.Module):
    """A parametrization with a weight and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("_offset", torch.tensor(0.25))

    def forward(self, weight):
        return weight * self.scale + self._offset


def parametrized(layer):
    parametrize.register_parametrization(layer, "weight", Scaled())
    return layer


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


def first(value):
    while isinstance(value, tuple):
        value = value[0]
    return value


def attended(layer, x):
    return layer(x, x, x)


def called(layer, x):
    return layer(x)


def stepped(cell, x):
    return cell(x, cell(x))


#: name -> (what makes the layer, the shape of its input, how it is called).
KINDS = {
    "linear": (lambda: nn.Linear(3, 4), (2, 3), called),
    "conv": (lambda: nn.Conv1d(2, 3, 3), (2, 2, 5), called),
    "conv_transpose": (lambda: nn.ConvTranspose2d(2, 4, 3, groups=2), (2, 2, 3, 3), called),
    "embedding": (lambda: nn.Embedding(6, 3), "indices", called),
    "layer_norm": (lambda: nn.LayerNorm((2, 3)), (2, 2, 3), called),
    "rms_norm": (lambda: nn.RMSNorm(3), (2, 3), called),
    "group_norm": (lambda: nn.GroupNorm(1, 4), (2, 4, 3), called),
    "instance_norm": (lambda: nn.InstanceNorm1d(3, affine=True), (2, 3, 4), called),
    "prelu": (lambda: nn.PReLU(3), (2, 3), called),
    "attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), (2, 3, 4), attended),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True),
        (2, 3, 4),
        called,
    ),
    "rnn": (lambda: nn.RNN(3, 4), (5, 2, 3), called),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True), (3, 2, 3), called),
    "gru": (lambda: nn.GRU(3, 4, batch_first=True), (2, 3, 3), called),
    "rnn_cell": (lambda: nn.RNNCell(3, 4), (2, 3), stepped),
    "lstm_cell": (lambda: nn.LSTMCell(3, 4), (2, 3), stepped),
    "gru_cell": (lambda: nn.GRUCell(3, 4), (2, 3), stepped),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Conv1d(2, 3, 3)), (2, 2, 5), called),
    "weight_norm_hook": (lambda: nn.utils.weight_norm(nn.Linear(3, 4)), (2, 3), called),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(3, 4)), (2, 3), called),
    "spectral_norm_hook": (lambda: nn.utils.spectral_norm(nn.Conv1d(2, 3, 3)), (2, 2, 5), called),
    "pruned": (lambda: pruned(nn.Linear(3, 4)), (2, 3), called),
    "parametrized": (lambda: parametrized(nn.Linear(3, 4)), (2, 3), called),
    "normed_lstm": (
        lambda: parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"),
        (3, 2, 3),
        called,
    ),
}


def once(call, layer, x):
    return first(call(layer, x))


def twice(call, layer, x):
    return first(call(layer, x)) + first(call(layer, x.flip(0)))


def read(call, layer, x):
    return first(call(layer, x)) + sum(p.square().sum() for p in layer.parameters()) / 8


def functional(call, layer, x):
    given = {name: p * 1.5 for name, p in layer.named_parameters()}
    return first(call(lambda *args: torch.func.functional_call(layer, given, args), x))


USES = (once, twice, read, functional)


class Net(nn.Module):
    """One layer of every kind, all used in one way."""

    def __init__(self, use, kinds):
        super().__init__()
        self.use, self.kinds = use, kinds
        self.layers = nn.ModuleDict({name: KINDS[name][0]() for name in kinds})

    def forward(self, inputs):
        layers = self.layers.items()
        return {n: self.use(KINDS[n][2], layer, inputs[n]) for n, layer in layers}


def example(kinds):
    shapes = {name: KINDS[name][1] for name in kinds}
    return {
        name: torch.tensor([[1, 5], [2, 1]]) if shape == "indices" else torch.randn(shape)
        for name, shape in shapes.items()
    }


def to_mlx(inputs):
    return {name: mx.array(x.numpy()) for name, x in inputs.items()}


def trained_in_torch(net, inputs):
    optimizer, losses = torch.optim.SGD(net.parameters(), 0.05), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = sum((y - 0.3).square().mean() for y in net(inputs).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_in_mlx(twin, inputs):
    given = to_mlx(inputs)
    loss = lambda m: sum((y - 0.3).square().mean() for y in m(given).values())
    optimizer, step, losses = mlx.optimizers.SGD(0.05), mlx.nn.value_and_grad(twin, loss), []
    for _ in range(STEPS):
        value, gradients = step(twin)
        optimizer.update(twin, gradients)
        mx.eval(twin.parameters())
        losses.append(value.item())
    return losses


def made(use, training, kinds=tuple(KINDS)):
    torch.manual_seed(0)
    return Net(use, kinds).train(training), example(kinds)


def outputs(model, inputs):
    return {name: np.array(y) for name, y in model(inputs).items()}


def check_loaded(translation, use, training, folder):
    """The folder with the weights of another model of the kind computes what that one does."""
    other, _ = made(use, training)
    with torch.no_grad():
        for p in other.parameters():
            p += torch.randn_like(p) / 4
    translation.save(folder, weights=other)
    inputs = example(tuple(KINDS))
    found = outputs(torch2mlx.load(folder), to_mlx(inputs))
    for name, expected in other(inputs).items():
        close(found[name], expected.detach())


@pytest.mark.slow
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_training_moves_every_parameter_as_torch_does(use, tmp_path):
    net, inputs = made(use, True)
    translation = torch2mlx.translate(net, (inputs,), dynamic=False)
    assert not translation.constants
    assert "mx.array(" not in translation.source
    check_loaded(translation, use, True, tmp_path)
    twin, before = translation.module, made(use, True)[0]
    close(trained_in_mlx(twin, inputs), trained_in_torch(net, inputs), 1e-4)
    found, start = torch2mlx.to_torch(twin, like=before), before.state_dict()
    for name, value in net.state_dict().items():
        close(found[name], value, 1e-4)
    for name, value in net.named_parameters():
        assert not torch.equal(value, start[name])


@pytest.mark.slow
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_evaluation_reads_the_weights_that_are_loaded(use, tmp_path):
    net, inputs = made(use, False)
    translation = torch2mlx.translate(net, (inputs,), dynamic=False)
    assert not translation.constants
    assert "mx.array(" not in translation.source
    found = outputs(translation.module, to_mlx(inputs))
    for name, expected in net(inputs).items():
        close(found[name], expected.detach())
    check_loaded(translation, use, False, tmp_path)


@pytest.mark.parametrize("training", (True, False))
@pytest.mark.parametrize("name", ("weight_norm", "spectral_norm_hook", "attention", "gru"))
def test_a_layer_as_the_root(name, training):
    torch.manual_seed(0)
    make, _, call = KINDS[name]
    layer, x = make().train(training), example((name,))[name]
    args = (x, x, x) if call is attended else (x,)
    twin = torch2mlx.translate(layer, args).module
    close(first(twin(*(mx.array(a.numpy()) for a in args))), first(layer(*args)).detach())


def test_what_is_called_again_stays_a_layer():
    net = Net(twice, ("linear", "lstm", "gru_cell", "attention")).eval()
    source = torch2mlx.translate(net, (example(net.kinds),)).source
    for layer in ("nn.Linear(", "kit.LSTM(", "kit.GRUCell(", "kit.MultiheadAttention("):
        assert layer in source


class Derived(nn.Module):
    """A weight made in the constructor from another."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.twice = self.linear.weight * 2

    def forward(self, x):
        return self.linear(x) @ self.twice


class Listed(nn.Module):
    """Parameters that no module knows of."""

    def __init__(self):
        super().__init__()
        self.linear, self.scales = nn.Linear(3, 3), [nn.Parameter(torch.ones(3))]

    def forward(self, x):
        return self.linear(x) * self.scales[0]


class Attribute(nn.Module):
    """A tensor that asks for a gradient, and that an optimizer may be given."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(3, 3), torch.ones(3, requires_grad=True)

    def forward(self, x):
        return self.linear(x) * self.scale


@pytest.mark.parametrize(("net", "name"), [(Derived, "twice"), (Listed, "scales[0]")])
def test_what_would_be_trained_and_is_no_parameter_is_refused_in_training(net, name):
    model, x = net(), torch.randn(2, 3)
    with pytest.raises(TranslationError) as caught:
        torch2mlx.translate(model, (x,))
    assert str(caught.value) == (
        f"{name} has a gradient and is no parameter, so it would be a constant here: make it an "
        "nn.Parameter of its module (an nn.ParameterList holds several), or compute it in forward; "
        "in eval mode it is a constant"
    )
    twin = torch2mlx.translate(model.eval(), (x,)).module
    close(twin(mx.array(x.numpy())), model(x).detach())


def test_a_tensor_with_a_gradient_is_a_weight():
    model, x = Attribute(), torch.randn(2, 3)
    twin = torch2mlx.translate(model, (x,)).module
    model(x).square().sum().backward()
    loss = lambda m: m(mx.array(x.numpy())).square().sum()
    _, gradients = mlx.nn.value_and_grad(twin, loss)(twin)
    close(gradients["scale"], model.scale.grad)


def test_frozen_parts_of_a_layer_stay_where_they_are():
    torch.manual_seed(0)
    net, inputs = made(once, True, ("lstm", "gru", "spectral_norm", "encoder"))
    fixed = ("lstm.bias_hh_l0", "gru.bias_ih_l0", "spectral_norm.bias", "encoder.norm1.weight")
    for name, p in net.layers.named_parameters():
        p.requires_grad_(name not in fixed)
    before = made(once, True, net.kinds)[0]
    twin = torch2mlx.translate(net, (inputs,), dynamic=False).module
    close(trained_in_mlx(twin, inputs), trained_in_torch(net, inputs), 1e-4)
    found, start = torch2mlx.to_torch(twin, like=before), before.state_dict()
    for name, value in net.state_dict().items():
        close(found[name], value, 1e-4)
        assert name.removeprefix("layers.") not in fixed or torch.equal(found[name], start[name])


@pytest.mark.parametrize("name", ("spectral_norm", "spectral_norm_hook"))
def test_a_power_iteration_rests_in_eval_mode(name):
    net, inputs = made(once, True, (name,))
    twin = torch2mlx.translate(net, (inputs,)).module
    for training in (True, False, False, True):
        expected = net.train(training)(inputs)[name].detach()
        close(outputs(twin.train(training), to_mlx(inputs))[name], expected)
