"""Sources in all their forms: memory layouts, dtypes, devices, wrappers, ties, extra state."""

import numpy as np
import pytest

from tests.support import assert_same_state, need, same_bits

need("torch", "mlx.core")

import mlx.core as mx
import torch
from torch import nn

from torch2mlx import convert, load_converted, registry, revert
from torch2mlx.errors import ConversionError, UnsupportedTensorError


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


def round_trip(source, out, **options):
    report = convert(source, out, **options)
    return report, load_converted(out), revert(out)


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OTHERS = (
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint16, torch.uint32, torch.uint64, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)
LAYOUTS = {
    "dense": lambda t: t,
    "transposed": lambda t: t.transpose(0, 3),
    "stepped": lambda t: t[::2, :, 1:],
    "expanded": lambda t: t[:1].expand(4, 5, 6, 7),
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "zero size": lambda t: t[:0],
    "0-d": lambda t: t[0, 0, 0, 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS + OTHERS, ids=str)
def test_torch_tensors_arrive_exactly(dtype, layout, out):
    tensor = LAYOUTS[layout]((torch.randn(4, 5, 6, 7) * 9).to(dtype))
    _, found, state = round_trip({"x": tensor}, out, rules={"x": "identity"})
    assert same_bits(state["x"], tensor)
    assert found["x"].shape == tuple(tensor.shape)
    if dtype is torch.float64:
        assert mx.load(str(out))["x"].dtype == found["x"].dtype == mx.float32
        np.testing.assert_array_equal(np.array(found["x"]), tensor.float().numpy())
    elif dtype not in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        np.testing.assert_array_equal(np.array(found["x"]), tensor.numpy(), strict=True)
    elif dtype is torch.bfloat16:
        np.testing.assert_array_equal(
            np.array(found["x"].astype(mx.float32)), tensor.float().numpy()
        )


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.random.randn(3, 4, 5).astype(np.float32)),
        np.random.randn(6, 4).astype(np.float32)[::-1, ::-2],
        np.random.randn(3, 4).astype(">f4"),
        np.arange(6, dtype=">i8").reshape(2, 3),
        np.float32(2.5),
        np.zeros((0, 3), np.int8),
        np.array([True, False]),
        (np.random.randn(3) + 1j).astype(np.complex64),
    ],
    ids=lambda a: f"{a.dtype.str} {a.strides}",
)
def test_numpy_arrays_arrive_exactly(array, out):
    convert({"x": array}, out, rules={"x": "identity"})
    found = load_converted(out, framework="numpy")["x"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda: torch.ones(2, device="meta"), "meta device"),
        (lambda: torch.ones(2, dtype=torch.complex128), "complex128"),
        (lambda: torch.eye(2).to_sparse(), "to_dense"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested.*unbind"),
        (lambda: torch.nn.parameter.UninitializedParameter(), "forward pass"),
        (lambda: np.array(["a"]), "dtype"),
        (lambda: np.array([None]), "dtype"),
        (lambda: np.ones(2, np.complex128), "complex128"),
        (lambda: np.ones(2, np.longdouble), "dtype"),
    ],
)
def test_what_has_no_mlx_form_is_refused_by_name(value, reason, out):
    with pytest.raises(UnsupportedTensorError, match=rf"'layer\.odd'.*{reason}"):
        convert({"fine": torch.ones(2), "layer.odd": value()}, out)
    assert not out.exists()


def test_tensors_inside_of_entries_get_keys_of_their_own(out):
    state = {"fine": torch.ones(2), "pair": (torch.ones(2, 2), torch.zeros(2))}
    report, _, found = round_trip(state, out, rules={})
    assert list(found) == ["fine", "pair.0", "pair.1"]
    assert torch.equal(found["pair.0"], torch.ones(2, 2))
    assert any("'pair' is a tuple of tensors" in note for note in report.notes)


@pytest.mark.filterwarnings("ignore")  # torch deprecates its quantization
def test_quantized_layers_are_refused(out):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    with pytest.raises(UnsupportedTensorError, match="packed_params"):
        convert(quantized, out)


def test_conjugates_and_negatives_are_resolved(out):
    z = torch.randn(3, dtype=torch.complex64)
    state = {"conj": z.conj(), "neg": z.conj().imag}
    _, _, found = round_trip(state, out)
    assert torch.equal(found["conj"], z.conj().resolve_conj())
    assert torch.equal(found["neg"], z.conj().imag.resolve_neg())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.lists = nn.ParameterList([torch.randn(2), torch.randn(3)])
        self.dicts = nn.ParameterDict({"a": torch.randn(2)})
        self.register_buffer("table", torch.arange(4))
        self.register_buffer("cache", torch.ones(2), persistent=False)


EXPECTED = {
    *("conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean"),
    *("norm.running_var", "scale", "lists.0", "lists.1", "dicts.a", "table"),
}


def test_parameters_and_buffers_of_every_kind(out):
    net = Net()
    report, found, state = round_trip(net, out)
    assert set(found) == EXPECTED
    assert_same_state(state, net.state_dict())
    assert list(report.dropped) == ["norm.num_batches_tracked"]
    assert any("cache" in note for note in report.notes)
    np.testing.assert_array_equal(
        np.array(found["conv.weight"]), net.conv.weight.detach().permute(0, 2, 3, 1).numpy()
    )


def wrappers():
    from torch.optim.swa_utils import AveragedModel

    yield "DataParallel", nn.DataParallel
    yield "compiled", torch.compile
    yield "AveragedModel", AveragedModel
    yield "both", lambda net: torch.compile(nn.DataParallel(net))


@pytest.mark.parametrize(("name", "wrap"), list(wrappers()))
def test_wrappers_leave_no_prefix(name, wrap, out):
    net = wrap(Net())
    _, found, state = round_trip(net, out)
    assert set(found) == EXPECTED
    assert_same_state(state, net.state_dict())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixed_state_dicts_fit_the_plain_module(prefix, out):
    net = Net()
    state = {prefix + key: value for key, value in net.state_dict().items()}
    _, found, back = round_trip(state, out, module=net)
    assert set(found) == EXPECTED
    assert_same_state(back, state)


def test_wrappers_inside_a_model(out):
    net = nn.Sequential(nn.DataParallel(nn.Conv1d(2, 3, 2)), torch.compile(nn.Linear(3, 2)))
    _, found, state = round_trip(net, out)
    assert set(found) == {*("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")}
    assert found["layers.0.weight"].shape == (3, 2, 2)
    assert_same_state(state, net.state_dict())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight


def test_tied_tensors_are_stored_once_and_load_under_both_names(out):
    net = Tied()
    report, found, state = round_trip(net, out)
    assert report.ties == {"head.weight": "embed.weight"}
    assert set(mx.load(str(out))) == {"embed.weight"}
    np.testing.assert_array_equal(np.array(found["head.weight"]), np.array(found["embed.weight"]))
    assert_same_state(state, net.state_dict())


def test_a_checkpoint_without_the_tied_name(out):
    net = Tied()
    report = convert({"embed.weight": net.embed.weight}, out, module=net)
    assert report.ties == {"head.weight": "embed.weight"}
    assert set(load_converted(out)) == {"embed.weight", "head.weight"}


def test_tensors_tied_under_different_rules_are_both_written(out):
    net = nn.Module()
    net.a, net.b = nn.Conv1d(3, 3, 3, bias=False), nn.Conv1d(3, 3, 3, bias=False)
    net.c = nn.Module()
    net.b.weight = net.a.weight
    net.c.raw = net.a.weight
    report, found, state = round_trip(net, out)
    assert report.ties == {"b.weight": "a.weight"}
    assert np.array_equal(np.array(found["c.raw"]), net.a.weight.detach().numpy())
    assert_same_state(state, net.state_dict())


class Stateful(nn.Linear):
    def __init__(self, value):
        super().__init__(2, 2)
        self.value = value

    def get_extra_state(self):
        return self.value

    def set_extra_state(self, state):
        self.value = state


@pytest.mark.parametrize("value", [{"step": 3, "names": ["a", None]}, torch.tensor([1.5]), 7])
def test_extra_state_survives(value, out):
    net = nn.Sequential(Stateful(value))
    _, _, state = round_trip(net, out)
    expected = net.state_dict()
    assert set(state) == set(expected)
    extra = state["0._extra_state"]
    assert torch.equal(extra, value) if torch.is_tensor(value) else extra == value


def test_extra_state_that_no_file_can_hold_is_reported(out):
    report = convert(nn.Sequential(Stateful({1, 2})), out)
    assert any("_extra_state" in note for note in report.notes)


class Transposed(nn.Conv2d):
    """A subclass keeps the rule of its base."""


class Lora(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
        self.lora_a = nn.Parameter(torch.randn(2, 4))


def test_subclasses_have_the_rule_of_their_base(out):
    net = nn.ModuleDict({"conv": Transposed(2, 3, (4, 5)), "lora": Lora()})
    _, found, state = round_trip(net, out)
    assert found["conv.weight"].shape == (3, 4, 5, 2)
    assert found["lora.lora_a"].shape == (2, 4)
    assert_same_state(state, net.state_dict())


def test_transformers_conv1d(out):
    (transformers,) = need("transformers.pytorch_utils")
    layer = transformers.Conv1D(5, 3)
    _, found, state = round_trip(layer, out)
    np.testing.assert_array_equal(np.array(found["weight"]), layer.weight.detach().T.numpy())
    assert_same_state(state, layer.state_dict())


class Kernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(2, 3, 4))
        self.packed = nn.Parameter(torch.randn(6, 2))
        self.steps = nn.Parameter(torch.zeros(1))


def test_a_registered_layer(out):
    rule = {
        "kernel": "o i k -> o k i",
        "packed": ("q.weight", "k.weight", "v.weight"),
        "steps": registry.Drop("only torch counts"),
    }
    registry.register(Kernel, mlx="mypackage.Kernel", weights=rule)
    try:
        net = nn.Sequential(Kernel())
        report, found, state = round_trip(net, out)
    finally:
        registry.unregister(Kernel)
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {
        "layers.0.kernel": (2, 4, 3),
        "layers.0.q.weight": (2, 2),
        "layers.0.k.weight": (2, 2),
        "layers.0.v.weight": (2, 2),
    }
    assert report.coverage.fraction == 1
    assert_same_state(state, net.state_dict())
    with pytest.raises(TypeError):
        registry.register(Kernel, weights={"kernel": 3})


@pytest.mark.parametrize(
    "dtype", ["float16", torch.float16, mx.float16, np.float16, np.dtype("float16")], ids=repr
)
def test_dtypes_of_every_library(dtype, out):
    convert({"w": torch.randn(3, 4)}, out, dtype=dtype)
    assert load_converted(out)["w"].dtype == mx.float16


def test_dtype_casts_floats_only_and_revert_says_so(out):
    state = {"w": torch.randn(3, 4), "i": torch.arange(3), "h": torch.randn(2).half()}
    convert(state, out, dtype="bfloat16")
    found = load_converted(out)
    assert (found["w"].dtype, found["i"].dtype) == (mx.bfloat16, mx.int64)
    assert found["h"].dtype == mx.bfloat16
    with pytest.warns(UserWarning, match="rounded"):
        back = revert(out)
    assert back["w"].dtype == torch.float32
    assert torch.equal(back["w"], state["w"].bfloat16().float())
    with pytest.raises(ConversionError, match="dtype"):
        convert(state, out, dtype="int8")


def test_float64_is_float32_in_the_file_and_exact_in_the_sidecar(out, tmp_path):
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.LSTM(3, 4), nn.BatchNorm1d(4)).double()
    net.add_module("attention", nn.MultiheadAttention(4, 2).double())
    report, found, state = round_trip(net, out)
    assert any("float64 is float32 in the file (" in note for note in report.notes)
    assert {array.dtype for array in mx.load(str(out)).values()} == {mx.float32}
    assert_same_state(state, net.state_dict())
    assert_same_state(revert(found, like=net), net.state_dict())
    _, found, state = round_trip(net, tmp_path / "folder", shard_size="1KB")
    assert_same_state(state, net.state_dict())

    report, found, state = round_trip(net, out, dtype="float64")
    assert any("mx.load does not read float64" in note for note in report.notes)
    assert {array.dtype for array in found.values()} == {mx.float64}
    assert_same_state(state, net.state_dict())


def test_float64_that_was_trained_is_what_was_trained(out):
    state = {"a": torch.randn(3, 4).double() / 3, "b": torch.randn(5).double() / 3}
    convert(state, out)
    arrays = load_converted(out)
    found = revert({**arrays, "a": arrays["a"] * 2}, like=out)
    assert torch.equal(found["a"], torch.from_numpy(np.array(arrays["a"] * 2)).double())
    assert same_bits(found["b"], state["b"])


@pytest.mark.parametrize("value", [1e39, -1e300, 3.4028236e38])
def test_values_that_float32_cannot_hold_are_refused(value, out):
    state = {"fine": torch.ones(2), "wide": torch.tensor([1.0, value], dtype=torch.float64)}
    with pytest.raises(ConversionError, match=r"'wide' holds .* dtype='float64'"):
        convert(state, out)
    assert not out.exists()
    _, _, back = round_trip(state, out, dtype="float64")
    assert_same_state(back, state)


def test_computed_values_that_float32_cannot_hold_are_refused(out):
    model = torch.nn.LSTM(2, 3).double()
    with torch.no_grad():
        model.bias_ih_l0[0] = 1e300
    with pytest.raises(ConversionError, match=r"'bias' holds 1e\+300.* dtype='float64'"):
        convert(model, out)
    assert not out.exists()


def test_infinities_and_the_largest_float32_are_float32_too(out):
    odd = [float("inf"), -float("inf"), float("nan"), 3.4028235e38, 1e-310]
    state = {"wide": torch.tensor(odd, dtype=torch.float64)}
    _, found, back = round_trip(state, out)
    np.testing.assert_array_equal(np.array(found["wide"]), np.array(odd, np.float32))
    assert_same_state(back, state)


def test_nested_trees_update_a_module(out):
    import mlx.nn

    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    convert(net, out)
    twin = mlx.nn.Sequential(mlx.nn.Linear(2, 3), mlx.nn.ReLU(), mlx.nn.Linear(3, 1))
    twin.update(load_converted(out, nested=True))
    x = np.random.randn(5, 2).astype(np.float32)
    expected = net(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(np.array(twin(mx.array(x))), expected, atol=1e-6)
    assert set(load_converted(out, nested=True, lists=False)["layers"]) == {"0", "2"}


def test_a_training_module_is_left_untouched(out):
    net = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    convert(net, out)
    assert net.training
    assert_same_state(net.state_dict(), before)
