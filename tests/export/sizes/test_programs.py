"""Files for all sizes of classes whose program, or whose tensors, are others at some sizes."""

import math
from functools import partial
from types import MappingProxyType, SimpleNamespace

import pytest

from tests.support import close, need

torch, mx = need("torch", "mlx.core")

import torch2mlx

nn = torch.nn


def emitted(translation, *given, **named):
    """The emitted class at some sizes."""
    held = {}
    exec(compile(translation.source, "<model>", "exec", dont_inherit=True), held)
    kind = held.get("Named")
    given = [kind(**vars(v)) if isinstance(v, SimpleNamespace) else v for v in given]
    return held[translation.name](*given, **named)


def agrees(translation, model, shape, *given):
    """The emitted class at some sizes answers as torch with the same weights."""
    module = emitted(translation, *given)
    weights = {name: mx.array(value.detach().numpy()) for name, value in model.state_dict().items()}
    module.load_weights(list(weights.items()), strict=True)
    x = torch.randn(shape)
    close(module(mx.array(x.numpy())), model.eval()(x).detach())


class Tied(nn.Module):
    def __init__(self, width=12, inner=12):
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.bridge = nn.Linear(inner, width) if inner != width else None
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(x if self.bridge is None else self.bridge(x))


def test_fields_that_are_equal_wherever_the_program_is_the_same_have_to_be():
    found = torch2mlx.translate(Tied(), torch.randn(2, 12), sizes=True)
    agrees(found, Tied(7, 7), (3, 7), 7, 7)
    agrees(found, Tied(20, 20), (5, 20), 20, 20)
    with pytest.raises(ValueError, match=r"^inner is 5, translated for 7$"):
        emitted(found, 7, 5)


class Sloped(nn.Module):
    """Slopes of attention by distance, as Bloom has them: others for no power of two."""

    def __init__(self, width=12, heads=4):
        super().__init__()
        self.linear, self.heads = nn.Linear(width, width * heads), heads
        self.near = 2 ** math.floor(math.log2(heads))

    def forward(self, x):
        slopes = (2 ** (-8 / self.near)) ** torch.arange(1, 1 + self.near)
        if self.near != self.heads:
            more = (2 ** (-4 / self.near)) ** torch.arange(1, 1 + 2 * (self.heads - self.near), 2)
            slopes = torch.cat([slopes, more])
        return self.linear(x).view(x.shape[0], self.heads, -1) * slopes[:, None]


def test_a_program_for_powers_of_two_takes_no_others():
    found = torch2mlx.translate(Sloped(), torch.randn(2, 12), sizes=True)
    agrees(found, Sloped(7, 8), (3, 7), 7, 8)
    agrees(found, Sloped(10, 2), (1, 10), 10, 2)
    with pytest.raises(ValueError, match=r"^heads is 6, translated for 4$"):
        emitted(found, 7, 6)


class Uneven(nn.Module):
    def __init__(self, width=15, heads=4):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.linear = nn.Linear(width, self.size * heads)

    def forward(self, x):
        x = self.linear(x).view(x.shape[0], self.heads, self.size)
        return x * self.size**-0.5


def test_a_quotient_may_leave_a_rest():
    found = torch2mlx.translate(Uneven(), torch.randn(2, 15), sizes=True)
    agrees(found, Uneven(17, 3), (3, 17), 17, 3)
    agrees(found, Uneven(40, 6), (1, 40), 40, 6)


class Named(SimpleNamespace):
    """Settings with another name for one of them, as configurations of transformers have."""

    attribute_map = MappingProxyType({"width": "n_embd"})

    def __getattribute__(self, name):
        mapped = type(self).attribute_map if name == "width" else {}
        return super().__getattribute__(mapped.get(name, name))


class Renamed(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.width, config.out)

    def forward(self, x):
        return self.linear(x)


def test_settings_that_are_read_by_another_name_are_sizes_too():
    config = Named(n_embd=12, out=3)
    found = torch2mlx.translate(partial(Renamed, config), torch.randn(2, 12), sizes=True)
    other = SimpleNamespace(n_embd=7, out=5)
    agrees(found, Renamed(Named(**vars(other))), (3, 7), other)


class Deep(nn.Module):
    def __init__(self, width=24, depth=2):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


def test_a_model_with_shapes_alone_is_compared_at_other_sizes():
    wide = 1500
    with torch2mlx.empty_weights():
        model = Deep(wide, 3)
    model.width, model.depth = wide, 3
    found = torch2mlx.translate(model, torch.randn(2, wide), sizes=True)
    assert any(note.startswith("the model had shapes alone") for note in found.notes)
    agrees(found, Deep(9, 5), (3, 9), 9, 5)


class Bounded(nn.Module):
    def __init__(self, width=16, out=3):
        super().__init__()
        self.linear, self.shown = nn.Linear(width, out), min(width, 8)

    def forward(self, x):
        return self.linear(x) * self.shown + x[:, : self.shown].sum()


def test_a_number_that_is_an_expression_below_a_bound_is_checked_to_be_on_its_side():
    found = torch2mlx.translate(Bounded(), torch.randn(2, 16), sizes=True)
    agrees(found, Bounded(9, 5), (3, 9), 9, 5)
    agrees(found, Bounded(30, 2), (1, 30), 30, 2)
    with pytest.raises(ValueError, match=r"^8 < width|^width > 8 is False, translated for True$"):
        emitted(found, 5, 3)


class Branched(nn.Module):
    def __init__(self, width=16, out=3):
        super().__init__()
        self.linear, self.width = nn.Linear(width, out), width

    def forward(self, x):
        x = self.linear(x)
        return x.tanh() if self.width > 300 else x.relu()


def test_a_choice_that_a_size_makes_is_checked():
    found = torch2mlx.translate(Branched(), torch.randn(2, 16), sizes=True)
    agrees(found, Branched(9, 5), (3, 9), 9, 5)
    agrees(found, Branched(300, 2), (1, 300), 300, 2)
    with pytest.raises(ValueError, match=r"^width > 300 is True, translated for False$"):
        emitted(found, 301, 3)
