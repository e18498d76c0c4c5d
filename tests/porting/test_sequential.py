"""Layers of an nn.Sequential by their number, parts of it, loops over it: as torch has them."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import mlx.nn

import torch2mlx
from tests.porting.compare import executed

HEAD = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), nn.Linear(4, 2))
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.body[0].register_buffer("scale", torch.full((1,), 2.0))
        nn.init.zeros_(self.body[0].bias)
        self.body[0].bias.data.fill_(0.5)
        self.body[0].weight = nn.Parameter(torch.ones(4, 3))
        with torch.no_grad():
            self.body[0].weight.mul_(2).add_(1)
            self.body[0].weight[0] = 7
        self.body[0].register_parameter("extra", nn.Parameter(torch.ones(2)))
    def forward(self, x):
        return self.body(x) * self.body[0].scale + self.body[0].extra.sum()
own = Own()
x = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 2.0]])
for p in net.parameters():
    nn.init.constant_(p, 0.5)
"""
#: Lines after which `out` is what the file computed.
LINES = {
    "a model that a function gives back": """
def filled(model):
    for p in model.parameters():
        nn.init.constant_(p, 0.25)
    return model
def trained(model, rounds=2):
    return model, [rounds]
first = filled(net)
again, rounds = trained(filled(first))
out = again[0](x) + len(again) + first[0].weight.sum() + again[-1].bias.sum()
""",
    "parts of lists and dicts that are added by a name": """
class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts, self.named = nn.ModuleList([nn.Linear(3, 3)]), nn.ModuleDict()
        for i in range(2):
            self.parts.add_module("part_%d" % i, nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
        self.parts.add_module("0", nn.Linear(3, 3, bias=False))
        for key in ("x", "y"):
            self.named.register_module(key * 2, nn.Linear(3, 3))
    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return self.named["yy"](self.named["xx"](x))
several = Several()
for p in several.parameters():
    nn.init.constant_(p, 0.25)
out = several(x) + len(several.parts) + len(list(several.parameters()))
""",
    "a copy": """
import copy
copied = copy.deepcopy(net)
nn.init.constant_(copied[0].bias, 2.0)
out = copied[0](x) + net[0].bias + len(copied)
""",
    "a class of its own": """
class Chain(nn.Sequential):
    def __init__(self, size):
        super().__init__(nn.Linear(3, size), nn.Linear(size, 2))
    def half(self, x):
        return self[0](x)
chain = Chain(4)
for layer in chain:
    nn.init.constant_(layer.weight, 0.5)
    nn.init.zeros_(layer.bias)
out = chain(x) + chain.half(x).sum() + len(chain) + chain[-1].weight[0, 0]
""",
    "a layer is given weights": """
nn.init.constant_(net[1][1].weight, 0.25)
net[2].weight.data = net[2].weight.data * 0 + 3
net[2].bias.data += 1
net[1][-1].weight.data[0, 0] = 9
out = net(x)
""",
    "loops over parameters of layers": """
for p in net[1].parameters():
    p.data.mul_(2)
for n, p in net[1].named_parameters():
    if "bias" in n:
        nn.init.zeros_(p)
for a, b in zip(net[0].parameters(), own.body[0].parameters()):
    if a.shape == b.shape:
        a.data.copy_(b.data)
out = net(x)
""",
    "a state of a layer": """
net[2].load_state_dict({k: v + 1 for k, v in net[2].state_dict().items()})
out = net(x)
""",
    "parts are Sequentials": """
out = net[:2](x).sum() + net[0:1][0].weight.sum() + net[1][-1].bias.sum()
""",
    "what goes over layers": """
more = nn.Sequential(*net, nn.Tanh())
head = nn.Sequential(*list(net.children())[:-1])
kinds = [type(layer).__name__ for layer in net]
both = [i for i, (a, b) in enumerate(zip(net, reversed(net))) if type(a) is type(b)]
out = more(x).sum() + head(x).sum() + len(more) + len(list(net)) + len(kinds[0]) + len(both)
""",
    "attributes are layers": """
class Block(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 3))
        self.act = nn.Tanh()
        setattr(self, "out", nn.Linear(3, 2))
        self.size = 2
class Reads(nn.Sequential):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
    def forward(self, x):
        return self.first(x) * 2
class Holds(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential()
        self.body.first = nn.Linear(3, 3)
        self.body.act = nn.Tanh()
        self.body.first = nn.Linear(3, 3, bias=False)
        self.block, self.reads = Block(), Reads()
    def forward(self, x):
        return self.block(self.reads(self.body(x)))
holds = Holds()
for p in holds.parameters():
    nn.init.constant_(p, 0.25)
chain = nn.Sequential(nn.Linear(3, 2))
chain.last = nn.ReLU()
for p in chain.parameters():
    nn.init.constant_(p, -0.5)
chain.append(nn.Linear(2, 2, bias=False))
nn.init.constant_(chain[2].weight, 0.75)
numbered = nn.Sequential(nn.Tanh(), nn.ReLU())
numbered.insert(1, nn.Linear(3, 2, bias=False))
nn.init.constant_(numbered[1].weight, 0.75)
out = numbered(x) + holds(x) + chain(x) + len(list(holds.parameters()))
out = out + holds.block.size + len(chain)
""",
    "an own module": "out = own(x)\n",
}


@pytest.mark.parametrize("name", LINES)
def test_layers_of_a_sequential(name):
    made = torch2mlx.port(HEAD + LINES[name])
    assert made.ok, made.unsupported
    theirs, ours = executed(HEAD + LINES[name], "torch"), executed(made.source, "mlx")
    assert np.allclose(theirs.out.detach().numpy(), np.array(ours.out), rtol=1e-5)


def test_what_is_not_to_be_trained_is_frozen():
    lines = "net[0].weight.requires_grad_(False)\nnet[0].bias.requires_grad = False\n"
    lines += "net[1][1].bias.requires_grad_(False)\nnet[2].requires_grad_(False)\n"
    lines += "own.body[0].weight.requires_grad_(False)\nown.body[0].weight.requires_grad_()\n"
    made = torch2mlx.port(HEAD + lines + "net[2].bias.requires_grad_(True)\n")
    assert made.ok, made.unsupported
    ours = executed(made.source, "mlx")
    trained = dict(ours.nn.utils.tree_flatten(ours.net.trainable_parameters()))
    assert set(trained) == {"layers.1.layers.1.weight", "layers.2.bias"}
    assert "weight" in ours.own.body.layers[0].trainable_parameters()


def test_what_is_a_module_or_an_array_is_asked_when_it_runs():
    source = "import torch\ndef freeze(nets, value):\n    for net in nets:\n"
    made = torch2mlx.port(source + "        net.requires_grad_(value)\n")
    freeze, layer = executed(made.source, "mlx").freeze, mlx.nn.Linear(2, 2)
    freeze([layer], False)
    assert not layer.trainable_parameters()
    freeze([layer, mx.ones(2)], True)
    assert set(layer.trainable_parameters()) == {"weight", "bias"}
    with pytest.raises(ValueError, match="in the module that holds it"):
        freeze([mx.ones(2)], False)


def test_casts_and_loads_of_a_module_as_values():
    source = HEAD + "half = nn.Linear(4, 2).half()\nnet.float()\n"
    source += "state = {'weight': torch.ones(4, 3), 'w': x}\n"
    source += "missing, unexpected = net[0].load_state_dict(state, strict=False)\n"
    made = torch2mlx.port(source).source
    theirs, ours = executed(source, "torch"), executed(made, "mlx")
    assert ours.half.weight.dtype == mx.float16 and "net.set_dtype(" in made
    assert (theirs.missing, theirs.unexpected) == (["bias"], ["w"])
    assert (ours.missing, ours.unexpected) == (["bias"], ["w"])


IMAGES = """
import torch
from torch import nn
class Named(nn.Sequential):
    def __init__(self, i, o):
        super().__init__()
        self.add_module("conv", nn.Conv2d(i, o, 3, padding=1))
        self.add_module("norm", nn.BatchNorm2d(o))
class Given(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o))
class Set(nn.Sequential):
    def __init__(self, i, o):
        super().__init__()
        self.conv = nn.Conv2d(i, o, (3, 1), padding=(1, 0))
        self.act = nn.ReLU()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {held}
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        return self.head({called}.mean((2, 3)))
def answer(shape):
    net = Net()
    for i, p in enumerate(net.parameters()):
        nn.init.constant_(p, 0.1 * (i % 3 + 1))
    size = shape[0] * shape[1] * shape[2] * shape[3]
    return net((torch.arange(size).reshape(shape) * 0.37).sin())
"""
ADDED = """self.all = nn.Sequential()
        self.all.{0}one{1}Named(1, 8){2}
        self.all.{0}two{1}Given(8, 8){2}
        self.all.{0}three{1}Set(8, 8){2}"""
#: How a network of images holds Sequentials of its own, and what its forward calls.
HELD = {
    "in attributes": (
        "self.a, self.b, self.c = Named(1, 8), Given(8, 8), Set(8, 8)",
        "self.c(self.b(self.a(x)))",
    ),
    "in a Sequential": (
        "self.all = nn.Sequential(Named(1, 8), Given(8, 8), Set(8, 8))",
        "self.all(x)",
    ),
    "as attributes of one": (ADDED.format("", " = ", ""), "self.all(x)"),
    "by add_module": (ADDED.format('add_module("', '", ', ")"), "self.all(x)"),
}


@pytest.mark.parametrize("layout", ("mlx", "torch"))
@pytest.mark.parametrize("name", HELD)
def test_images_in_sequentials_whose_layers_have_names(name, layout):
    held, called = HELD[name]
    script = IMAGES.replace("{held}", held).replace("{called}", called)
    made = torch2mlx.port(script, layout=layout)
    assert made.ok, made.unsupported
    theirs, ours = executed(script, "torch"), executed(made.source, "mlx")
    for shape in ((2, 1, 8, 8), (3, 1, 8, 5)):
        found, expected = np.array(ours.answer(shape)), theirs.answer(shape).detach().numpy()
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
