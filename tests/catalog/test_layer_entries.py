"""One entry a layer: what stands for it has one answer, and a new one needs no more than that."""

import pytest

from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import mlx.nn
import numpy as np
import torch
from torch import nn

import torch2mlx
from tests.catalog.test_grid import FAMILIES
from torch2mlx import analyze, convert, kit, load_converted, port, registry, translate
from torch2mlx.catalog.layers.entry import BUILTIN, REASONS, Twin, layer, taken, without
from torch2mlx.catalog.layers.lookup import find_twin, lookup, twin_names
from torch2mlx.errors import ConversionError
from torch2mlx.export.lower.build_layer import resolve
from torch2mlx.porting.types.layers import known

EVERY = sorted(
    name
    for name in dir(nn)
    if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
)


@pytest.mark.parametrize("name", EVERY)
def test_every_layer_of_torch_is_made_and_ported_or_has_a_reason(name):
    full = f"torch.nn.{name}"
    made = full in BUILTIN and BUILTIN[full].make is not None
    if full in REASONS:
        (left,) = port(f"from torch import nn\n\nlayer = nn.{name}(2)\n").unsupported
        assert (left.where, left.detail) == (full, REASONS[full])
    apart = name in ("Module", "DataParallel")  # the base of all, and what counts as its inside
    assert apart or (made and known(name) is not None) != (full in REASONS)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_stands_for_a_live_layer_is_what_its_entry_says():
    for cases in FAMILIES.values():
        for case in cases:
            module = case.make()
            spec, found = lookup(type(module)), find_twin(module)
            assert isinstance(found, Twin) and found.path in (spec.mlx, spec.general), case.name
            last = found.layout == "channels_last"
            assert not last or spec.images or case.name.startswith("PReLU"), case.name


@pytest.mark.parametrize("name", twin_names())
def test_a_ported_layer_is_of_the_family_that_stands_for_a_live_one(name):
    spec = lookup(name)
    answers = {spec.mlx, spec.general}
    if spec.source.startswith("nn."):
        assert f"mlx.{spec.source}" == spec.mlx
    elif spec.source.startswith("kit."):  # with torch's arguments, which mlx.nn's class has not
        assert resolve(f"torch2mlx.{spec.source}") is not None
        alike = name in ("ModuleDict", "ParameterDict")
        assert alike or any("kit." in a for a in answers) or spec.images, answers


def test_no_layer_is_known_twice():
    assert not BUILTIN.keys() & REASONS.keys()
    with pytest.raises(ValueError, match=r"^torch\.nn\.ReLU has an entry already$"):
        layer("ReLU", mlx="mlx.nn.ReLU")
    with pytest.raises(ValueError, match=r"^torch\.nn\.Conv1d has an entry already$"):
        without("Conv1d", "no reason")
    with pytest.raises(ValueError, match=r"^torch\.nn\.Container has an entry already$"):
        without("Container", "no reason")


def test_a_lazy_layer_is_known_by_what_it_becomes():
    made = nn.LazyConv1d(3, 2)
    assert lookup(type(made)).torch == "torch.nn.Conv1d"
    made(torch.ones(1, 2, 5))
    assert find_twin(made).path == "mlx.nn.Conv1d"


class Affine(nn.Module):
    """A scratch layer of torch: x * scale + shift, its scales (out, in)."""

    def __init__(self, width, gain=1.0):
        super().__init__()
        self.width, self.gain = width, gain
        self.scales = nn.Parameter(torch.randn(width, 2))

    def forward(self, x):
        return x * self.scales[:, 0] * self.gain + self.scales[:, 1]


class InMLX(mlx.nn.Module):
    """The same in MLX, its scales (in, out)."""

    def __init__(self, width, gain=1.0):
        super().__init__()
        self._gain = gain
        self.scales = mx.zeros((2, width))

    def __call__(self, x):
        return x * self.scales[0] * self._gain + self.scales[1]


@pytest.fixture
def scratch(monkeypatch):
    """torch.nn.Affine, taught by one entry."""
    monkeypatch.setattr(Affine, "__module__", "torch.nn.modules.scratch")
    monkeypatch.setattr(nn, "Affine", Affine, raising=False)
    monkeypatch.setattr(kit, "Affine", InMLX, raising=False)
    layer(
        "Affine",
        lambda module: Twin("torch2mlx.kit.Affine", taken(module, ("width", "gain"))),
        mlx="torch2mlx.kit.{name}",
        native="torch2mlx.kit.{name}",
        weights={"scales": "o i -> i o"},
        tensors={"scales": "width 2"},
        source="kit",
    )
    yield Affine
    del BUILTIN["torch.nn.Affine"]


@pytest.mark.parametrize("width", [3, 5])
def test_one_entry_serves_build_convert_translate_and_analyze(scratch, width, tmp_path):
    model = nn.Sequential(nn.Affine(width, gain=2.0), nn.ReLU())
    x = torch.randn(4, width)
    expected = model(x).detach().numpy()
    given = mx.array(x.numpy())

    np.testing.assert_allclose(registry.build(model)(given), expected, atol=1e-6)

    convert(model, tmp_path / "m.safetensors")
    loaded = InMLX(width, 2.0)
    loaded.load_weights([("scales", load_converted(tmp_path / "m.safetensors")["layers.0.scales"])])
    np.testing.assert_allclose(np.maximum(loaded(given), 0), expected, atol=1e-6)

    made = translate(model, (x,))
    assert f"Affine({width}, gain=2.0)" in made.source.replace("width=", "")
    np.testing.assert_allclose(made.module(given), expected, atol=1e-6)

    assert {n.status for n in analyze(model).nodes if n.cls.endswith("Affine")} == {"mapped"}


@pytest.mark.parametrize("width", [3, 5])
def test_one_entry_serves_rules(scratch, width, tmp_path):
    state, out = {"a.scales": np.ones((width, 2), np.float32)}, tmp_path / "m.safetensors"
    convert(state, out, rules={"a": "Affine"})
    assert load_converted(out)["a.scales"].shape == (2, width)
    state["a.scales"] = np.ones((width, 3), np.float32)
    with pytest.raises(ConversionError, match=r"scales is \[\d, 3\], Affine has \(width, 2\)"):
        convert(state, tmp_path / "other.safetensors", rules={"a": "Affine"})


def test_one_entry_serves_port(scratch):
    made = port("from torch import nn\n\nlayer = nn.Affine(3, gain=2.0)\nkind = nn.Affine\n")
    assert made.ok, made.unsupported
    assert "layer = kit.Affine(3, gain=2.0)\nkind = kit.Affine\n" in made.source
    x, layers = np.ones((2, 3), np.float32), {}
    exec(made.source, layers)
    layers["layer"].scales = mx.array(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_allclose(layers["layer"](mx.array(x)), [[3, 6, 9]] * 2)


def test_what_a_user_registers_goes_before_what_is_built_in():
    def make(module):
        return Twin("mlx.nn.Sigmoid")

    registry.register("torch.nn.Tanh", mlx="mlx.nn.Sigmoid", make=make)
    try:
        assert find_twin(nn.Tanh()).path == "mlx.nn.Sigmoid"
        assert torch2mlx.registry.lookup("Tanh").mlx == "mlx.nn.Sigmoid"
    finally:
        registry.unregister("torch.nn.Tanh")
    assert find_twin(nn.Tanh()).path == "mlx.nn.Tanh"


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5)])
def test_a_batch_norm_over_processes_is_one_over_the_only_device(shape):
    text = "from torch import nn\n\nlayer = nn.SyncBatchNorm(3, eps=1e-3, process_group=None)\n"
    made, layers = port(text), {}
    assert made.ok, made.unsupported
    exec(made.source, layers)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rest = x.reshape(shape[0], 3, -1, 1)
    expected = nn.BatchNorm2d(3, eps=1e-3).train()(torch.from_numpy(rest)).reshape(shape)
    found = layers["layer"].train()(mx.array(x))
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)


def test_a_pool_of_drawn_windows_has_torchs_shape_and_maxima():
    text = "from torch import nn\n\nlayer = nn.FractionalMaxPool2d(2, output_size=3)\n"
    made, layers = port(text), {}
    assert made.ok, made.unsupported
    exec(made.source, layers)
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32)
    found = np.array(layers["layer"](mx.array(x)))
    assert found.shape == (2, 3, 3, 3) and np.isin(found, x).all()
