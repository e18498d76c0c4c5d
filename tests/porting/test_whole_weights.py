"""Weights as a whole: as a vector, drawn anew, set by name, in methods of another `self`."""

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from torch2mlx import kit
from torch2mlx.errors import Code

HEAD = """
import copy

import torch
import torch.nn as nn
import torch.nn.utils as U


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


def fill(model):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(numbers(*p.shape) * 0.3)
    return model


out = []
"""
MODEL = """
model = fill(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 1)))
"""
TRAIN = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for step in range(4):
    x = numbers(SIZES) * (step + 1)
    loss = (model(x) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    out.append(loss.item())
"""
#: Programs whose list `out` is the same in both.
RIGHT = {
    "parameters as a vector": MODEL
    + TRAIN.replace("SIZES", "5, 3")
    + """
out.append(U.parameters_to_vector(model.parameters()))
""",
    "an average of vectors": MODEL
    + """
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
avg = U.parameters_to_vector(model.parameters()).detach().clone()
for step in range(4):
    x = numbers(5, 3) * (step + 1)
    loss = (model(x) - 1).pow(2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
    avg = 0.9 * avg + 0.1 * U.parameters_to_vector(model.parameters()).detach()
    out.append(loss.item())
    out.append(avg)
U.vector_to_parameters(avg, model.parameters())
out.append(model(x).sum())
""",
    "a vector into a convolution": """
model=fill(nn.Sequential(nn.Conv2d(2,3,2),nn.Flatten(),nn.Linear(12,1)))
v = U.parameters_to_vector(model.parameters())
out.append(v)
U.vector_to_parameters(numbers(v.numel()), model.parameters())
out.append(model(numbers(2,2,3,3)))
""",
    "a layer reset": MODEL
    + """
model[0].reset_parameters()
out.append(model[0].weight.shape[0])
fill(model)
"""
    + TRAIN.replace("SIZES", "5, 3"),
    "layers reset by apply": MODEL
    + """
def reset(m):
    if hasattr(m, "reset_parameters"):
        m.reset_parameters()
before = model[0].weight.clone()
model.apply(reset)
out.append(float((before - model[0].weight).abs().max() > 0))
fill(model)
"""
    + TRAIN.replace("SIZES", "5, 3"),
    "layers reset in a loop": MODEL
    + """
before = model[0].weight.clone()
for layer in model.children():
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
out.append(float((before - model[0].weight).abs().max() > 0))
fill(model)
"""
    + TRAIN.replace("SIZES", "5, 3"),
    "a reset of one's own": """
class L(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 2))
        self.lin = nn.Linear(3, 2)
        self.reset_parameters()
    def reset_parameters(self):
        nn.init.constant_(self.weight, 0.5)
        self.lin.reset_parameters()
    def forward(self, x):
        return x @ self.weight + 0 * self.lin(x)
model = L()
out.append(model.weight)
model.weight.data.fill_(2)
model.reset_parameters()
out.append(model(numbers(2, 3)))
""",
    "setattr of a weight": MODEL
    + """
setattr(model[0], 'weight', nn.Parameter(torch.full((3, 3), 0.2)))
"""
    + TRAIN.replace("SIZES", "5, 3"),
    "setattr of a convolution": """
model = fill(nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(6, 1)))
setattr(model[0], 'weight', nn.Parameter(numbers(3, 2, 2)))
out.append(model(numbers(2,2,3)))
""",
    "setattr by a variable": """
conv = fill(nn.Conv1d(2, 3, 2))
for n in ('weight', 'bias'):
    setattr(conv, n, nn.Parameter(getattr(conv, n) * 2))
out.append(conv(numbers(2,2,3)))
""",
    "names of all weights": """
l = fill(nn.LSTM(2, 3, 2))
for names in l._all_weights:
    for n in names:
        out.append(getattr(l, n).sum())
""",
    "all weights": """
l = fill(nn.LSTM(2, 3, 2))
for ws in l.all_weights:
    for w in ws:
        out.append(w.sum())
""",
    "forget gates": """
l = nn.GRU(2, 3)
for names in l._all_weights:
    for name in filter(lambda n: "bias" in n, names):
        bias = getattr(l, name)
        n = bias.size(0)
        bias.data.fill_(0.)
        bias.data[n // 4:n // 2].fill_(1.)
for n, p in l.named_parameters():
    if "weight" in n:
        p.data.fill_(0.1)
out.append(l(numbers(4, 1, 2))[0])
""",
    "this": """
class N(nn.Module):
    def __init__(this):
        super().__init__()
        this.c = nn.Conv1d(2, 3, 2)
        this.l = nn.Linear(6, 1)
    def forward(this, x):
        return this.l(torch.relu(this.c(x)).flatten(1))
model = fill(N())
"""
    + TRAIN.replace("SIZES", "5, 2, 3"),
    "another self": """
class N(nn.Module):
    def __init__(s):
        super(N, s).__init__()
        s.c = nn.Conv2d(1, 2, 2)
        s.bn = nn.BatchNorm2d(2)
        s.register_buffer("b", torch.ones(1))
        s.w = nn.Parameter(torch.zeros(2, 1, 1))
        s.t = torch.ones(3)
    def forward(s, x):
        return (s.bn(s.c(x)) + s.w + s.b).mean((1, 2, 3)) + s.t.sum()
model = fill(N())
"""
    + TRAIN.replace("SIZES", "5, 1, 3, 3")
    + """
out.append(len(list(model.parameters())))
""",
    "data of its own": MODEL
    + """
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = (model(numbers(5,3)) - 1).pow(2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
    for p in model.parameters():
        p.data = p.data.clamp(-0.2, 0.2)
    model[0].weight.data = model[0].weight.data.float()
    out.append(loss.item())
out.append(model[0].weight)
""",
    "a soft update": MODEL
    + """
target = copy.deepcopy(model)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = (model(numbers(5,3)) - 1).pow(2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
    for t, p in zip(target.parameters(), model.parameters()):
        t.data = 0.9 * t.data + 0.1 * p.data
    out.append(target(numbers(5,3)).sum().item())
""",
}
#: Two weights that share their numbers from then on.
REFUSED = {
    "a weight's data in another": MODEL
    + """
model[2].weight.data = model[0].weight.data
"""
    + TRAIN.replace("SIZES", "5, 3"),
    "a loop of them": MODEL
    + """
target = copy.deepcopy(model)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = (model(numbers(5,3)) - 1).pow(2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
    if step == 1:
        for t, p in zip(target.parameters(), model.parameters()):
            t.data = p.data
    out.append(target(numbers(5,3)).sum().item())
""",
}


def _flat(value):
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in _flat(item)]
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    return list(np.array(value, np.float64).reshape(-1))


@pytest.mark.parametrize("name", RIGHT)
def test_programs_make_the_same_numbers(name):
    text = HEAD + RIGHT[name]
    ported = torch2mlx.port(text)
    assert ported.ok, ported.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    ours = executed(ported.source, "whole")
    np.testing.assert_allclose(_flat(ours.out), _flat(theirs["out"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_share_their_numbers_are_refused(name):
    left = torch2mlx.port(HEAD + REFUSED[name]).unsupported
    assert [u.code for u in left if "the very numbers of another" in u.detail] == [Code.UNCLEAR]


def test_a_vector_into_a_list_of_arrays_is_refused():
    text = HEAD + MODEL + "ps = list(model.parameters())\nU.vector_to_parameters(numbers(28), ps)\n"
    [left] = torch2mlx.port(text).unsupported
    assert left.where == "torch.nn.utils.vector_to_parameters"


#: Layers of torch and of the kit; their arrays are drawn by the same rules.
LAYERS = {
    "Linear": ((40, 30), {}),
    "Bilinear": ((10, 20, 30), {}),
    "Conv1d": ((8, 24, 5), {"groups": 2}),
    "Conv2d": ((8, 12, 3), {}),
    "ConvTranspose2d": ((8, 12, 3), {"groups": 2}),
    "Embedding": ((50, 20), {"padding_idx": 3}),
    "LSTM": ((12, 200), {"num_layers": 2}),
    "GRU": ((12, 200), {}),
    "RNNCell": ((12, 200), {}),
    "BatchNorm1d": ((6,), {}),
    "LayerNorm": ((6,), {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_draw_what_torchs_draw(name):
    args, more = LAYERS[name]
    theirs = getattr(torch.nn, name)(*args, **more)
    theirs.reset_parameters()
    made = torch2mlx.port(f"import torch.nn as nn\nlayer = nn.{name}(*{args}, **{more})\n")
    layer = executed(made.source, "layer").layer
    before = {n: np.array(a) for n, a in kit.training.named_parameters(layer)}
    assert kit.resetting.can(layer)
    kit.resetting.reset(layer)
    for key, array in kit.training.named_parameters(layer):
        ours, other = np.array(array), theirs.state_dict()[key].numpy()
        assert ours.shape == other.shape and ours.shape == before[key].shape
        np.testing.assert_allclose(ours.std(), other.std(), rtol=0.3, atol=1e-6)
        np.testing.assert_allclose(np.abs(ours).max(), np.abs(other).max(), rtol=0.3)
        if np.ptp(other):
            assert not np.array_equal(ours, before[key])
    if name == "Embedding":
        assert not np.array(layer.weight[3]).any()


def test_what_has_no_first_weights_says_so():
    layer = executed("from torch2mlx import kit\nlayer = kit.layers.Flatten()\n", "none").layer
    assert not kit.resetting.can(layer)
    with pytest.raises(AttributeError, match="Flatten has no reset_parameters"):
        kit.resetting.reset(layer)


def test_the_smaller_of_what_may_be_two_tensors_or_one_and_an_axis():
    body = "import torch\n\n\ndef f(a, b):\n    return torch.min(a, b), torch.max(b, a)\n"
    ported = torch2mlx.port(body)
    ours = executed(ported.source, "pairs").f
    for shape in ((3,), (2, 4)):
        a, b = np.random.rand(*shape).astype("f4"), np.random.rand(*shape).astype("f4")
        low, high = ours(mx.array(a), mx.array(b))
        np.testing.assert_array_equal(np.array(low), np.minimum(a, b))
        np.testing.assert_array_equal(np.array(high), np.maximum(a, b))
    values, places = kit.tensors.smallest(mx.array([[3.0, 1.0]]), 1)
    assert values.tolist() == [1.0] and places.tolist() == [1]
