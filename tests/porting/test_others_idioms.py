"""Idioms of scripts by others: names that hide the file's, optimizers by name, devices."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")
import torch

import torch2mlx
from tests.porting.compare import assert_trains_alike, both, executed, give_weights

HIDING = """
import sys

import numpy as np
import torch

x = torch.arange(6).reshape(2, 3)
count = 0


def joined(n):
    global count
    count = count + 1
    x = np.r_[np.ones(n), np.zeros(n)]
    return x.repeat(2), x.max(0)


def columns(n):
    x = np.c_[np.ones(n), np.zeros(n)]
    return x.repeat(2)


def outer():
    return x.repeat(2, 1).tolist(), count
"""


@pytest.mark.parametrize("n", [2, 3])
def test_what_a_function_binds_is_its_own(n):
    ours, theirs = both(HIDING, "hiding")
    for name in ("joined", "columns"):
        for found, wanted in zip(
            np.atleast_2d(getattr(ours, name)(n)[0]), np.atleast_2d(theirs[name](n)[0]), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)
    assert ours.outer() == theirs["outer"]()


@pytest.mark.parametrize(
    "body",
    [
        "def f(arrays):\n    return [x.repeat(2) for x in arrays]",
        "def f(arrays):\n    x = other(arrays)\n    return x.repeat(2)",
    ],
)
def test_a_name_that_hides_a_tensor_of_the_file_is_asked_about(body):
    made = torch2mlx.port(
        f"import torch\nfrom here import other\n\nx = torch.ones(3)\n\n\n{body}\n"
    )
    assert [q.id for q in made.questions] == ["f.x"]


NAMED = """
import torch
import torch.nn as nn
import torch.optim as optim

KIND, OPTIONS = {kind!r}, {options!r}
net, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = getattr(optim, KIND)({parameters}, lr=0.05, **OPTIONS)


def train(xs):
    for x in xs:
        x = torch.tensor(x)
        optimizer.zero_grad()
        loss = (head(net(x)) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        optimizer.step()
"""
ALL = "list(net.parameters()) + list(head.parameters())"
GROUPS = "[{'params': net.parameters()}, {'params': head.parameters(), 'lr': 0.01}]"


@pytest.mark.parametrize(
    ("kind", "options", "parameters"),
    [
        ("SGD", {"momentum": 0.9}, ALL),
        ("SGD", {}, GROUPS),
        ("RMSprop", {}, ALL),
    ],
)
def test_an_optimizer_by_its_name_steps_as_torchs(kind, options, parameters, tmp_path):
    text = NAMED.format(kind=kind, options=options, parameters=parameters)
    text = text.replace(", **OPTIONS", "".join(f", {k}={v}" for k, v in options.items()))
    assert_trains_alike(text, "named", tmp_path)


@pytest.mark.parametrize(
    "made",
    ["getattr(optim, KIND)(net.parameters(), 0.1, 0.9)", "(getattr(optim, KIND), 3)[0]"],
)
def test_what_differs_by_the_name_of_an_optimizer_is_refused(made):
    text = f"import torch.optim as optim\n\n\ndef f(net, KIND):\n    return {made}\n"
    assert torch2mlx.port(text).unsupported


def test_an_optimizer_without_counterpart_is_named():
    from torch2mlx import kit

    with pytest.raises(NotImplementedError, match="SparseAdam"):
        kit.optimizers.named("SparseAdam")


BRANCHES = """
import torch
import torch.nn as nn
from torch.autograd import grad

use_cuda = False
net, head = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), nn.Linear(3, 1)
net, head = net[0], head
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.05)


def train(xs):
    for x in xs:
        x = torch.tensor(x)
        optimizer.zero_grad()
        x_hat = x * 2
        x_hat.requires_grad = True
        out = head(torch.tanh(net(x_hat)))
        if use_cuda:
            slopes = grad(outputs=out, inputs=x_hat,
                          grad_outputs=torch.ones(out.size()).cuda(), create_graph=True)[0]
        else:
            # on the CPU
            slopes = grad(outputs=out, inputs=x_hat, grad_outputs=torch.ones(out.size()),
                          create_graph=True)[0]
        loss = ((slopes.view(slopes.size()[0], -1).norm(2, 1) - 1) ** 2).mean()
        if not use_cuda:
            loss = loss + out.mean()
        elif use_cuda:
            loss = loss.cuda()
        else:
            loss = loss
        loss.backward()
        optimizer.step()
"""


def test_branches_that_differ_by_devices_are_one(tmp_path):
    assert_trains_alike(BRANCHES, "branches", tmp_path)


def test_branches_that_differ_by_more_stay():
    text = "import torch\n\n\ndef f(x, big):\n    if big:\n        x = x.cuda() + 1\n"
    text += "    else:\n        x = x + 2\n    return x\n"
    made = torch2mlx.port(text).source
    assert "if big" in made and "x + 1" in made and "x + 2" in made


FILLED = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 2)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


def assign(left, right):
    if left.shape != right.shape:
        raise ValueError("shapes differ")
    with torch.no_grad():
        left.copy_(torch.as_tensor(right))
    return left


def load(net, params):
    net.conv.weight = assign(net.conv.weight, params["conv"])
    net.head.weight = assign(net.head.weight, params["head"])
    net.head.bias = assign(net.head.bias, params["bias"])
    return net


def run(x, params):
    net = load(Net(), params)
    with torch.no_grad():
        net.conv.bias.fill_(0.5)
    return net(torch.tensor(x)).tolist()
"""


@pytest.mark.parametrize("batch", [1, 4])
def test_a_parameter_that_a_function_fills_and_gives_back_is_itself(batch):
    made = torch2mlx.port(FILLED)
    assert not made.unsupported
    draws = np.random.default_rng(0)
    sizes = {"conv": (3, 2, 2), "head": (2, 6), "bias": (2,)}
    params = {k: draws.standard_normal(size).astype(np.float32) for k, size in sizes.items()}
    x = draws.standard_normal((batch, 2, 3)).astype(np.float32)
    theirs: dict = {}
    exec(FILLED, theirs)
    given = {k: torch.tensor(v) for k, v in params.items()}
    import mlx.core as mx

    ours = executed(made.source, "filled")
    found = ours.run(mx.array(x), {k: mx.array(v) for k, v in params.items()})
    np.testing.assert_allclose(found, theirs["run"](x, given), rtol=1e-5, atol=1e-6)


RATES = """
import torch
import torch.nn as nn


class Trainer:
    def __init__(self):
        self.opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)

    def step(self, x):
        self.opt.zero_grad()
        loss = (head(net(x)) ** 2).mean()
        loss.backward()
        self.opt.step()
        self.opt.param_groups[0]["lr"] = max(self.opt.param_groups[0]["lr"] / 2.0, 0.03)


net, head = nn.Linear(4, 3), nn.Linear(3, 1)
trainer = Trainer()


def train(xs):
    for x in xs:
        trainer.step(torch.tensor(x))
"""


def test_a_rate_that_an_object_halves_is_halved(tmp_path):
    assert_trains_alike(RATES, "rates", tmp_path)


EMPTY = """
import torch


def gather(xs):
    out = torch.tensor([])
    ids = torch.LongTensor()
    sums = torch.zeros(0)
    both = torch.cat((torch.tensor([]), torch.arange(2)))
    for x in xs:
        x = torch.tensor(x)
        out = torch.cat((out, x), 0)
        ids = torch.cat([ids, (x * 9).long()[:, 0]])
        sums = torch.cat([x.sum(1), sums])
    return out, ids, sums, both, torch.cat([torch.FloatTensor(), torch.Tensor([])], dim=0)
"""


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1, 2)])
def test_what_starts_without_items_is_passed_over_when_joined(shape):
    ours, theirs = both(EMPTY, "empty")
    xs = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for found, wanted in zip(ours.gather(xs), theirs["gather"](xs), strict=True):
        assert tuple(found.shape) == tuple(wanted.shape)
        assert str(found.dtype).rpartition(".")[2] == str(wanted.dtype).rpartition(".")[2]
        np.testing.assert_allclose(np.array(found), wanted.numpy(), rtol=1e-6)


GROWN = """
import torch
import torch.nn as nn

net, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.05)


def train(xs):
    for x in xs:
        optimizer.zero_grad()
        seen = torch.FloatTensor()
        for row in torch.tensor(x):
            seen = torch.cat((seen, torch.tanh(net(row)).unsqueeze(0)), 0)
        loss = head(seen).pow(2).mean()
        loss.backward()
        optimizer.step()
"""


def test_what_grows_from_nothing_has_its_gradient(tmp_path):
    assert_trains_alike(GROWN, "grown", tmp_path)


CLIPPED_FIRST = """
import torch
import torch.nn as nn

net, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.05)


def train(xs):
    for x in xs:
        x = torch.tensor(x)
        optimizer.zero_grad()
        loss = (head(net(x)) - x.sum(1, keepdim=True)).pow(2).mean()
        if len(xs) > 0:
            torch.nn.utils.clip_grad_norm_([*net.parameters(), *head.parameters()], 0.01)
        loss.backward()
        optimizer.step()
"""


def test_a_clip_before_the_backward_clips_nothing(tmp_path):
    assert_trains_alike(CLIPPED_FIRST, "clipped_first", tmp_path)


LOGGED = """
import torch
from unknown_losses import loss_of


def train(net, xs):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    told = []
    for x in xs:
        optimizer.zero_grad()
        loss = loss_of(net, torch.tensor(x)).mean()
        loss.backward()
        optimizer.step()
        told.append(f"{loss.data:.3f}")
    return told
"""


@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_differentiated_is_a_tensor(batch, tmp_path, monkeypatch):
    import types

    import mlx.nn as nn

    losses = types.ModuleType("unknown_losses")
    losses.loss_of = lambda net, x: net(x) * net(x)
    monkeypatch.setitem(sys.modules, "unknown_losses", losses)
    ours, theirs = both(LOGGED, "logged")
    net, twin = torch.nn.Linear(4, 3), nn.Linear(4, 3)
    give_weights(twin, net, tmp_path)
    xs = np.random.default_rng(0).standard_normal((3, batch, 4)).astype(np.float32)
    assert ours.train(twin, xs) == theirs["train"](net, xs)


FILLED_WHOLE = """
import torch


def fill(values):
    places = torch.zeros(3, dtype=torch.int64)
    found = []
    for value in torch.tensor(values):
        places.fill_(value)
        found.append(torch.arange(9)[places].tolist())
    return found, str(places.dtype).rpartition(".")[2]
"""


@pytest.mark.parametrize("values", [[2.0, 4.0], [7.0]])
def test_what_is_filled_keeps_its_dtype(values):
    ours, theirs = both(FILLED_WHOLE, "filled_whole")
    assert ours.fill(values) == theirs["fill"](values)
