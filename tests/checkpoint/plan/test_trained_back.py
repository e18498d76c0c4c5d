"""Convert, train in MLX, revert, load strictly in torch: both compute the same again."""

import contextlib
import copy

import pytest

from tests.support import assert_same_state, close, need

need("torch", "mlx.core", "mlx.nn", "mlx.optimizers")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_unflatten
from torch import nn
from torch.nn.utils import parametrizations, prune

from tests.catalog.measure import forward_difference, run_torch, run_twin
from tests.catalog.test_grid import FAMILIES
from tests.checkpoint.plan.layer_cases import CASES, leaves
from tests.checkpoint.write.test_marker import as_version_1
from torch2mlx import convert, load_converted, registry, revert, to_torch
from torch2mlx.errors import RevertError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}:UserWarning")
    for text in ("LSTM with projections", "enable_nested_tensor", "Using padding='same'")
]

#: Layers that torch holds to a set which training in MLX leaves: they are refused, with a reason.
HELD = ("spectral_norm", "pruned", "orthogonal")


def flat(outputs):
    """The float arrays of an output, in order."""
    if isinstance(outputs, (tuple, list)):
        return [leaf for part in outputs for leaf in flat(part)]
    return [outputs] if isinstance(outputs, mx.array) else []


def train(model, run, steps=10, mask=None, rate=0.05):
    """Gradient descent on the mean square of all outputs; `mask`: parameter -> factor."""
    optimizer = mlx.optimizers.SGD(rate)

    def loss(parameters):
        model.update(parameters)
        outputs = [o for o in flat(run()) if mx.issubdtype(o.dtype, mx.floating)]
        return sum(mx.mean(mx.square(o - 1)) for o in outputs)

    for _ in range(steps):
        if not tree_flatten(model.trainable_parameters()):
            mx.eval(run(), model.parameters())  # running statistics move
            continue
        gradients = dict(tree_flatten(mx.grad(loss)(model.trainable_parameters())))
        gradients = {k: g * mask[k] if mask and k in mask else g for k, g in gradients.items()}
        optimizer.update(model, tree_unflatten(list(gradients.items())))
        mx.eval(model.parameters())


def inputs_of(case):
    if case.integers:
        return [np.random.randint(0, case.integers, shape) for shape in case.shapes]
    return [np.random.randn(*shape).astype(np.float32) for shape in case.shapes]


def converted_twin(case, layer, file):
    convert(layer, file)
    twin = case.mlx_layer().train()
    twin.load_weights(list(load_converted(file).items()), strict=True)
    return twin


def assert_same_outputs(case, twin, layer, inputs):
    found = leaves(case.run(twin.eval(), *map(mx.array, inputs)))
    with torch.no_grad():
        expected = leaves(case.call(layer.eval(), *map(torch.from_numpy, inputs)))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize(
    "case", [c for c in CASES if not any(h in c.name for h in HELD)], ids=lambda case: case.name
)
def test_a_layer_trained_in_mlx_computes_the_same_in_torch(case, tmp_path):
    file, trained = tmp_path / "layer.safetensors", tmp_path / "trained.npz"
    layer, inputs = case.torch_layer(), inputs_of(case)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    twin = converted_twin(case, layer, file)
    train(twin, lambda: case.run(twin, *map(mx.array, inputs)))

    state = revert(twin, like=file)
    assert list(state) == list(before)
    assert any(not torch.equal(state[k], v) for k, v in before.items())
    back = case.torch_layer()
    back.load_state_dict(state, strict=True)
    assert_same_outputs(case, twin, back, inputs)

    mx.savez(str(trained), **dict(tree_flatten(twin.parameters())))
    assert_same_state(revert(trained, like=file), state)
    assert_same_state(to_torch(twin, like=layer), state)
    metadata = mx.load(str(file), return_metadata=True)[1]
    mx.save_safetensors(str(file), dict(tree_flatten(twin.parameters())), metadata)
    assert_same_state(revert(file), state)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_built_twin_trained_computes_the_same_in_torch(family, subtests):
    """One case of the grid for each layer with weights, and each set of shapes it can have."""
    seen = set()
    for case in FAMILIES[family]:
        layer = case.make().train("train" in case.modes)
        kind = (type(layer).__name__, *((k, v.shape) for k, v in layer.state_dict().items()))
        if kind in seen or not any(p.numel() for p in layer.parameters()):
            continue
        seen.add(kind)
        with subtests.test(case=case.name):
            arrays, twin = case.inputs(), registry.build(layer)
            train(twin, lambda: run_twin(case, layer, twin, arrays), rate=0.01)  # noqa: B023
            back = copy.deepcopy(layer).eval()
            back.load_state_dict(to_torch(twin, like=layer), strict=True)
            twin.eval()
            with torch.no_grad():
                _, outputs = run_torch(case, back, arrays)
            found = run_twin(case, layer, twin, arrays)
            assert forward_difference(case, layer, outputs, found) <= 1e-5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("spectral_norm hook", "singular value .* remove the norm"),
        ("spectral_norm parametrize", "singular value .* remove the norm"),
        ("pruned", r"pruning mask is: multiply .*prune\.remove"),
        ("orthogonal", "pass the torch module itself"),
    ],
)
def test_what_training_took_out_of_torchs_reach_is_refused_by_name(kind, reason, tmp_path):
    file = tmp_path / "layer.safetensors"
    for case in (c for c in CASES if c.name.endswith(kind)):
        layer, inputs = case.torch_layer(), inputs_of(case)
        before = {k: v.clone() for k, v in layer.state_dict().items()}
        twin = converted_twin(case, layer, file)
        assert_same_state(revert(twin, like=file), before)
        train(twin, lambda: case.run(twin, *map(mx.array, inputs)))  # noqa: B023
        with pytest.raises(RevertError, match=rf"'weight': .*{reason}"):
            revert(twin, like=file)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name.endswith("pruned")], ids=lambda case: case.name
)
def test_a_pruned_layer_trained_under_its_mask(case, tmp_path):
    file = tmp_path / "layer.safetensors"
    layer, inputs = case.torch_layer(), inputs_of(case)
    twin = converted_twin(case, layer, file)
    mask = {"weight": (twin.weight != 0).astype(mx.float32)}
    train(twin, lambda: case.run(twin, *map(mx.array, inputs)), mask=mask)
    state = revert(twin, like=file)
    pruned = layer.weight_mask == 0
    assert torch.equal(state["weight_orig"][pruned], layer.weight_orig[pruned])
    assert torch.equal(state["weight_mask"], layer.weight_mask)
    layer.load_state_dict(state)
    assert_same_outputs(case, twin, layer, inputs)


@pytest.mark.parametrize(
    "case", [c for c in CASES if "spectral_norm" in c.name], ids=lambda case: case.name
)
def test_a_weight_held_at_norm_one_in_mlx_comes_back(case, tmp_path):
    file = tmp_path / "layer.safetensors"
    layer, inputs = case.torch_layer(), inputs_of(case)
    twin = converted_twin(case, layer, file)
    weight = np.random.randn(*twin.weight.shape)
    twin.weight = mx.array(weight / np.linalg.norm(weight.reshape(len(weight), -1), 2))
    layer.load_state_dict(revert(twin, like=file))
    assert_same_outputs(case, twin, layer, inputs)
    layer.train()(torch.from_numpy(inputs[0]))  # torch's own next step keeps it
    assert_same_outputs(case, twin, layer, inputs)


def test_a_parametrization_of_the_live_module_is_inverted_by_torch(tmp_path):
    layer = parametrizations.orthogonal(nn.Linear(5, 5))
    twin = mlx.nn.Linear(5, 5)
    rotation = np.linalg.qr(np.random.randn(5, 5))[0].astype(np.float32)
    twin.weight, twin.bias = mx.array(rotation), mx.zeros(5)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    state = to_torch(twin, like=layer)
    assert_same_state(layer.state_dict(), before)
    layer.load_state_dict(state)
    close(layer.weight.detach(), rotation)
    twin.weight = twin.weight * 2
    with pytest.raises(RevertError, match="cannot give the trained value"):
        to_torch(twin, like=layer)


class Shared(nn.Module):
    """One LSTM, one weight and one embedding under two names each."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(2, 3)
        self.second = self.first
        self.embed, self.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight
        self.conv = nn.Conv1d(3, 3, 3, bias=False)
        self.kernel = self.conv.weight


def test_what_is_one_tensor_in_torch_has_one_value(tmp_path):
    file = tmp_path / "net.safetensors"
    net = Shared()
    convert(net, file)
    arrays = load_converted(file)
    for name in ("second.bias", "kernel", "head.weight"):
        trained = {**arrays, name: arrays[name] + 1}
        with pytest.raises(RevertError, match=r"one tensor in torch|tied in torch"):
            revert(trained, like=file)
    trained = {name: array + 1 for name, array in arrays.items()}
    del trained["head.weight"]  # as a model that uses the embedding itself
    state = revert(trained, like=file)
    assert state["head.weight"] is state["embed.weight"]
    net.load_state_dict(state)
    assert_same_state(net.state_dict(), state)


def test_a_name_that_mlx_has_no_place_for_follows_the_one_it_shares_a_tensor_with(tmp_path):
    file = tmp_path / "net.safetensors"
    weight = torch.randn(2, 3)
    convert({"shadow": weight, "w": weight, "other": weight + 1}, file, rules={"shadow": "drop"})
    state = revert({n: a * 2 for n, a in load_converted(file).items()}, like=file)
    assert_same_state(state, {"shadow": weight * 2, "w": weight * 2, "other": 2 * (weight + 1)})


def test_only_what_changed_is_recomputed(tmp_path):
    file = tmp_path / "net.safetensors"
    net = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 4)),
        nn.LSTM(4, 5),
        nn.GRU(5, 2),
        nn.BatchNorm1d(2),
    )
    convert(net, file)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    arrays = load_converted(file)
    gate = {**arrays, "layers.2.bhn": arrays["layers.2.bhn"] + 1}
    state = revert(gate, like=file)
    assert_same_state(
        {k: v for k, v in state.items() if k != "2.bias_hh_l0"},
        {k: v for k, v in before.items() if k != "2.bias_hh_l0"},
    )
    assert torch.equal(state["2.bias_hh_l0"][:4], before["2.bias_hh_l0"][:4])
    assert torch.equal(state["2.bias_hh_l0"][4:], before["2.bias_hh_l0"][4:] + 1)
    bias = np.array(arrays["layers.1.bias"])
    bias[3] += 0.5
    state = revert({**arrays, "layers.1.bias": bias}, like=file)
    moved = [k for k, v in before.items() if not torch.equal(v, state[k])]
    assert moved == ["1.bias_ih_l0", "1.bias_hh_l0"]
    both = state["1.bias_ih_l0"] + state["1.bias_hh_l0"]
    close(both, bias)
    assert (state["1.bias_ih_l0"] != before["1.bias_ih_l0"]).sum() == 1


def test_biases_that_cancel_still_have_the_trained_sum(tmp_path):
    file = tmp_path / "net.safetensors"
    net = nn.RNN(2, 3)
    with torch.no_grad():
        net.bias_ih_l0.copy_(torch.tensor([3e7, -1e4, 1.0]))
        net.bias_hh_l0.copy_(torch.tensor([-3e7, 1e4, 1e-9]))
    convert(net, file)
    trained = np.array([1.0e-3, 1.2345678, 7.0], np.float32)
    state = revert({**load_converted(file), "bias": trained}, like=file)
    found = state["bias_ih_l0"].double() + state["bias_hh_l0"].double()
    np.testing.assert_allclose(found.numpy(), trained, rtol=2e-7)


def test_a_channel_whose_weight_norm_became_zero(tmp_path):
    file = tmp_path / "net.safetensors"
    net = parametrizations.weight_norm(nn.Linear(3, 2))
    convert(net, file)
    weight = mx.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    net.load_state_dict(revert({**load_converted(file), "weight": weight}, like=file))
    close(net.weight.detach(), np.array(weight))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_trained_weights_take_the_dtype_that_torch_had(dtype, tmp_path):
    file = tmp_path / "net.safetensors"
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.LSTM(3, 4)).to(dtype)
    wide = dtype is torch.float64
    convert(net, file, dtype=None if wide else "float32")
    trained = {name: array + 0.1 for name, array in load_converted(file).items()}
    with contextlib.nullcontext() if wide else pytest.warns(UserWarning, match="rounded"):
        state = revert(trained, like=file)
    net.load_state_dict(state, strict=True)
    assert {value.dtype for value in state.values()} == {dtype}
    kernel = np.array(trained["layers.0.weight"]).transpose(0, 2, 1)
    close(state["0.weight"].float(), kernel, 0 if wide else 2e-2)
    both = (net[1].bias_ih_l0 + net[1].bias_hh_l0).float().detach()
    close(both, np.array(trained["layers.1.bias"]), 1e-7 if wide else 2e-2)


def test_integers_come_back_exactly_or_not_at_all(tmp_path):
    file = tmp_path / "net.safetensors"
    state = {"steps": torch.arange(3), "on": torch.tensor([True, False])}
    convert(state, file)
    as_floats = {"steps": mx.array([0.0, 1.0, 2.0]), "on": mx.array([1.0, 0.0])}
    assert_same_state(revert(as_floats, like=file), state)
    with pytest.raises(RevertError, match=r"'steps' is float32, .* torch's int64"):
        revert({**as_floats, "steps": mx.array([0.5, 1.0, 2.0])}, like=file)


def test_eight_bit_floats_come_as_the_bits_that_mlx_loads(tmp_path):
    file = tmp_path / "net.safetensors"
    state = {"w": torch.randn(4, 3).to(torch.float8_e4m3fn)}
    convert(state, file)
    assert load_converted(file)["w"].dtype == mx.uint8
    assert_same_state(revert(load_converted(file), like=file), state)


def test_everything_that_does_not_fit_is_told_at_once(tmp_path):
    file = tmp_path / "net.safetensors"
    convert(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)), file)
    arrays = load_converted(file)
    del arrays["layers.2.bias"]
    arrays["layers.1.weight"] = mx.zeros((4, 1), mx.uint32)
    arrays |= {"layers.1.scales": mx.ones((4, 1)), "layers.0.lora_a": mx.ones((3, 1))}
    arrays["spare"] = mx.ones(1)
    with pytest.raises(RevertError) as caught:
        revert(arrays, like=file)
    message = str(caught.value)
    for part in (
        "'layers.2.bias' is missing: save all of the model's parameters()",
        "'layers.1.weight' is [4, 1], not [4, 4] as converted",
        "'layers.1.scales' is none of the tensors that were converted: dequantize",
        "'layers.0.lora_a' is none of the tensors that were converted: fuse the adapters",
        "'spare' is none of the tensors that were converted: remove it",
    ):
        assert part in message


def test_trained_weights_in_every_form(tmp_path):
    folder, trained = tmp_path / "converted", tmp_path / "trained"
    net = nn.Sequential(nn.Linear(30, 40), parametrizations.weight_norm(nn.Linear(40, 50)))
    convert(net, folder, shard_size="5KB")
    assert len(list(folder.glob("model-*"))) == 3
    arrays = {name: array * 2 for name, array in load_converted(folder).items()}
    state = revert(arrays, like=folder)
    assert torch.equal(state["0.weight"], net[0].weight * 2)
    trained.mkdir()
    names = list(arrays)
    for i, part in enumerate((names[:2], names[2:])):
        path = trained / f"model-0000{i + 1}-of-00002.safetensors"
        mx.save_safetensors(str(path), {n: arrays[n] for n in part}, {"format": "mlx"})
    nested = tree_unflatten(list(arrays.items()))
    numpy = {name: np.array(array) for name, array in arrays.items()}
    for form in (trained, nested, list(arrays.items()), numpy):
        assert_same_state(revert(form, like=folder), state)
    out = tmp_path / "back.safetensors"
    revert(trained, out, like=folder)
    from safetensors.torch import load_file

    assert all(torch.equal(load_file(out)[key], value) for key, value in state.items())


def test_sources_that_are_no_trained_weights(tmp_path):
    file = tmp_path / "net.safetensors"
    net = nn.Linear(2, 2)
    convert(net, file)
    for source, like, reason in (
        (load_converted(file), None, "pass like="),
        (net, file, "of a torch module already"),
        (5, file, "holds no trained weights"),
        ({}, file, "holds no trained weights"),
        ({"weight": "x"}, file, "'weight' is a str"),
        (load_converted(file), 7, "like= takes"),
    ):
        with pytest.raises(RevertError, match=reason):
            revert(source, like=like)


def test_what_a_file_of_version_1_cannot_tell_is_said(tmp_path):
    file = tmp_path / "net.safetensors"
    net = parametrizations.orthogonal(nn.Linear(4, 4))
    convert(net, file)
    as_version_1(file)
    with pytest.warns(UserWarning, match=r"1 tensor is of a file of version 1.*: weight"):
        assert_same_state(revert(file), net.state_dict())


def test_pruned_biases_of_a_recurrent_layer(tmp_path):
    file = tmp_path / "net.safetensors"
    net = nn.GRU(2, 3)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        prune.random_unstructured(net, name, 0.3)
    convert(net, file)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert_same_state(revert(file), before)
    arrays = load_converted(file)
    kept = net.bias_hh_l0_mask[6:].numpy()
    state = revert({**arrays, "bhn": arrays["bhn"] + mx.array(kept)}, like=file)
    found = state["bias_hh_l0_orig"] * state["bias_hh_l0_mask"]
    close(found[6:], np.array(arrays["bhn"]) + kept)
