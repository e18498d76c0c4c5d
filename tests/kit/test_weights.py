"""Tensors of layers under torch's names and in torch's layouts: each layer, both ways."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import mlx.nn as nn
import torch

import torch2mlx
from torch2mlx import kit

#: A layer of torch.nn -> shapes of what it is called with, if it is called.
LAYERS = {
    "nn.Linear(4, 3)": [(2, 4)],
    "nn.Bilinear(2, 3, 4)": [(5, 2), (5, 3)],
    "nn.Conv1d(2, 3, 2)": [(2, 2, 5)],
    "nn.Conv2d(4, 6, (2, 3), groups=2)": [(2, 4, 5, 6)],
    "nn.Conv3d(2, 3, 2)": [(2, 2, 4, 4, 3)],
    "nn.ConvTranspose1d(2, 4, 2)": [(2, 2, 5)],
    "nn.ConvTranspose2d(4, 6, (2, 3), groups=2)": [(2, 4, 5, 6)],
    "nn.ConvTranspose3d(2, 4, 2)": [(1, 2, 3, 3, 2)],
    "nn.BatchNorm2d(3)": [(4, 3, 2, 2)],
    "nn.GroupNorm(1, 3)": [(4, 3, 2)],
    "nn.LayerNorm((3, 2))": [(4, 3, 2)],
    "nn.Embedding(5, 3)": [],
    "nn.PReLU(3)": [(2, 3, 4)],
    "nn.RNN(4, 3, 2, nonlinearity='relu')": [(5, 2, 4)],
    "nn.LSTM(4, 3, 2, bidirectional=True)": [(5, 2, 4)],
    "nn.LSTM(4, 3, proj_size=2)": [(5, 2, 4)],
    "nn.LSTM(4, 3, bias=False)": [(5, 2, 4)],
    "nn.GRU(4, 3)": [(5, 2, 4)],
    "nn.LSTMCell(4, 3)": [(2, 4)],
    "nn.GRUCell(4, 3)": [(2, 4)],
    "nn.MultiheadAttention(4, 2)": [(3, 2, 4)] * 3,
    "nn.MultiheadAttention(4, 2, bias=False, add_bias_kv=True)": [(3, 2, 4)] * 3,
    "nn.MultiheadAttention(4, 2, kdim=3, vdim=5)": [(3, 2, 4), (4, 2, 3), (4, 2, 5)],
    "nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True),"
    " 2, nn.LayerNorm(4))": [(3, 2, 4)],
    "nn.Transformer(4, 2, 1, 1, 8, 0.0, batch_first=True)": [(3, 2, 4), (3, 5, 4)],
    "nn.Sequential(nn.Conv2d(2, 3, 2), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 1)))": [
        (2, 2, 4, 5)
    ],
    "nn.Sequential(OrderedDict([('one', nn.Linear(2, 3)), ('two', nn.Linear(3, 2))]))": [(4, 2)],
    "nn.ModuleDict({'a': nn.Linear(2, 3), 'b': nn.Sequential(nn.Linear(2, 2))})": [],
}
HEAD = "from collections import OrderedDict\nimport torch\nimport torch.nn as nn\n"


def made(layer):
    """A layer in both frameworks, with torch's weights and running statistics in both."""
    torch.manual_seed(0)
    there = {}
    exec(f"{HEAD}made = {layer}\n", there)
    theirs, here = there["made"], {}
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    result = torch2mlx.port(f"{HEAD}made = {layer}\n")
    assert result.ok, result.unsupported
    exec(result.source, here)
    kit.files.load_state_dict(here["made"], as_arrays(theirs.state_dict()))
    return theirs, here["made"]


def as_arrays(state):
    return {name: mx.array(tensor.detach().numpy()) for name, tensor in state.items()}


def first(value):
    return value[0] if isinstance(value, tuple) else value


@pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:RNN module weights")
@pytest.mark.parametrize("layer", LAYERS)
def test_names_layouts_and_order_are_torchs(layer):
    theirs, ours = made(layer)
    expected = list(theirs.state_dict().items())
    state = kit.files.state_dict(ours)
    assert list(state) == [n for n, _ in expected]
    for name, tensor in expected:
        assert np.array_equal(np.array(state[name]), tensor.numpy()), name
    named = kit.training.named_parameters(ours)
    assert [n for n, _ in named] == [n for n, _ in theirs.named_parameters()]
    for (name, one), other in zip(named, theirs.parameters(), strict=True):
        assert np.array_equal(np.array(one), other.detach().numpy()), name
        twice = other.detach() * 2
        other.data = twice
        assert np.array_equal(np.array(kit.training.assign(ours, name, one * 2)), twice.numpy()), (
            name
        )
    theirs.eval()
    ours.eval()
    if LAYERS[layer]:
        inputs = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(LAYERS[layer])]
        with torch.no_grad():
            there = first(theirs(*(torch.tensor(i, dtype=torch.float32) for i in inputs)))
        here = first(ours(*(mx.array(i.astype(np.float32)) for i in inputs)))
        assert np.allclose(np.array(here), there.numpy(), atol=1e-4)


def test_gradients_of_all_layouts_are_torchs():
    layer = "nn.Sequential(nn.Conv2d(4, 6, 2, groups=2), nn.ConvTranspose2d(6, 4, 2, groups=2))"
    theirs, ours = made(layer)
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    theirs(torch.tensor(x)).square().mean().backward()
    found = nn.value_and_grad(ours, lambda x: ours(x).square().mean())(mx.array(x))[1]
    for name, p in theirs.named_parameters():
        here = kit.training.gradient(found, name, ours)
        assert np.allclose(np.array(here), p.grad.numpy(), atol=1e-5), name
    kit.training.freeze(ours, "0.weight")
    assert not kit.training.is_trainable(ours, "0.weight")
    assert kit.training.is_trainable(ours, "1.weight")
    left = [name for name, _ in kit.training.named_parameters(ours, trainable=True)]
    assert left == ["0.bias", "1.weight", "1.bias"]
    assert "weight" not in ours.trainable_parameters()["layers"][0]


def test_parameters_that_were_turned_are_told_apart_by_optimizers():
    _, ours = made("nn.Sequential(nn.Conv2d(2, 2, 2), nn.MultiheadAttention(4, 2))")
    named = kit.training.named_parameters(ours)
    optimizer = kit.ParameterGroups(
        ours,
        kit.optimizers.SGD,
        [
            {"params": [p for n, p in named if "bias" not in n], "lr": 1.0},
            {"params": [p for n, p in kit.training.named_parameters(ours) if "bias" in n]},
        ],
        lr=0.0,
    )
    before = {name: np.array(p) for name, p in named}
    ones = nn.utils.tree_map(mx.ones_like, ours.trainable_parameters())
    optimizer.update(ours, ones)
    for name, p in kit.training.named_parameters(ours):
        moved = 0.0 if "bias" in name else 1.0
        assert np.allclose(before[name] - np.array(p), moved), name


def test_loading_says_what_does_not_fit():
    _, ours = made("nn.Conv2d(2, 3, 5)")
    state = kit.files.state_dict(ours)
    with pytest.raises(ValueError, match="load_weights"):
        kit.files.load_state_dict(ours, {**state, "weight": ours.weight[:2]})
    with pytest.raises(ValueError, match="missing: "):
        kit.files.load_state_dict(ours, {"weight": state["weight"]})
    found = kit.files.load_state_dict(ours, {"weight": state["weight"], "x": 0}, strict=False)
    assert found == (["bias"], ["x"])
    with pytest.raises(KeyError, match="no parameter named 'other'"):
        kit.training.assign(ours, "other", mx.zeros(1))


def test_what_was_converted_is_laid_out_as_in_mlx(tmp_path):
    theirs, ours = made("nn.Sequential(nn.Conv2d(3, 4, 3), nn.LSTM(4, 4))")
    torch2mlx.convert(theirs, tmp_path / "made.safetensors")
    converted = torch2mlx.load_converted(tmp_path / "made.safetensors")
    ours.update(nn.utils.tree_map(mx.zeros_like, ours.parameters()))
    kit.files.load_state_dict(ours, converted)
    weight = kit.files.state_dict(ours)["0.weight"]
    assert np.array_equal(np.array(weight), theirs[0].weight.detach().numpy())


def test_items_of_a_turned_weight_are_set_in_it():
    theirs, ours = made("nn.Conv2d(2, 3, 2)")
    with torch.no_grad():
        theirs.weight[1, 0] *= 3
        theirs.weight[2] = 1.0
    kit.weights.Items(ours, "weight")[1, 0] *= 3
    kit.weights.Items(ours, "weight")[2] = 1.0
    assert np.array_equal(np.array(kit.weights.get(ours, "weight")), theirs.weight.detach().numpy())


def test_a_list_of_buffers_has_no_parameters():
    layer = nn.Linear(2, 2)
    layer.tables = [mx.ones(2), mx.ones(3)]
    layer.freeze(keys=["tables"], recurse=False)
    assert [n for n, _ in kit.training.named_parameters(layer)] == ["weight", "bias"]
    assert list(kit.files.state_dict(layer)) == ["weight", "bias", "tables.0", "tables.1"]
