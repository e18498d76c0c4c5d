"""Names that hold a model's own weights see what an optimizer makes of these, or are refused."""

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.support import need

need("torch", "mlx.core", "libcst")

import torch2mlx
from torch2mlx.errors import Code

PROGRAM = """
import copy
from functools import partial

import torch
import torch.nn as nn

{above}

def total(ps, k):
    return k * sum(p.abs().sum() for p in ps)


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


model = nn.Sequential(nn.Linear({size}, 4), nn.Tanh(), nn.Linear(4, 1))
with torch.no_grad():
    for p in model.parameters():
        p.copy_(numbers(*p.shape) * 0.3)
{made}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
out = []
for step in range(4):
    x = numbers({batch}, {size}) * (step + 1)
    loss = (model(x) - 1).pow(2).mean() + {term}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    out.append(loss.item())
    {each}
out.append({last})
"""
#: What is made before the optimizer; a term of the loss; what each step does; what is read at last.
WRITTEN = [
    ("ps = list(model.parameters())", "sum(p.pow(2).sum() for p in ps)", "pass", "0"),
    ("w = model[0].weight", "w.abs().sum()", "pass", "w.sum().item()"),
    ("w = model[2].weight.detach()", "0", "out.append(w.sum().item())", "0"),
    ("w = model[0].weight.data", "0", "pass", "w[0].sum().item()"),
    ("best = model.state_dict()", "0", "pass", "best['0.weight'].sum().item()"),
    ("best = model.state_dict()", "0", "model.load_state_dict(best)", "model(x).sum().item()"),
    ("ps = [p for p in model.parameters() if p.dim() > 1]", "ps[1].sum()", "pass", "0"),
    ("ps = {n: p for n, p in model.named_parameters()}", "ps['2.bias'].pow(2).sum()", "pass", "0"),
    ("ps = dict(model.named_parameters())", "0.1 * ps['0.bias'].sum()", "pass", "0"),
    ("first, w = 1, 2; ps = list(model.parameters())", "ps[0].sum()", "pass", "len(ps)"),
    ("ps = list(model.parameters())", "0", "[out.append(p.sum().item()) for p in ps]", "0"),
    ("w = model[0].weight; reg = lambda: w.abs().sum()", "reg()", "pass", "0"),
    ("reg = partial(total, list(model.parameters()))", "reg(2)", "pass", "0"),
    ("w = model.get_parameter('0.weight')", "w.pow(2).sum()", "pass", "0"),
    ("ps = list(model.parameters())", "0", "for p in ps: out.append(p.sum().item())", "0"),
]
#: What holds copies, or is read where nothing has changed since: as before.
LEFT = [
    (
        "kept = []",
        "0",
        "kept.append(model[0].weight.detach().clone())",
        "sum(w.sum().item() for w in kept)",
    ),
    (
        "kept = []",
        "0",
        "kept = []; kept.append(model[0].weight.data)",
        "sum(w.sum().item() for w in kept)",
    ),
    ("ws = [p.clone() for p in model.parameters()]", "0", "pass", "ws[0].sum().item()"),
    ("ws = [p.detach().clone() for p in model.parameters()]", "0", "pass", "ws[0].sum().item()"),
    ("ws = copy.deepcopy(model.state_dict())", "0", "pass", "ws['2.bias'].sum().item()"),
    ("ws = {k: v.clone() for k, v in model.state_dict().items()}", "0", "pass", "len(ws)"),
    ("pass", "0", "w = model[0].weight; out.append(w.sum().item())", "0"),
    ("pass", "0", "ps = list(model.parameters()); out.append(ps[1].sum().item())", "0"),
    ("ps = list(model.parameters()); n = sum(p.numel() for p in ps)", "0", "pass", "n"),
    ("ps = list(model.parameters())", "0", "pass", "sum(p.numel() for p in ps)"),
    ("names = [n for n, p in model.named_parameters()]", "0", "pass", "len(names)"),
]
REFUSED = [
    (
        "best = None",
        "0",
        "best = model.state_dict() if step < 2 else best",
        "len(best) + len(best)",
    ),
    ("best = {}", "0", "if step == 1: best = model.state_dict()", "best['2.bias'].item()"),
    ("kept = []", "0", "kept.append(model[0].weight)", "kept[0].sum().item()"),
    ("kept = []", "0", "kept.append(model[0].weight.data)", "sum(w.sum().item() for w in kept)"),
    ("kept = []", "0", "kept.append(model[2].bias.detach().numpy())", "sum(map(float, kept))"),
    ("kept = {}", "0", "kept[step] = model[0].weight.data", "sum(w.sum() for w in kept.values())"),
    ("kept = {}", "0", "for n, p in model.named_parameters(): kept[n] = p.data", "kept.popitem()"),
    ("w, b = model[0].weight, model[0].bias", "w.sum() + b.sum()", "pass", "0"),
    ("w, b = list(model.parameters())[:2]", "w.sum() + b.sum()", "pass", "0"),
    ("w: torch.Tensor = model[0].weight", "w.sum()", "pass", "0"),
    ("f = make(model)", "f()", "pass", "0"),
    ("h = Holder(model)", "h.penalty()", "pass", "0"),
    ("h = Holder(model)", "0", "h.update()", "0"),
    ("ps = model.parameters()", "0", "pass", "next(ps).sum().item()"),
    ("ps = list(model.parameters()); ps[0] = ps[1]", "0", "pass", "ps[0].sum().item()"),
]
HOLDER = """
def make(model):
    def f(w=model[0].weight):
        return w.sum()

    return f


class Holder:
    def __init__(self, model):
        self.model = model
        self.weights = list(model.parameters())

    def penalty(self):
        return sum(w.abs().sum() for w in self.weights)

    def update(self):
        self.kept = {n: p.data for n, p in self.model.named_parameters()}
        self.model.load_state_dict(self.kept)
        print(self.weights[0].sum())
"""


def _ported(given, size=3, batch=5, above=""):
    made, term, each, last = given
    lines = "\n    ".join(each.split("; "))
    made = "\n".join(made.split("; "))
    parts = {"made": made, "term": term, "each": lines, "last": last, "above": above}
    text = PROGRAM.format(**parts, size=size, batch=batch)
    return text, torch2mlx.port(text)


def _agree(given, size, batch):
    text, ported = _ported(given, size, batch)
    assert ported.ok, ported.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    ours = executed(ported.source, "held")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=1e-5, atol=1e-6)
    return ported


@pytest.mark.parametrize("given", WRITTEN, ids=str)
def test_what_holds_weights_has_their_new_values(given):
    for size, batch in ((3, 5), (2, 4)):
        ported = _agree(given, size, batch)
        assert any("written out where it is read" in change.why for change in ported.changes)


@pytest.mark.parametrize("given", LEFT, ids=str)
def test_copies_and_what_is_read_at_once_stay(given):
    ported = _agree(given, 3, 5)
    assert not any("written out where it is read" in change.why for change in ported.changes)


@pytest.mark.parametrize("given", REFUSED, ids=str)
def test_what_cannot_be_written_out_is_refused(given):
    _, ported = _ported(given, above=HOLDER)
    left = [u for u in ported.unsupported if "holds the model's own weights" in u.detail]
    assert left
    assert {u.code for u in left} == {Code.UNCLEAR}


EMA = """
import torch
import torch.nn as nn


class EMA:
    def __init__(self, model, decay=0.9):
        self.model, self.decay = model, decay
        self.shadow, self.backup = {}, {}

    def register(self):
        for name, param in self.model.named_parameters():
            self.shadow[name] = param.data.clone()

    def update(self):
        for name, param in self.model.named_parameters():
            self.shadow[name] = (1 - self.decay) * param.data + self.decay * self.shadow[name]

    def apply(self):
        for name, param in self.model.named_parameters():
            self.backup[name] = param.data
            param.data = self.shadow[name]

    def restore(self):
        for name, param in self.model.named_parameters():
            param.data = self.backup[name]


model = nn.Linear(3, 2)
ema = EMA(model)
ema.register()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = model(torch.ones(2, 3)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ema.update()
    ema.apply()
    ema.restore()
"""


def test_weights_whose_data_is_given_another_tensor_are_copies_by_then():
    assert torch2mlx.port(EMA).ok


def test_reports_say_the_lines_of_steps_behind_what_is_written_out():
    source = """import torch
import torch.nn as nn

net = nn.Linear(3, 2)
params = list(net.parameters())
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def alone(x):
    loss = net(x).sum()
    loss.backward()


for x in torch.randn(4, 2, 3):
    opt.zero_grad()
    loss = net(x).mean() + sum(p.square().sum() for p in params)
    loss.backward()
    opt.step()
"""
    ported = torch2mlx.port(source)
    assert [one.line for one in ported.unsupported] == [11]
    lines = {change.what: change.line for change in ported.changes}
    assert lines["params"] == 5 and lines["backward"] == 17
    assert min(lines.values()) == 4
