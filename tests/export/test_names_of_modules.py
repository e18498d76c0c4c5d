"""One module at several places, and names that MLX's modules cannot have: values, gradients, files,
strict loading, and the way back."""

import copy

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten
from torch import nn

import torch2mlx
from tests.export.alike import assert_alike, assert_outputs_alike
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.lower.build_layer import build, converted_arrays


class Lin(nn.Module):
    """A block with a layer."""

    def __init__(self, size=4):
        super().__init__()
        self.fc, self.act = nn.Linear(size, size), nn.Tanh()

    def forward(self, x):
        return self.act(self.fc(x))


class ByList(nn.Module):
    """Attributes that are the items of a list too, called by either name."""

    def __init__(self, both):
        super().__init__()
        self.lin0, self.lin1 = Lin(), Lin()
        self.lins = nn.ModuleList([self.lin0, self.lin1])
        self.both = both

    def forward(self, x):
        for lin in self.lins:
            x = lin(x)
        return self.lin1(self.lin0(x)) + self.lins[0].fc(x) if self.both else x


class Position(nn.Module):
    """A table that blocks share."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(4))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(x + self.table)


class Block(nn.Module):
    """A block that holds a module of others."""

    def __init__(self, position):
        super().__init__()
        self.position, self.fc = position, nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(self.position(x))


class Shared(nn.Module):
    """Blocks that share a module, which the model may hold too, before or after them."""

    def __init__(self, held):
        super().__init__()
        position = Position()
        if held == "before":
            self.position = position
        self.blocks = nn.ModuleList([Block(position), Block(position)])
        if held == "after":
            self.position = position
        self.held = held

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.position(x) if self.held else x


class Siblings(nn.Module):
    """A layer under two names, a list that is held twice, a list in a list."""

    def __init__(self):
        super().__init__()
        self.n1 = nn.LayerNorm(4)
        self.n2 = self.n1
        self.first = nn.ModuleList([Lin(), Lin()])
        self.again = self.first
        self.pairs = nn.ModuleList([nn.ModuleList([self.first[1], self.n2])])

    def forward(self, x):
        x = self.n2(self.first[0](self.n1(x)))
        for layer in self.pairs[0]:
            x = layer(x)
        return self.again[1](x)


class Features(nn.Module):
    """A stack, parts of which are held by name as well."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)]
        self.stack = nn.Sequential(*layers)
        self.slice1, self.slice2 = nn.Sequential(*layers[:2]), nn.Sequential(layers[2])
        self.heads = nn.ModuleList(nn.Conv2d(4, 1, 1) for _ in range(2))
        self.head0, self.head1 = self.heads

    def forward(self, x):
        a = self.slice1(x)
        b = self.slice2(a)
        return self.head0(a).mean((2, 3)) + self.heads[1](b).mean((2, 3)) + self.stack(x).mean()


ROWS = ((5, 4), (3, 4))
ALIASES = {
    "items by the list": (lambda: ByList(False), ROWS),
    "items by both": (lambda: ByList(True), ROWS),
    "blocks share": (lambda: Shared(""), ROWS),
    "blocks share, the model has it first": (lambda: Shared("before"), ROWS),
    "blocks share, the model has it last": (lambda: Shared("after"), ROWS),
    "siblings": (Siblings, ROWS),
    "slices of a stack": (Features, ((2, 3, 8, 8), (3, 3, 8, 8))),
}


def others_of(model):
    """The same model with other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    return other


def assert_files_agree(model, made, args, folder):
    """The saved translation, other weights by `convert`, and the way back to torch."""
    loaded = torch2mlx.load(made.save(folder / "translated"))
    assert_outputs_alike(model, loaded, args, 1e-4)
    other, path = others_of(model), folder / "other.safetensors"
    torch2mlx.convert(other, path, on_unmapped="ignore")
    loaded.load_weights(str(path), strict=True)
    assert_outputs_alike(other, loaded, args, 1e-4)
    back = torch2mlx.revert(path)
    state = other.state_dict()
    assert set(back) == set(state)
    for name, value in back.items():
        np.testing.assert_array_equal(np.asarray(value), state[name], err_msg=name)


@pytest.mark.parametrize("name", ALIASES)
def test_a_module_at_several_places_is_one(name, tmp_path):
    torch.manual_seed(0)
    make, shapes = ALIASES[name]
    first, second = ((torch.randn(shape),) for shape in shapes)
    assert_alike(make().train(), first, second)
    model = make().eval()
    assert_files_agree(model, torch2mlx.translate(model, first), first, tmp_path)


class Mixed(nn.ModuleDict):
    """Numbers for keys, and a forward."""

    def __init__(self, keys):
        super().__init__()
        for i, key in enumerate(keys):
            self.add_module(key, nn.Conv2d(2, 2, 2 * i + 1, padding=i))

    def forward(self, x):
        parts = [conv(p) for conv, p in zip(self.values(), x.split(2, 1), strict=True)]
        return torch.cat(parts, 1)


class Numbered(nn.Module):
    """Dicts with numbers for keys, with a forward and without."""

    def __init__(self):
        super().__init__()
        self.mixed = Mixed(("0", "1"))
        self.plain = nn.ModuleDict({"7": nn.Conv2d(4, 2, 1), "3": nn.Conv2d(2, 2, 1)})
        self.both = nn.ModuleDict({"a": nn.Conv2d(2, 2, 1), "1": nn.Conv2d(2, 2, 1)})
        self.numbers = nn.ParameterDict({"0": torch.rand(2, 1, 1), "b": torch.rand(2, 1, 1)})

    def forward(self, x):
        x = self.plain["3"](self.plain["7"](self.mixed(x)))
        return self.both["1"](self.both["a"](x)) * self.numbers["0"] + self.numbers["b"]


class Hidden(nn.Module):
    """Names that start with underscores: a layer, a block, a list, parameters, buffers."""

    def __init__(self):
        super().__init__()
        self._fc, self._block, self.block = nn.Linear(4, 4), Lin(), Lin()
        self._list = nn.ModuleList([nn.Linear(4, 4), Lin()])
        self._scale, self.scale = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.__ = nn.Parameter(torch.rand(4))
        self.register_buffer("_seen", torch.zeros(4))
        self._frozen = nn.Parameter(torch.rand(4), requires_grad=False)

    def forward(self, x):
        x = self._block(self.block(self._fc(x)) * self._scale) * self.scale + self.__
        for layer in self._list:
            x = layer(x)
        if self.training:
            self._seen.add_(x.detach().mean(0))
        return x * self._frozen + self._seen


class Clashing(nn.Module):
    """Names that a module of MLX has for itself, that are Python's words, or no words at all."""

    NAMES = ("parameters_", "items", "keys", "update", "state", "freeze", "load_weights")
    NAMES += ("class", "lambda", "a-b", "two words", 'quo"te', "mx", "nn", "kit", "layers", "x")

    def __init__(self):
        super().__init__()
        for name in self.NAMES:
            self.add_module(name, nn.Linear(4, 4))
        self.register_parameter("values", nn.Parameter(torch.rand(4)))
        self.register_parameter("pop", nn.Parameter(torch.rand(4)))
        self.register_parameter("not", nn.Parameter(torch.rand(4)))
        self.register_buffer("clear", torch.rand(4))
        self.named = nn.ModuleDict({"if": nn.Linear(4, 4), "b.c".replace(".", "-"): Lin()})

    def forward(self, x):
        for name in self.NAMES:
            x = self._modules[name](x)
        for value in (*self._parameters.values(), *self._buffers.values()):
            x = x * value
        for layer in self.named.values():
            x = layer(x)
        return x


class Chain(nn.ModuleList):
    """A list with a forward."""

    def forward(self, x):
        for layer in self:
            x = layer(x).tanh()
        return x


class Table(nn.ModuleDict):
    """A dict with a forward and a tensor."""

    def __init__(self, layers):
        super().__init__(layers)
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x):
        for layer in self.values():
            x = layer(x) * self.scale
        return x


class Row(nn.Sequential):
    """A Sequential with a forward and a buffer."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.register_buffer("shift", torch.rand(4))

    def forward(self, x):
        return super().forward(x) + self.shift


class Longer(nn.ModuleList):
    """A list with a tensor, and a layer that is no item, and that nobody calls."""

    def __init__(self, layers):
        super().__init__(layers)
        self.scale, self.norm = nn.Parameter(torch.rand(4)), nn.LayerNorm(4)


class Containers(nn.Module):
    """Containers that compute, in one another, and one that is more than its items."""

    def __init__(self):
        super().__init__()
        self.chain = Chain([Lin(), nn.Linear(4, 4), Chain([nn.Linear(4, 4)])])
        self.table = Table({"a": nn.Linear(4, 4), "b": Row(nn.Linear(4, 4), Lin())})
        self.chains = nn.ModuleList([Chain([Lin(), Lin()]), Chain([Lin()])])
        self.longer = Longer([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x):
        x = self.table(self.chain(x))
        for chain in self.chains:
            x = chain(x)
        for layer in self.longer[:2]:
            x = layer(x)
        return self.longer.norm(x * self.longer.scale)


NAMES = {
    "containers": (Containers, ROWS),
    "chain": (lambda: Chain([nn.Linear(4, 4), Lin()]), ROWS),
    "chain of one": (lambda: Chain([nn.Linear(4, 4)]), ROWS),
    "table": (lambda: Table({"0": nn.Linear(4, 4), "a": Lin()}), ROWS),
    "row": (lambda: Row(nn.Linear(4, 4), Lin()), ROWS),
    "numbered": (Numbered, ((2, 4, 6, 6), (3, 4, 5, 5))),
    "hidden": (Hidden, ROWS),
    "clashing": (Clashing, ROWS),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_mlx_cannot_show(name, tmp_path):
    torch.manual_seed(0)
    make, shapes = NAMES[name]
    model = make().train()
    first, second = ((torch.randn(shape),) for shape in shapes)
    made = assert_alike(model, first, *((second,) if name != "numbered" else ()))
    trained = {key for key, _ in tree_flatten(made.module.trainable_parameters())}
    wanted = sum(p.requires_grad for p in model.parameters())
    assert len(trained) == wanted
    model = make().eval()
    assert_files_agree(model, torch2mlx.translate(model, first), first, tmp_path)


def test_hidden_names_lose_their_underscore_and_give_way():
    names = set(converted_arrays(Hidden()))
    assert {"fc.weight", "block.fc.weight", "block_.fc.weight", "list.0.weight"} <= names
    assert {"scale", "scale_", "seen", "frozen", "item"} <= names
    assert not any(part.startswith("_") for name in names for part in name.split("."))


def test_dicts_with_numbers_are_built_and_loaded():
    torch.manual_seed(0)
    layers = nn.ModuleDict({"5": nn.Linear(3, 2), "a": nn.Linear(3, 2), "_b": nn.Linear(3, 2)})
    made, x = build(layers), torch.randn(4, 3)
    for mine, theirs in ((made["layers"][0], "5"), (made["a"], "a"), (made["b"], "_b")):
        np.testing.assert_allclose(
            mine(to_mlx(x)), layers[theirs](x).detach(), rtol=1e-5, atol=1e-6
        )
    arrays = build(nn.ParameterDict({"0": torch.ones(2), "w": torch.zeros(2)}))
    assert mx.array_equal(arrays["item_0"], mx.ones((2,))) and set(arrays) == {"item_0", "w"}


class Turns(nn.Module):
    """Blocks whose results a norm and a head of the parent look at after each of them."""

    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

    def forward(self, x, norm, head):
        normed, shown = [], []
        for layer in self.layers:
            x = torch.relu(layer(x)) + x
            normed.append(norm(x))
            shown.append(head(normed[-1]) * 2)
        return torch.stack(normed), torch.stack(shown)


class Watched(nn.Module):
    """Layers that are handed to a child, which calls each more than once."""

    def __init__(self, depth):
        super().__init__()
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
        self.turns = Turns(depth)

    def forward(self, x):
        return *self.turns(self.norm(x), self.norm, self.head), self.head(x)


@pytest.mark.parametrize("depth", [2, 3])
def test_layers_that_a_child_is_handed_keep_their_names_until_the_last_call(depth):
    torch.manual_seed(0)
    shapes = ((2, 5, 8), (3, 7, 8))
    made = assert_alike(Watched(depth), *((torch.randn(shape),) for shape in shapes))
    assert "def __call__(self, x, norm, head):" in made.source
    assert made.source.count("class ") == 2 and "self.norm = nn.LayerNorm(8)" in made.source


class Sliced(nn.Module):
    """Slices of lists in which a module stands twice: walked, indexed, called, sliced again."""

    def __init__(self):
        super().__init__()
        self.rows = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(4))
        self.rows[2] = self.rows[0]
        self.chain = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Identity())
        self.chain[3] = self.chain[0]

    def forward(self, x):
        for layer in self.rows[1:][1:]:
            x = layer(x) + x
        x = self.rows[0](x) + self.chain(x)
        x = self.rows[-2:][0](x) + self.rows[::2][1](x) * 2
        return self.chain[1:][1:](x) * self.chain[-1:](x)


def test_what_slices_of_a_list_hold_is_named_by_the_list():
    torch.manual_seed(0)
    shapes = ((2, 5, 4), (3, 7, 4))
    made = assert_alike(Sliced(), *((torch.randn(shape),) for shape in shapes))
    assert not made.notes and "slice" not in made.source
    assert "self.chain.layers[0](self.chain.layers[2](x))" in made.source
    assert made.source.count("nn.Linear") == 5
