"""What models are called with, and what they answer, in the forms that Python has."""

import collections

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.export.ir.structures import arrays_of, to_mlx

Pair = collections.namedtuple("Pair", "a b")


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)


class Starred(Base):
    def forward(self, *xs):
        return self.one(xs[0]) + xs[1]


class Keywords(Base):
    def forward(self, x, *, scale=None, **more):
        return self.one(x) * (1 if scale is None else scale) + more["bias"]


class Optional(Base):
    def forward(self, x, mask=None, y=None):
        z = self.one(x)
        z = z if mask is None else z * mask
        return z if y is None else z + y


class Named(Base):
    def forward(self, x):
        return Pair(self.one(x), x)


class Echo(Base):
    def forward(self, x):
        return {"in": x, "out": self.one(x), "constant": torch.ones(2)}


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, xs):
        return [layer(x) for layer, x in zip(self.layers, xs, strict=True)]


class Numbers(Base):
    def forward(self, x, k: int, flag: bool = True):
        return self.one(x) * k if flag else x


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)
        self.second, self.third = nn.GRU(8, 4, batch_first=True), nn.RNN(4, 4)
        self.cell = nn.LSTMCell(4, 4)

    def forward(self, x, state, h):
        y, state = self.first(x, state)
        y, h = self.second(y, h)
        z, _ = self.third(y.transpose(0, 1), h)
        return z, state, self.cell(z[-1], (h[0], h[0] * 2))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.recurrent = Lists(), Stateful()

    def forward(self, given):
        outputs = self.inner(given["xs"])
        y, state, _ = self.recurrent(given["sequence"], tuple(given["state"]), given["h"])
        return {"outputs": outputs, "state": state, "more": {"y": y}}


def draw(*shape):
    return torch.randn(*shape)


STATE = lambda: (draw(4, 2, 4), draw(4, 2, 4))
#: name: (class, positional arguments, keyword arguments)
CASES = {
    "starred": (Starred, lambda: ((draw(2, 3), draw(2, 3)), {})),
    "keywords": (Keywords, lambda: ((draw(2, 3),), {"scale": draw(2, 3), "bias": draw(3)})),
    "optional by name": (Optional, lambda: ((draw(2, 3),), {"y": draw(2, 3)})),
    "optional by place": (Optional, lambda: ((draw(2, 3), None, draw(2, 3)), {})),
    "named tuple": (Named, lambda: ((draw(2, 3),), {})),
    "echo": (Echo, lambda: ((draw(2, 3),), {})),
    "lists": (Lists, lambda: (([draw(2, 3), draw(4, 3)],), {})),
    "numbers": (Numbers, lambda: ((draw(2, 3), 4), {})),
    "states": (Stateful, lambda: ((draw(2, 5, 3), STATE(), draw(1, 2, 4)), {})),
    "nested": (
        Nested,
        lambda: (
            (
                {
                    "xs": [draw(2, 3), draw(2, 3)],
                    "sequence": draw(2, 5, 3),
                    "state": list(STATE()),
                    "h": draw(1, 2, 4),
                },
            ),
            {},
        ),
    ),
}


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_arguments_and_answers(name, dynamic, tmp_path):
    torch.manual_seed(0)
    kind, arguments = CASES[name]
    model, (args, kwargs) = kind().eval(), arguments()
    translation = torch2mlx.translate(model, args, kwargs, dynamic=dynamic)
    for given in ((args, kwargs), arguments()):
        result = torch2mlx.verify(model, translation, *given)
        assert result.ok and result.outputs, str(result)
    translation.save(tmp_path)
    given = [to_mlx(a) for a in args], {k: to_mlx(v) for k, v in kwargs.items()}
    found = torch2mlx.load(tmp_path)(*given[0], **given[1])
    with torch.no_grad():
        expected = model(*args, **kwargs)
    assert [n for n, _ in arrays_of(found)] == [n for n, _ in arrays_of(expected)]


def test_recurrent_layers_stay_layers_when_they_get_a_state():
    _, arguments = CASES["states"]
    args, kwargs = arguments()
    source = torch2mlx.translate(Stateful().eval(), args, kwargs).source
    for layer in ("kit.LSTM(3, 4, ", "kit.GRU(8, 4, ", "kit.RNN(4, 4)", "kit.LSTMCell(4, 4)"):
        assert layer in source, layer
    assert "mx.array([" not in source
