"""Each step is compared from torch's weights: rounding does not add up, and items that turn over a
kink are told from faults; one parameter under two names is one."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "libcst", "safetensors")

import torch

import torch2mlx
from tests.lockstep.judges import Judge
from torch2mlx.lockstep.kinks import LEVELS, Kinks, turned
from torch2mlx.lockstep.pairing import paired

#: Adam divides the gradient of a bias before a norm, which is zero but for rounding, by its size.
AMPLIFIES = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Embedding(3, 4)  # has no gradient in torch, and zeros in MLX
        self.body = nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.LeakyReLU(0.2))
        self.last = nn.Linear(64, 6)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.last(self.body(x)) * self.scale


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(6):
    x = torch.randn(16, 6)
    loss = (net(x) - x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
TIED = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.put = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.put.weight = self.out.weight

    def forward(self, x):
        return self.out(self.put(x))


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
for _ in range(3):
    loss = net(torch.randint(0, 7, (5,))).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


FREE = """
import torch
import torch.nn as nn

net = nn.Linear(3, 3)
scale = torch.zeros(1, requires_grad=True)
first = torch.optim.SGD(net.parameters(), lr=0.1)
second = torch.optim.Adam([scale], lr=0.1)
for _ in range(3):
    x = torch.randn(4, 3)
    loss = net(x).pow(2).mean()
    first.zero_grad()
    loss.backward()
    first.step()
    other = (net(x).detach() * scale.exp() - 1).pow(2).mean()
    second.zero_grad()
    other.backward()
    second.step()
"""


GROUPS = """
import torch
import torch.nn as nn

net = nn.Linear(3, 3)
decayed = [p for p in net.parameters() if p.dim() > 1]
others = [p for p in net.parameters() if p.dim() < 2]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "lr": 0.05}]
optimizer = torch.optim.AdamW(groups, lr=0.1)
for _ in range(4):
    loss = net(torch.randn(4, 3)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


FOLDS = """
import torch
import torch.nn as nn

for fold in range(2):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1 * (1 + fold))
    for _ in range(2):
        loss = net(torch.randn(4, 3)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
HELD = """
import copy
import torch
import torch.nn as nn


class Average:
    def __init__(self, net):
        self.net = copy.deepcopy(net)


net = nn.Linear(3, 2)
average = Average(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    x = torch.randn(4, 3)
    with torch.no_grad():
        wanted = average.net(x) + 1
    loss = (net(x) - wanted).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
EVALUATED = """
import torch
import torch.nn as nn

net = nn.Linear(3, 2)
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=2)
x = torch.randn(6, 3)


def closure():
    optimizer.zero_grad()
    loss = (net(x) - x[:, :2]).pow(2).mean()
    loss.backward()
    return loss


for _ in range(3):
    optimizer.step(closure)
"""


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
    """What is said of a script and its port, in which some text is another."""
    folder = tmp_path_factory.mktemp("judged")
    judge = Judge(folder / "recorded", 6)

    def judged(text, old="", new=""):
        script = folder / f"torch_{len(text)}.py"
        script.write_text(text)
        source = torch2mlx.port(script).source
        assert old in source
        ported = folder / f"mlx_{len(text)}.py"
        ported.write_text(source.replace(old, new))
        return judge.verdict(script, ported)

    return judged


def test_what_rounding_does_in_one_step_does_not_add_up(verdict):
    found = verdict(AMPLIFIES)
    assert found.ok, str(found)
    assert len(found.steps) == 6
    assert max(step.differences["outputs"] for step in found.steps) < 2e-5


def test_what_is_wrong_from_a_later_step_on_is_still_seen(verdict):
    step = "    optimizer.update(net, grads)\n"
    late = "    if _ > 2:\n        net.last.bias = net.last.bias * 1.001\n"
    found = verdict(AMPLIFIES, step, step + late)
    assert not found.ok and found.first.step == 5, str(found)


def test_a_parameter_that_no_module_holds_is_compared(verdict):
    found = verdict(FREE)
    assert found.ok, str(found)
    assert len(found.steps) == 6
    wrong = verdict(FREE, "learning_rate=0.1, bias", "learning_rate=0.2, bias")
    assert (wrong.first.kind, wrong.first.step) == ("schedule", 2)


def test_models_that_are_made_later_are_compared_from_their_first_step_on(verdict):
    found = verdict(FOLDS)
    assert found.ok, str(found)
    assert [step.differences["updates"] < 1e-3 for step in found.steps] == [True] * 4
    wrong = verdict(FOLDS, "0.1 * (1 + fold)", "0.1 * (1 + fold * 0.5)")
    assert wrong.first.step == 3, str(wrong)


def test_a_copy_that_an_object_of_the_script_holds_has_the_first_weights(verdict):
    found = verdict(HELD)
    assert found.ok, str(found)


def test_a_step_that_evaluates_the_loss_several_times_is_one(verdict):
    found = verdict(EVALUATED)
    assert found.ok, str(found)
    assert len(found.steps) == 3
    wrong = verdict(EVALUATED, "lr=0.5", "lr=0.4")
    assert not wrong.ok


def test_an_optimizer_of_groups_makes_all_steps(verdict):
    found = verdict(GROUPS)
    assert found.ok, str(found)
    assert len(found.steps) == 4


def test_a_tied_parameter_has_its_array(verdict):
    found = verdict(TIED)
    assert found.ok, str(found)
    assert len(found.steps) == 3


@pytest.mark.parametrize(
    "name, args",
    [
        ("relu_", ()),
        ("leaky_relu", (0.2,)),
        ("abs", ()),
        ("threshold", (0.0, 1.0)),
        ("clamp", (0.0, None)),
        ("hardtanh", (0.0, 6.0)),
        ("maximum", (torch.zeros(1000),)),
    ],
)
def test_items_beside_a_kink_are_counted(name, args):
    for near, share in ((0.0, 0.0), (2e-6, 0.003), (2e-2, 0.003)):
        x = torch.full((1000,), 2.0)
        x[:3] = near
        kinks = Kinks()
        kinks.see(name, (x, *args))
        found = kinks.taken()
        for level, counted in zip(LEVELS, found, strict=True):
            assert np.isclose(counted, share if level > near / 2 else 0.0)
        assert not any(kinks.taken())


def test_operators_without_kinks_and_those_outside_of_training_count_nothing():
    kinks, x = Kinks(), torch.full((4,), 1e-9)
    kinks.see("gelu", (x,))
    with torch.no_grad():
        kinks.see("relu", (x,))
    kinks.see("abs", (torch.zeros(3, dtype=torch.int64),))
    assert not any(kinks.taken())


def test_as_many_items_may_turn_as_lie_within_what_values_are_apart():
    near = [float(place) for place in range(len(LEVELS))]
    assert turned(near, 1e-9) == 0.0
    assert turned(near, 1e-6) == near[4]  # 1e-5 is within 20 times that
    assert turned(near, 1e-1) == near[-1]


def test_calls_that_agree_belong_together_in_any_order():
    """Where MLX runs what needs no gradient first, and where one call of two is another."""
    both = SimpleNamespace(modules={(0, "net"): (0, "net")})

    def calls(*values):
        return [{"root": 0, "path": "net", "x": value} for value in values]

    def same(number, theirs, ours):
        return theirs["x"] == ours["x"]

    def chosen(torchs, mlxs):
        return [ours["x"] for _, _, ours in paired(both, calls(*torchs), calls(*mlxs), same)]

    assert chosen((1, 2), (2, 1)) == [1, 2]
    assert chosen((1, 1, 2), (1, 2, 1)) == [1, 1, 2]
    assert chosen((1, 2, 3), (9, 3, 2)) == [9, 2, 3]
    assert chosen((1, 2), (7, 8)) == [7, 8]
    assert chosen((1, 2), (1, 1, 2)) == [1, 2]


SHARED = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.body = nn.Sequential(self.first, nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x):
        return self.body(x)


model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
for _ in range(3):
    x = torch.randn(5, 3)
    loss = model(x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_module_at_two_places_of_another_is_compared_once(verdict):
    found = verdict(SHARED)
    assert found.ok, str(found)
    assert len(found.steps) == 3
