"""One parameter that several layers have, however a script gives it to them: it stays one over
updates, or the script is refused where it is given."""

import numpy as np
import pytest

from tests.porting.compare import both
from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import mlx.nn as nn

import torch2mlx
from torch2mlx import kit

HEAD = """
import copy
import torch
import torch.nn as nn
import torch.nn.functional as F


class Last(nn.Module):
    def forward(self, x):
        return x[..., None] if x.dim() == 2 else x[..., 0]


class Net(nn.Module):
    def __init__(self, n=SIZE, tied=True):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(n, n) for _ in range(COUNT)])
        self.enc, self.dec = nn.Linear(n, n), nn.Linear(n, n)
        self.third = nn.Linear(n, n)
        self.own = nn.Parameter(torch.ones(n, n))
"""
TAIL = """
    def last(self):
        return self.dec

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.third(torch.tanh(self.dec(torch.tanh(self.enc(x @ self.own)))))


net = Net()
with torch.no_grad():
    for p in net.parameters():
        p.copy_(torch.sin(torch.arange(p.numel()).float() * 1.3).view(p.shape))
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
OUT = []
X = torch.cos(torch.arange(BATCH * SIZE).float() * 0.7).view(BATCH, SIZE)
for i in range(4):
    loss = (net(X) - 1).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    OUT.append(loss.item())
NAMES = [name for name, _ in net.named_parameters()]
"""
TIES = {
    "a new parameter of two layers": """
        p = nn.Parameter(torch.randn(n, n))
        self.enc.weight = p
        if tied:
            self.dec.weight = p
        self.third.weight = self.layers[0].weight""",
    "registered, and by a chain": """
        b = self.third.bias
        self.dec.register_parameter("bias", b)
        self.enc._parameters["bias"] = self.dec.bias
        self.dec.weight = self.enc.weight = nn.Parameter(torch.randn(n, n))
        self.layers[1].weight = self.layers[0].weight = self.enc.weight""",
    "from tuples, and by a condition": """
        held = (self.enc.weight, self.dec.bias)
        self.dec.weight = held[0]
        self.third.bias, self.enc.bias = held[1], self.dec.bias
        self.third.weight = self.own if tied else self.third.weight
        self.layers[0].bias = self.layers[1].bias if not tied else self.layers[0].bias""",
    "of layers in a loop": """
        for layer in self.layers:
            layer.weight = self.enc.weight
        for one, other in zip(self.layers, self.layers[1:]):
            other.bias = one.bias
        source, target = self.enc, self.dec
        target.bias = getattr(source, "bias")
        self.last().weight = self.third.weight""",
    "left again, and taken again": """
        self.register_parameter("weight", self.third.weight)
        self.dec.weight = self.enc.weight
        self.dec.weight = nn.Parameter(self.enc.weight.detach().clone())
        del self.third.bias
        self.third.bias = self.enc.bias
        self.third.bias = self.enc.bias""",
    "of convolutions": """
        self.a, self.b, self.c = (nn.Conv1d(n, n, 1) for _ in range(3))
        for layer in (self.b, self.c):
            layer.weight = self.a.weight
        self.c.weight = nn.Parameter(torch.randn(n, n, 1))
        self.dec = nn.Sequential(Last(), self.a, self.b, self.c, Last())""",
    "nothing is one": """
        ps = [nn.Parameter(torch.randn(n)) for _ in range(2)]
        self.enc.bias, self.dec.bias = ps[0], ps[1]
        w = torch.randn(2, n, n)
        self.enc.weight, self.dec.weight = nn.Parameter(w[0]), nn.Parameter(w[1])
        self.third.weight.data = self.enc.weight.data.clone()
        for layer in self.layers:
            layer.weight = nn.Parameter(torch.zeros(n, n))
            layer.bias.data = layer.bias.data * 2
        self.own = nn.Parameter(self.own.float())
        self.twin = copy.deepcopy(self.enc)
        self.enc = self.twin""",
}


@pytest.mark.parametrize("size", [(3, 2, 4), (5, 3, 1)], ids=str)
@pytest.mark.parametrize("name", TIES)
def test_a_parameter_of_several_layers_stays_one(name, size):
    text = HEAD + TIES[name] + TAIL
    for word, number in zip(("SIZE", "COUNT", "BATCH"), size, strict=True):
        text = text.replace(word, str(number))
    ours, theirs = both(text, "ties")
    np.testing.assert_allclose(ours.OUT, theirs["OUT"], rtol=2e-5, atol=1e-6)
    assert theirs["NAMES"] == ours.NAMES
    held = dict(kit.training.named_parameters(ours.net))
    for key, wanted in theirs["net"].named_parameters():
        np.testing.assert_allclose(np.array(held[key]), wanted.detach(), rtol=1e-4, atol=1e-5)


REFUSED = {
    "a function": ("self.dec.weight = of(self.enc)", "def of(layer):\n    return layer.weight"),
    "layers of a function": ("tie(self.dec, self.enc)", "def tie(a, b):\n    a.weight = b.weight"),
    "a dict": ("held = {'w': self.enc.weight}\nself.dec.weight = held['w']", ""),
    "one or the other": (
        "w = self.enc.weight\nif tied:\n    w = self.own\nself.dec.weight = w",
        "",
    ),
    "a walrus within": ("self.dec.weight = tied and (w := self.enc.weight)", ""),
    "names that are computed": (
        "for n in ('weight', 'bias'):\n    setattr(self.dec, n, getattr(self.enc, n))",
        "",
    ),
    "parameters()": ("self.dec.weight = next(self.enc.parameters())", ""),
    "a name of its own": ("self.shared = self.enc.weight", ""),
    "a constructor, twice": (
        "p = nn.Parameter(torch.ones(3, 3))\nself.a, self.b = Held(p), Held(p)",
        "class Held(nn.Module):\n    def __init__(self, w):\n        super().__init__()\n"
        "        self.kernel = w",
    ),
    "a loop": (
        "p = nn.Parameter(torch.ones(3, 3))\nfor m in self.children():\n    m.weight = p",
        "",
    ),
    "a list that is repeated": (
        "ps = [nn.Parameter(torch.ones(3, 3))] * 2\nself.enc.weight = ps[0]\n"
        "self.dec.weight = ps[1]",
        "",
    ),
    "a keyword": (
        "self.dec.weight = nn.Parameter(requires_grad=True, data=self.enc.weight)",
        "",
    ),
    "a class's own way": ("nn.Module.__setattr__(self.dec, 'weight', self.enc.weight)", ""),
    "a list of parameters": ("self.ps = nn.ParameterList([self.enc.weight])", ""),
    "__dict__": ("self.dec.__dict__['weight'] = self.enc.weight", ""),
    "vars()": ("vars(self.dec)['_parameters']['weight'] = self.enc.weight", ""),
    "all parameters": ("self.dec._parameters = self.enc._parameters", ""),
    "a swap": ("self.dec.bias, self.enc.bias = self.enc.bias, self.dec.bias", ""),
    "the numbers of a weight": ("self.dec.weight = nn.Parameter(self.enc.weight.t())", ""),
    "numbers twice": (
        "w = torch.randn(3, 3)\nself.dec.weight.data = w\nself.enc.weight = nn.Parameter(w)",
        "",
    ),
    "numbers in a loop": (
        "w = torch.randn(3, 3)\nfor m in (self.enc, self.dec):\n    m.weight = nn.Parameter(w)",
        "",
    ),
    "a shallow copy": ("self.dec = copy.copy(self.enc)", ""),
    "a layer that goes": ("self.dec.weight = self.enc.weight\nself.enc = nn.Linear(3, 3)", ""),
    "other layouts": (
        "self.a, self.b = nn.Conv1d(3, 3, 1), nn.ConvTranspose1d(3, 3, 1)\n"
        "self.a.weight = self.b.weight",
        "",
    ),
    "other names": (
        "self.a, self.b = nn.LSTM(3, 3), nn.LSTM(3, 3)\nself.a.weight_ih_l0 = self.b.weight_ih_l0",
        "",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_be_one_parameter_is_refused_and_does_not_run(name):
    body, above = REFUSED[name]
    lines = "".join(f"\n        {line}" for line in body.split("\n"))
    text = HEAD.replace("class Net", f"{above}\n\n\nclass Net") + lines + TAIL
    for word, number in (("SIZE", "3"), ("COUNT", "2"), ("BATCH", "2")):
        text = text.replace(word, number)
    result = torch2mlx.port(text)
    said = ("under two names", "very numbers", "shares its parameters", "keeps by name", "replaced")
    assert any(word in left.reason for left in result.unsupported for word in said)
    with pytest.raises(NotImplementedError):
        exec(result.source, {"__name__": "ported"})


@pytest.mark.parametrize(
    "line",
    [
        "self.bias, self.gain = bias, gain",
        "self.weight = nn.Parameter(gain)",
        "self.fc.weight.data = torch.randn(n, n) if bias else torch.zeros(n, n)",
        "self.fc.weight = nn.Parameter(start((n, n)))\n        self.own = nn.Parameter(start(n))",
        "self.fc.bias = nn.Parameter(torch.zeros(n)) if bias else None",
        "self.fc.weight.data.copy_(gain)\n        self.own.data.copy_(gain)",
    ],
)
def test_what_starts_parameters_stays_ported(line):
    source = (
        "import torch\nimport torch.nn as nn\n\ndef start(shape):\n"
        "    return torch.empty(shape).normal_()\n\nclass Net(nn.Module):\n"
        "    def __init__(self, n, gain, bias=True):\n        super().__init__()\n"
        "        self.fc = nn.Linear(n, n)\n        self.own = nn.Parameter(torch.zeros(n))\n"
        f"        {line}\n\nopt = torch.optim.SGD(Net(3, torch.ones(3, 3)).parameters(), lr=0.1)\n"
        "opt.step()\n"
    )
    assert not [u for u in torch2mlx.port(source).unsupported if "weight" in u.reason]


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.back = kit.Conv1d(2, 3, 1), kit.ConvTranspose1d(2, 3, 1)
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)


def test_what_ties_cannot_be_is_an_error():
    net, tie = Pair(), kit.tying.tie_layers
    with pytest.raises(ValueError, match="other layouts"):
        tie(net, net.conv, "weight", net.back, "weight")
    with pytest.raises(ValueError, match="does not have"):
        tie(net, net.a, "weight", nn.Linear(2, 2), "weight")
    tie(net, net.b, "weight", net.a, "weight")
    with pytest.raises(ValueError, match="another layer has"):
        tie(net, net.a, "weight", net.c, "weight")
    with pytest.raises(ValueError, match="another layer has"):
        kit.tying.untie(net.a, "weight")
    tie(net, net.b, "weight", net.c, "weight")
    net.c.weight = mx.zeros((2, 2))
    assert not net.b.weight.any()
    assert net.a.weight.any()
    kit.tying.untie(net.c, "weight")
    net.c.weight = mx.ones((2, 2))
    assert not net.b.weight.any()
