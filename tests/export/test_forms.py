"""What a translation may look like on request: channels last at both ends, MLX alone; and in half
formats."""

import builtins
import dis
import subprocess
import sys

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.printing.standalone import _module, standalone


class Images(nn.Module):
    """An image in a dict and a sound; results of which some have channels and some have not."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.up, self.pool = nn.ConvTranspose1d(5, 6, 2), nn.AdaptiveAvgPool2d(1)

    def forward(self, batch, sound):
        image = batch["image"]
        x = torch.nn.functional.hardswish(self.norm(self.conv(image)))
        b, c, h, w = image.shape
        return {
            "map": x + image.mean(1, keepdim=True),
            "rest": [self.up(sound), x.flatten(1), sound.mean(-1), self.pool(x)],
            "rows": image.reshape(b, c * h, w),
        }


@pytest.fixture
def images():
    torch.manual_seed(0)
    model = Images()
    model.norm.running_mean.uniform_(-1, 1)
    model.norm.running_var.uniform_(0.5, 2)
    return model.eval(), ({"image": torch.randn(2, 3, 8, 6)}, torch.randn(2, 5, 7))


def test_channels_are_last_at_both_ends(images, tmp_path):
    model, args = images
    made = torch2mlx.translate(model, args, io_layout="mlx")
    assert made.ends.inputs == (("batch", "image"), ("sound",))
    assert "Channels are last in: batch.image, sound, result 0, result 1, result 4." in made.source
    image, sound = args[0]["image"].permute(0, 2, 3, 1), args[1].permute(0, 2, 1)
    found = made.module({"image": to_mlx(image.contiguous())}, to_mlx(sound.contiguous()))
    with torch.no_grad():
        expected = model(*args)
    np.testing.assert_allclose(found["map"], expected["map"].permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(found["rest"][0], expected["rest"][0].mT, atol=1e-5)
    np.testing.assert_allclose(found["rest"][1], expected["rest"][1], atol=1e-5)
    np.testing.assert_allclose(found["rows"], expected["rows"], atol=1e-5)
    folder = made.save(tmp_path)
    other = ({"image": torch.randn(3, 3, 8, 6)}, torch.randn(3, 5, 7))
    for twin in (made, folder):
        for given in (args, other):
            checked = torch2mlx.verify(model, twin, given)
            assert checked.ok and checked.difference < 1e-5, str(checked)


def test_convolutions_have_no_transpose_left():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)).eval()
    x = torch.randn(2, 3, 9, 9)
    assert torch2mlx.translate(net, (x,)).source.count("transpose") == 2
    made = torch2mlx.translate(net, (x,), io_layout="mlx")
    assert "transpose" not in made.source
    assert torch2mlx.verify(net, made, kwargs={"input": x}).difference < 1e-5


def test_where_nothing_is_turned_the_ends_stay():
    net, x = nn.Linear(3, 4), torch.randn(2, 5, 3)
    made = torch2mlx.translate(net, (x,), io_layout="mlx")
    assert made.ends == torch2mlx.translate(net, (x,)).ends
    assert made.source == torch2mlx.translate(net, (x,)).source
    with pytest.raises(ValueError, match="io_layout"):
        torch2mlx.translate(net, (x,), io_layout="nhwc")


def test_pooled_images_have_any_batch(images):
    """The reshape that stands for an idle transpose takes its length from the array."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)).eval()
    made = torch2mlx.translate(net, (torch.randn(2, 3, 5, 5),))
    assert torch2mlx.verify(net, made, (torch.randn(7, 3, 5, 5),)).difference < 1e-5


def test_standalone_files_need_mlx_alone(images, tmp_path):
    model, args = images
    made = torch2mlx.translate(model, args, standalone=True)
    assert "kit." not in made.source and "torch2mlx" not in made.source
    assert torch2mlx.verify(model, made, args).difference < 1e-5
    made.save(tmp_path)
    code = (
        "import sys; sys.modules['torch2mlx'] = sys.modules['torch'] = None\n"
        "import mlx.core as mx, model\n"
        f"net = model.load({str(tmp_path)!r})\n"
        "found = net({'image': mx.ones((2, 3, 8, 6))}, mx.ones((2, 5, 7)))\n"
        "print(mx.sum(found['map']).item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model({"image": torch.ones(2, 3, 8, 6)}, torch.ones(2, 5, 7))
    assert float(done.stdout) == pytest.approx(expected["map"].sum().item(), rel=1e-5)


class Memory(nn.Module):
    """Uses much of the kit: recurrence with lengths, sorting, bilinear resampling, a loss."""

    def __init__(self):
        super().__init__()
        self.memory = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True)

    def forward(self, x):
        states, (h, c) = self.memory(x)
        mixed, weights = self.attention(states, states, states)
        top = torch.topk(mixed, 2, dim=1)
        wide = nn.functional.interpolate(mixed[:, None], scale_factor=2, mode="bilinear")
        loss = nn.functional.cross_entropy(h[0], x[:, 0, 0].abs().long() % 3, label_smoothing=0.1)
        return weights, top.values, top.indices, wide, c.cumsum(0), torch.selu(h), loss


def test_standalone_files_compute_the_same():
    torch.manual_seed(0)
    model, x = Memory().eval(), torch.randn(2, 5, 4)
    made = torch2mlx.translate(model, (x,), standalone=True)
    assert "kit." not in made.source
    checked = torch2mlx.verify(model, made, (x,))
    assert len([o for o in checked.outputs if not o.case]) == 7 and checked.difference < 1e-5, str(
        checked
    )
    shared = torch2mlx.translate(model, (x,)).module(to_mlx(x))
    for own, other in zip(made.module(to_mlx(x)), shared, strict=True):
        assert mx.array_equal(own, other).item()


def kit_names():
    """All definitions of the modules that the operators of translated models come from."""
    modules = ("activations", "algebra", "attention", "conv", "ctc", "distance", "division")
    modules += (
        "dropout",
        "functional",
        "indexing",
        "kinks",
        "losses",
        "moments",
        "norm",
        "padding",
        "pooling",
        "recurrent",
    )
    modules += ("resample", "shuffle", "signal", "sorting", "ties", "transformer", "windows")
    return [(m, name) for m in modules for name in _module(m).defined]


@pytest.mark.parametrize("module", sorted({m for m, _ in kit_names()}))
def test_any_name_of_the_kit_can_stand_alone(module):
    """The file runs, and every name that its functions read is defined."""
    for name in (n for m, n in kit_names() if m == module):
        source = f'"""One."""\n\nfrom torch2mlx import kit\n\n\nused = kit.{module}.{name}\n'
        code, space = compile(standalone(source), name, "exec"), {}
        exec(code, space)
        assert not set(_globals_of(code)) - set(space) - set(dir(builtins)), name


def _globals_of(code):
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for inner in code.co_consts:
        if hasattr(inner, "co_code"):
            yield from _globals_of(inner)


def test_names_that_code_makes_are_refused():
    source = '"""One."""\n\nfrom torch2mlx import kit\n\nlayer = kit.channels_first.MaxPool2d\n'
    with pytest.raises(TranslationError, match=r"kit\.channels_first\.MaxPool2d"):
        standalone(source)


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, ids):
        x = self.words(ids)
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_formats_need_no_casts(dtype):
    """Stock layers answer in the dtype of their weights: nothing has to be brought back to it."""
    torch.manual_seed(0)
    model, ids = Half().eval().to(dtype), torch.randint(0, 11, (2, 5))
    made = torch2mlx.translate(model, (ids,))
    assert "astype" not in made.source
    assert str(made.module(to_mlx(ids)).dtype).endswith(str(dtype).removeprefix("torch."))
    assert torch2mlx.verify(model, made, (ids,)).ok


class Steered(nn.Module):
    """Weight-normed layers in a list, beside shapes that depend on values; a mask that is empty."""

    def __init__(self):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.layers = nn.ModuleList([norm(nn.Conv1d(3, 3, 3, padding=1)) for _ in range(2)])

    def forward(self, x, lengths):
        frames = torch.arange(int(lengths.max().item()))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        outside = (x > 2) | (x < -2)
        kept = torch.zeros_like(x)
        kept[outside] = x[outside]
        kept[~outside] = x[~outside] * 2
        return kept, frames * 2


def test_weights_that_are_computed_in_a_list_of_layers(tmp_path):
    torch.manual_seed(0)
    model, args = Steered().eval(), (torch.randn(2, 3, 8), torch.tensor([4, 7]))
    made = torch2mlx.translate(model, args)
    for twin in (made, made.save(tmp_path)):
        assert torch2mlx.verify(model, twin, args).difference < 1e-5
    wide = (args[0] * 9 + 3, torch.tensor([9, 2]))
    with torch.no_grad():
        model.layers[1].bias.fill_(4.0)
    again = torch2mlx.translate(model, args)
    assert torch2mlx.verify(model, again, wide).difference < 1e-5
