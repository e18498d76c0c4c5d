"""Weights for training keep what torch trains: both biases, and what a weight is computed from."""

import pytest

from tests.support import assert_same_state, close, need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import numpy as np
import torch
from mlx.utils import tree_flatten
from torch import nn
from torch.nn.utils import parametrizations, prune

import torch2mlx
from torch2mlx import kit, registry
from torch2mlx.cli import main
from torch2mlx.errors import UnmappedLayersError

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:.*is deprecated")
LAYERS = {
    "rnn": lambda: nn.RNN(3, 4, nonlinearity="relu"),
    "lstm": lambda: nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2),
    "gru": lambda: nn.GRU(3, 4, bidirectional=True),
    "plain": lambda: nn.GRU(3, 4, bias=False),
    "rnn_cell": lambda: nn.RNNCell(3, 4),
    "lstm_cell": lambda: nn.LSTMCell(3, 4),
    "gru_cell": lambda: nn.GRUCell(3, 4),
}
FOLDED = {
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(3, 4)), "weight_g weight_v"),
    "hook": (lambda: nn.utils.weight_norm(nn.Conv1d(2, 3, 3)), "weight_g weight_v"),
    "spectral_norm": (
        lambda: parametrizations.spectral_norm(nn.Linear(3, 4)),
        "weight_orig weight_u weight_v",
    ),
    "spectral_hook": (
        lambda: nn.utils.spectral_norm(nn.Linear(3, 4)),
        "weight_orig weight_u weight_v",
    ),
    "pruned": (
        lambda: prune.l1_unstructured(nn.Linear(3, 4), "weight", 0.5),
        "weight_orig weight_mask",
    ),
    "orthogonal": (
        lambda: parametrizations.orthogonal(nn.Linear(3, 3)),
        "weight_orig weight_0_base",
    ),
}


def first(value):
    return value[0] if isinstance(value, tuple) else value


def arrays(state):
    return {name: value.detach().clone() for name, value in state.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_a_built_recurrent_layer_trains_as_torch_does(name, tmp_path):
    torch.manual_seed(0)
    layer, x = LAYERS[name](), torch.randn((2, 3) if "cell" in name else (4, 2, 3))
    twin, before = registry.build(layer), arrays(layer.state_dict())
    file = tmp_path / "layer.safetensors"
    torch2mlx.convert(layer, file, training=True)
    converted = torch2mlx.load_converted(file)
    assert converted.keys() == dict(tree_flatten(twin.parameters())).keys()
    assert_same_state(torch2mlx.revert(file), before)
    loss = lambda m: first(m(mx.array(x.numpy()))).square().mean()
    ours = mlx.optimizers.Adam(0.02, bias_correction=True)
    theirs = torch.optim.Adam(layer.parameters(), lr=0.02)
    step = mlx.nn.value_and_grad(twin, loss)
    for _ in range(15):
        value, gradients = step(twin)
        ours.update(twin, gradients)
        mx.eval(twin.parameters())
        theirs.zero_grad()
        expected = first(layer(x)).square().mean()
        expected.backward()
        theirs.step()
        close(value, expected.item(), 1e-5)
    close(loss(twin), first(layer(x)).square().mean().item(), 1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_merges_the_biases(name):
    layer = LAYERS[name]().eval()
    names = dict(tree_flatten(registry.build(layer).parameters()))
    assert not any(key.endswith(("bias_ih", "bias_hh")) for key in names)


@pytest.mark.parametrize("name", FOLDED)
def test_what_a_weight_is_computed_from_is_kept(name, tmp_path):
    make, names = FOLDED[name]
    net, file = nn.Sequential(make(), nn.Tanh()), tmp_path / "net.safetensors"
    state = arrays(net.state_dict())
    torch2mlx.convert(net, file, training=True)
    converted = torch2mlx.load_converted(file)
    assert sorted(converted) == sorted(f"layers.0.{n}" for n in (*names.split(), "bias"))
    assert_same_state(torch2mlx.revert(file), state)
    assert_same_state(torch2mlx.to_torch(converted, like=net), state)


def test_chosen_modules_keep_theirs(tmp_path):
    net = nn.Sequential(nn.GRU(3, 4), nn.GRU(4, 2))
    torch2mlx.convert(net, tmp_path / "net.safetensors", training=["1"])
    names = set(torch2mlx.load_converted(tmp_path / "net.safetensors"))
    biases = {name for name in names if "b" in name.rpartition(".")[2]}
    assert biases == {"layers.0.b", "layers.0.bhn", "layers.1.bias_ih", "layers.1.bias_hh"}


def test_a_state_dict_with_the_module_keeps_them_too(tmp_path):
    net = nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 3)))
    state = net.state_dict()
    torch2mlx.convert(state, tmp_path / "net.safetensors", module=net, training=True)
    found = torch2mlx.load_converted(tmp_path / "net.safetensors")
    original = state["0.parametrizations.weight.original"]
    np.testing.assert_array_equal(found["layers.0.weight_orig"], original)


def test_a_file_with_rules_keeps_them_too(tmp_path):
    net = nn.ModuleDict({"gru": nn.GRU(3, 4), "linear": nn.utils.weight_norm(nn.Linear(3, 4))})
    torch.save(net.state_dict(), tmp_path / "net.pt")
    out = tmp_path / "net.safetensors"
    rules = ("--rule", "gru=GRU", "--rule", "linear=Linear")
    assert main(["convert", f"{tmp_path}/net.pt", str(out), *rules, "--training"]) == 0
    names = {"gru.bias_hh", "gru.bias_ih", "linear.weight_g", "linear.weight_v"}
    assert names < set(torch2mlx.load_converted(out))


def test_a_rule_for_a_layer_of_a_live_module_leaves_its_names(tmp_path):
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)))
    file = tmp_path / "net.safetensors"
    state = arrays(net.state_dict())
    torch2mlx.convert(net, file, training=True, rules={"0": "Linear"})
    found = torch2mlx.load_converted(file)
    assert sorted(found) == ["layers.0.bias", "layers.0.weight_g", "layers.0.weight_v"]
    assert_same_state(torch2mlx.revert(file), state)


@pytest.mark.parametrize("kind", ("RNN", "LSTM", "GRU"))
def test_a_layer_with_both_biases_takes_their_sum(kind, tmp_path):
    layer, x = getattr(nn, kind)(3, 4), torch.randn(5, 2, 3)
    torch2mlx.convert(layer, tmp_path / "layer.safetensors")
    twin = getattr(kit, kind)(3, 4, both_biases=True)
    kit.files.load_state_dict(twin, torch2mlx.load_converted(tmp_path / "layer.safetensors"))
    close(twin(mx.array(x.numpy()))[0], layer(x)[0].detach())


def test_weights_that_training_computes_are_refused_by_build():
    layer = parametrizations.weight_norm(nn.Linear(3, 4))
    with pytest.raises(UnmappedLayersError) as caught:
        registry.build(nn.Sequential(layer))
    assert str(caught.value) == (
        "ParametrizedLinear at 0: torch computes weight anew at every step of training, which no "
        "layer of MLX does: call eval() first, which fixes it, or translate() the model, which "
        "writes that computation"
    )
    x = torch.randn(2, 3)
    close(registry.build(layer.eval())(mx.array(x.numpy())), layer(x).detach())
