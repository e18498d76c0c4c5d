"""Models become MLX source that computes the same, also from a folder without torch."""

import copy
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import mlx.utils
import torch

import torch2mlx
from tests.export.models import Decoder, small_models
from torch2mlx.errors import TranslationError, UnsupportedOperatorError


@pytest.fixture(scope="module")
def models():
    return {name: (model.eval(), args) for name, (model, args) in small_models().items()}


class Translations(dict):
    """Each made when it is first asked for."""

    def __init__(self, models):
        self.models = models

    def __missing__(self, name):
        self[name] = torch2mlx.translate(*self.models[name])
        return self[name]


@pytest.fixture(scope="module")
def translated(models):
    return Translations(models)


NAMES = ("mlp", "cnn", "tagger", "decoder", "writer", "holder", "unet", "attending")


@pytest.mark.parametrize("name", NAMES)
def test_values_agree(name, models, translated):
    model, args = models[name]
    found = torch2mlx.verify(model, translated[name], args)
    assert found.ok, str(found)
    assert found.difference <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_source_is_clean(name, translated, tmp_path):
    path = tmp_path / "model.py"
    path.write_text(translated[name].source)
    assert not re.search(r"\baten\b|\btorch\.", translated[name].source.split("\n", 1)[1])
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E,F",
        "--line-length",
        "100",
    ]
    subprocess.run([*command, str(path)], check=True, capture_output=True)


@pytest.mark.parametrize("name", ("mlp", "cnn", "decoder"))
def test_other_sizes_work(name, models, translated):
    model, (x,) = models[name]
    more = torch.cat([x, x[:1]])
    more = more[:, :5] if name == "decoder" else more
    assert torch2mlx.verify(model, translated[name], (more,)).ok


def test_converted_weights_load_strictly(models, translated, tmp_path):
    for name in NAMES:
        model, _ = models[name]
        if not model.state_dict():
            continue
        torch2mlx.convert(model, tmp_path / f"{name}.safetensors", on_unmapped="ignore")
        translated[name].module.load_weights(str(tmp_path / f"{name}.safetensors"), strict=True)


def test_a_saved_folder_runs_where_torch_is_missing(models, translated, tmp_path):
    model, args = models["holder"]
    folder = translated["holder"].save(tmp_path / "out")
    np.save(tmp_path / "x.npy", args[0].numpy())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, mlx.core as mx, torch2mlx\n"
        f"model = torch2mlx.load({str(folder)!r})\n"
        f"y = model(x=mx.array(np.load({str(tmp_path / 'x.npy')!r})))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, np.array(y))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    expected = model(*args).detach().numpy()
    assert np.abs(np.load(tmp_path / "y.npy") - expected).max() <= 1e-6


def test_loops_and_fast_attention_show(translated):
    source = translated["decoder"].source
    assert "for block in self.blocks:" in source
    assert 'mask="causal"' in source
    assert source.count("class Block") == 1


def test_a_convolution_chain_has_no_transposes_inside(translated):
    assert translated["cnn"].source.count("transpose") <= 2
    assert translated["unet"].source.count("transpose") <= 2


def test_a_leaky_relu_lets_the_channels_stay_last():
    class Leaky(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3)

        def forward(self, x):
            return self.two(torch.nn.functional.leaky_relu(self.one(x), 0.2))

    made = torch2mlx.translate(Leaky().eval(), (torch.randn(2, 3, 9, 9),))
    assert made.source.count("transpose(0, 2, 3, 1)") == 1
    assert made.source.count("transpose(0, 3, 1, 2)") == 1


def test_buffers_are_never_trained(translated):
    module = translated["holder"].module
    module.unfreeze()
    names = {name for name, _ in mlx.utils.tree_flatten(module.trainable_parameters())}
    assert names == {"scale"}
    assert {name for name, _ in mlx.utils.tree_flatten(module.parameters())} == {"scale", "mean"}


def test_gradients_agree(models, translated):
    model, (ids,) = models["decoder"]
    model.zero_grad()
    model(ids).square().mean().backward()
    module = translated["decoder"].module
    loss = mlx.nn.value_and_grad(module, lambda m: mx.mean(mx.square(m(mx.array(ids.numpy())))))
    _, gradients = loss(module)
    flat = dict(mlx.utils.tree_flatten(gradients))
    for name, parameter in model.named_parameters():
        expected = parameter.grad.numpy()
        assert np.abs(np.array(flat[name]) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_no_gradient_through_no_grad(models, translated):
    model, (x,) = models["holder"]
    x = x.clone().requires_grad_()
    model(x).sum().backward()
    module = translated["holder"].module
    found = mx.grad(lambda t: mx.sum(module(t)))(mx.array(x.detach().numpy()))
    assert np.abs(np.array(found) - x.grad.numpy()).max() <= 1e-6


def test_everything_unsupported_is_told_at_once():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.igamma(x.abs(), x.abs()) + torch.special.airy_ai(x)

    with pytest.raises(UnsupportedOperatorError) as caught:
        torch2mlx.translate(Odd(), (torch.randn(3, 3),))
    assert len(caught.value.findings) == 2
    assert "special_airy_ai" in str(caught.value) and "test_translate.py" in str(caught.value)


@pytest.mark.parametrize("region", ("branch", "without gradients", "autocast"))
def test_what_is_unsupported_within_a_region_is_told_once(region):
    class Odd(torch.nn.Module):
        def forward(self, x):
            if region == "branch":
                return torch.cond(x.sum() > 0, torch.special.airy_ai, lambda x: x * 2, (x,))
            recorded = torch.no_grad() if region == "without gradients" else torch.autocast("cpu")
            with recorded:
                y = torch.special.airy_ai(x)
            return x + y

    with pytest.raises(UnsupportedOperatorError) as caught:
        torch2mlx.translate(Odd(), (torch.randn(3),))
    (finding,) = caught.value.findings
    assert "special_airy_ai" in finding


def test_users_add_operators():
    @torch.library.custom_op("mylib::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(lambda x: torch.empty_like(x))

    class Uses(torch.nn.Module):
        def forward(self, x):
            return torch.ops.mylib.twice(x) + 1

    @torch2mlx.lowers("mylib::twice")
    def lower_twice(b, x):
        return b.call("operator.mul", x, 2)

    model, x = Uses(), torch.randn(3)
    assert torch2mlx.verify(model, torch2mlx.translate(model, (x,)), (x,)).difference == 0
    torch2mlx.lowers("mylib::twice")(lambda b, x: b.call("operator.mul", x, 3))  # a cell run again
    again = torch2mlx.translate(model, (x,), check=False)  # which would say that this is wrong
    assert again.module(mx.ones(3)).tolist() == [4.0, 4.0, 4.0]


def test_a_folder_called_mlx_is_refused(translated, tmp_path):
    with pytest.raises(TranslationError, match="hide"):
        translated["mlp"].save(tmp_path / "mlx")


def test_verify_names_the_module_with_a_fault(models, translated):
    model, args = models["decoder"]
    module = copy.deepcopy(translated["decoder"].module)
    module.blocks[1].norm1.eps = 0.1
    found = torch2mlx.verify(model, module, args)
    assert not found.ok and found.first == "blocks.1.norm1"
    again = torch2mlx.translate(Decoder().eval(), args).module
    assert not torch2mlx.verify(model, again, args).ok


class Boxed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one = torch.nn.Linear(3, 3)

    def forward(self, batch, more, scale=2.0):
        y = self.one(batch["x"]) * scale + batch["parts"][1]
        return {"y": y, "z": (more[0] + batch["parts"][0], batch["x"])}


def test_arguments_in_containers():
    """Dicts, lists and tuples come in as they came into the torch model."""
    torch.manual_seed(0)
    draw = lambda: torch.randn(2, 3)
    args = ({"x": draw(), "parts": [draw(), draw()]}, (draw(),))
    model = Boxed().eval()
    translation = torch2mlx.translate(model, args)
    for given in (args, ({"x": draw(), "parts": [draw(), draw()]}, (draw(),))):
        result = torch2mlx.verify(model, translation, given)
        assert result.ok, str(result)
        assert len([o for o in result.outputs if not o.case]) == 3


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_bottleneck_of_no_width_translates():
    net = torch.nn.Sequential(torch.nn.Linear(4, 0), torch.nn.ReLU(), torch.nn.Linear(0, 3))
    made = torch2mlx.translate(net.eval(), (torch.randn(2, 4),))
    assert torch2mlx.verify(net, made, (torch.randn(5, 4),)).ok
