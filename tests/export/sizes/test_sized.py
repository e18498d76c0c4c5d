"""Translations for all sizes: the emitted class takes what the torch class takes, and agrees with
torch at sizes that were not translated."""

import functools
from dataclasses import dataclass

import pytest

from tests.support import close, need

torch, mx = need("torch", "mlx.core")

import torch2mlx
from torch2mlx.errors import TranslationError

nn = torch.nn


class Residual(nn.Module):
    def __init__(self, width, ratio):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.scale = width**-0.5

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x)))) * self.scale


class Perceptron(nn.Module):
    def __init__(self, features=6, width=16, depth=3, classes=5, ratio=2, bias=True, act="relu"):
        super().__init__()
        self.stem = nn.Linear(features, width, bias=bias)
        self.blocks = nn.ModuleList([Residual(width, ratio) for _ in range(depth)])
        self.head = nn.Linear(width, classes)
        self.act = {"relu": torch.relu, "tanh": torch.tanh}[act]

    def forward(self, x):
        x = self.act(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture(scope="module")
def perceptron():
    torch.manual_seed(0)
    return torch2mlx.translate(Perceptron, torch.randn(3, 6), sizes=True)


def twin_of(translation, model, **arguments):
    """The emitted class at another size, with a torch model's weights."""
    held = {}
    exec(compile(translation.source, "<model>", "exec", dont_inherit=True), held)
    made = held[type(model).__name__](**arguments)
    made.load_weights(list(weights_of(model).items()), strict=True)
    return made.train(model.training) or made


def weights_of(model):
    return {name: mx.array(value.detach().numpy()) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        ({"features": 4, "width": 10, "depth": 1, "classes": 3}, 2),
        ({"features": 9, "width": 7, "depth": 5, "classes": 2, "ratio": 3}, 5),
    ],
)
def test_the_file_agrees_with_torch_at_sizes_that_were_not_tried(perceptron, sizes, batch):
    import mlx.nn as mnn

    model = Perceptron(**sizes).eval()
    made = twin_of(perceptron, model, **sizes)
    x = torch.randn(batch, sizes["features"], requires_grad=True)
    model(x).square().sum().backward()
    close(made(mx.array(x.detach().numpy())), model(x).detach())
    loss = lambda module, value: mx.sum(mx.square(module(value)))
    grads = mnn.value_and_grad(made, loss)(made, mx.array(x.detach().numpy()))[1]
    close(grads["stem"]["weight"], model.stem.weight.grad, 1e-4)
    close(grads["blocks"][0]["up"]["weight"], model.blocks[0].up.weight.grad, 1e-4)


def test_the_emitted_class_takes_what_the_torch_class_took(perceptron):
    taken = 'features=6, width=16, depth=3, classes=5, ratio=2, bias=True, act="relu"'
    assert f"def __init__(self, {taken}):" in " ".join(perceptron.source.split())
    assert "[Residual(width, ratio) for _ in range(depth)]" in perceptron.source
    assert "self.scale = width ** -0.5" in perceptron.source
    assert "nn.Linear(width, width * ratio)" in perceptron.source


@pytest.mark.parametrize(
    ("other", "told"),
    [({"bias": False}, "bias is False, translated for True"),
     ({"act": "tanh"}, "act is 'tanh', translated for 'relu'")],
)  # fmt: skip
def test_choices_that_change_the_program_are_checked(perceptron, other, told):
    model = Perceptron()
    with pytest.raises(ValueError, match=f"^{told}$"):
        twin_of(perceptron, model, **other)


def test_the_folder_says_what_its_model_is_made_with(perceptron, tmp_path):
    perceptron.save(tmp_path / "out")
    x = mx.random.normal((2, 6))
    close(torch2mlx.load(tmp_path / "out")(x), perceptron.module(x), 1e-6)


@dataclass
class Settings:
    width: int = 12
    heads: int = 3
    layers: int = 2
    causal: bool = False


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.head_dim = config.heads, config.width // config.heads
        self.qkv, self.out = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, 4)

    def forward(self, x):
        batch, length, _ = x.shape
        parts = self.qkv(x).view(batch, length, 3, self.heads, self.head_dim)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()
        weights = (q @ k.mT / self.head_dim**0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


def test_settings_are_a_class_of_the_file():
    translation = torch2mlx.translate(
        functools.partial(Mixer, Settings()), torch.randn(2, 5, 12), sizes=True
    )
    assert "class Settings:\n    width: int = 12\n    heads: int = 3\n" in translation.source
    assert "self.head_dim = config.width // config.heads" in translation.source
    held = {}
    exec(compile(translation.source, "<model>", "exec", dont_inherit=True), held)
    model = Mixer(Settings(20, 5)).eval()
    made = held["Mixer"](held["Settings"](width=20, heads=5))
    made.load_weights(list(weights_of(model).items()), strict=True)
    x = torch.randn(3, 7, 20)
    close(made(mx.array(x.numpy())), model(x).detach())


class Slopes(nn.Module):
    def __init__(self, width=12, heads=4):
        super().__init__()
        self.linear, self.heads = nn.Linear(width, width), heads
        self.slope = 1.5**heads

    def forward(self, x):
        return self.linear(x).view(*x.shape[:2], self.heads, -1) * self.slope


def test_what_a_number_without_an_expression_depends_on_is_a_constant_that_is_checked():
    translation = torch2mlx.translate(Slopes(), torch.randn(2, 5, 12), sizes=True)
    (note,) = [note for note in translation.notes if "constant" in note]
    assert note.startswith(
        "heads is a constant of the file, which is checked where a model is made"
    )
    held = {}
    exec(compile(translation.source, "<model>", "exec", dont_inherit=True), held)
    model = Slopes(20).eval()
    made = held["Slopes"](width=20)
    made.load_weights(list(weights_of(model).items()), strict=True)
    x = torch.randn(3, 7, 20)
    close(made(mx.array(x.numpy())), model(x).detach())
    with pytest.raises(ValueError, match=r"^heads is 2, translated for 4$"):
        held["Slopes"](width=20, heads=2)


class Odd(nn.Module):
    def __init__(self, width=10):
        super().__init__()
        self.linear, self.shift = nn.Linear(width, width), width * width % 71

    def forward(self, x):
        return self.linear(x) + self.shift


def test_a_number_that_no_expression_gives_is_refused_by_its_line():
    with pytest.raises(TranslationError, match=r"^in Odd\.__call__: `return self\.linear\(x\) \+ "):
        torch2mlx.translate(Odd(), torch.randn(2, 10), sizes=True)


def test_arguments_that_are_not_known_are_asked_for():
    class Closed(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.linear = nn.Linear(width, 2)

        def forward(self, x):
            return self.linear(x)

    for given in (Closed, Closed(3)):
        with pytest.raises(TranslationError, match=r"functools\.partial\(Closed, \.\.\.\)"):
            torch2mlx.translate(given, torch.randn(2, 3), sizes=True)


def test_a_model_without_sizes_is_refused():
    with pytest.raises(TranslationError, match="no other sizes were found at which torch runs it"):
        torch2mlx.translate(nn.ReLU, torch.randn(2, 3), sizes=True)


@pytest.mark.parametrize("option", [{"state": ["x"]}, {"dynamic_shapes": {}}])
def test_options_that_do_not_go_together_are_refused(option):
    (name,) = option
    with pytest.raises(TranslationError, match=f"^{name}= is not taken with sizes=True$"):
        torch2mlx.translate(Odd(), torch.randn(2, 10), sizes=True, **option)
