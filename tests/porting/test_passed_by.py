"""Parameters that a step leaves out stay as they are, moments and decay too, as in torch.

Each source is run in torch, ported, and run in MLX from the same weights; losses and all parameters
are compared.
"""

import numpy as np
import pytest

from tests.porting.test_steps import batches, both
from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

import torch2mlx
from torch2mlx import kit

HEAD = """
import random
import torch
import torch.nn as nn
"""
#: What a model is, and how it is called in the i-th of some steps.
MODELS = {
    "a branch": (
        "        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)\n"
        "        self.deep = nn.Linear(3, 3)",
        "    def forward(self, x, deep):\n        x = torch.tanh(self.one(x))\n"
        "        if deep:\n            x = self.deep(x)\n        return self.two(x)",
        "model(x, i % 3 == 2)",
    ),
    "a branch of a method": (
        "        self.one = nn.Linear(3, 3)\n        self.scale = nn.Parameter(torch.ones(3))",
        "    def more(self, x):\n        return x * self.scale\n\n"
        "    def forward(self, x, i):\n        x = self.one(x)\n"
        "        return x if i % 2 else self.more(x)",
        "model(x, i)",
    ),
    "experts": (
        "        self.gate = nn.Linear(3, 4)\n"
        "        self.experts = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])",
        "    def forward(self, x):\n        top, chosen = self.gate(x).softmax(-1).max(dim=-1)\n"
        "        out = torch.zeros_like(x)\n"
        "        for n, expert in enumerate(self.experts):\n            mask = chosen == n\n"
        "            if mask.any():\n"
        "                out[mask] += top[mask].unsqueeze(-1) * expert(x[mask])\n"
        "        return out",
        "model(x)",
    ),
    "layers that are dropped": (
        "        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])\n"
        "        self.last = nn.Linear(3, 3)",
        "    def forward(self, x, draw: random.Random):\n        for layer in self.layers:\n"
        "            if self.training and draw.random() < 0.5:\n                continue\n"
        "            x = x + torch.tanh(layer(x))\n        return self.last(x)",
        "model(x, draw)",
    ),
    "a loop of as many rounds as are drawn": (
        "        self.one, self.again = nn.Linear(3, 3), nn.Linear(3, 3)",
        "    def forward(self, x, draw: random.Random):\n        x = self.one(x)\n"
        "        for _ in range(draw.randint(0, 2)):\n            x = torch.tanh(self.again(x))\n"
        "        return x",
        "model(x, draw)",
    ),
}
OPTIMIZERS = {
    "AdamW": "torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)",
    "SGD": "torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)",
}
RUN = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
{init}

{forward}

torch.manual_seed(0)
model = Net()
opt = {optimizer}

def run(xs):
    out, draw = [], random.Random(1)
    for i, x in enumerate(xs):
        loss = {call}.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
"""


def _compare(source, folder):
    theirs, ours, text = both(source, folder)
    xs, ys = batches(7, (3, 3))
    np.testing.assert_allclose(theirs.run(xs), ours.run(ys), rtol=1e-4)
    found = dict(tree_flatten(ours.model.parameters()))
    for name, p in theirs.model.named_parameters():
        np.testing.assert_allclose(found[name], p.detach().numpy(), atol=2e-6, err_msg=name)
    return text


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_what_a_step_passes_by_stays_as_it_is(name, optimizer, tmp_path):
    init, forward, call = MODELS[name]
    made = RUN.format(init=init, forward=forward, call=call, optimizer=OPTIMIZERS[optimizer])
    _compare(HEAD + made, tmp_path)


def test_a_module_that_some_steps_add_to_the_loss(tmp_path):
    source = HEAD + (
        "torch.manual_seed(0)\nmodel = nn.ModuleDict({'one': nn.Linear(3, 3)})\n"
        "one, aux = nn.Linear(3, 3), nn.Linear(3, 1)\n"
        "opt = torch.optim.Adam([*one.parameters(), *aux.parameters()], lr=0.01)\n\n"
        "def run(xs):\n    out = []\n    for i, x in enumerate(xs):\n"
        "        y = one(x)\n        loss = y.pow(2).mean()\n"
        "        if i % 3 == 0:\n            loss = loss + aux(y).pow(2).mean()\n"
        "        opt.zero_grad()\n        loss.backward()\n        opt.step()\n"
        "        out.append(loss.item())\n    return out\n"
    )
    theirs, ours, _ = both(source, tmp_path, ("one", "aux"))
    xs, ys = batches(7, (3, 3))
    np.testing.assert_allclose(theirs.run(xs), ours.run(ys), rtol=1e-4)
    for name in ("one", "aux"):
        weight = getattr(theirs, name).weight.detach().numpy()
        np.testing.assert_allclose(getattr(ours, name).weight, weight, atol=2e-6)


@pytest.mark.parametrize(
    ("init", "forward"),
    [
        (
            "        self.one = nn.Linear(3, 3)",
            "    def forward(self, x):\n        return self.one(x)",
        ),
        (
            "        self.one, self.on = nn.Linear(3, 3), True",
            "    def forward(self, x):\n        if self.on:\n            x = self.one(x)\n"
            "        return x",
        ),
        (
            "        self.one, self.two = nn.Linear(3, 3), None",
            "    def forward(self, x, y=None):\n        if y is None:\n"
            "            return self.one(x)\n        else:\n            return self.one(x + y)",
        ),
        (
            "        self.layers = nn.ModuleList([nn.Linear(3, 3)])",
            "    def forward(self, x):\n        for i, layer in enumerate(self.layers):\n"
            "            x = layer(x)\n            if i < len(self.layers):\n"
            "                x = torch.tanh(x)\n        return x",
        ),
    ],
)
def test_a_forward_that_calls_all_has_the_gradient_of_mlx(init, forward):
    made = RUN.format(init=init, forward=forward, call="model(x)", optimizer=OPTIMIZERS["AdamW"])
    text = torch2mlx.port(HEAD + made).source
    assert "nn.value_and_grad" in text
    assert "optim.AdamW" in text


def test_an_optimizer_that_a_zero_does_not_move_needs_no_more():
    init, forward, call = MODELS["a branch"]
    plain = "torch.optim.SGD(model.parameters(), lr=0.1)"
    made = RUN.format(init=init, forward=forward, call=call, optimizer=plain)
    assert "kit.reached" not in torch2mlx.port(HEAD + made).source


def test_gradients_of_what_was_reached_add_up():
    one, two = {"a": mx.ones(2), "b": [{}, {"c": mx.ones(1)}]}, {"b": [{"c": mx.ones(1)}, {}]}
    added = kit.training.add(one, two)
    assert sorted(name for name, _ in tree_flatten(added)) == ["a", "b.0.c", "b.1.c"]
    assert kit.training.add(added, one)["a"].tolist() == [2, 2]


def test_a_model_has_its_own_arrays_after_the_gradient():
    model = nn.Linear(2, 2)
    weight = model.weight
    _, grads = kit.reached.value_and_grad(model, lambda: model.weight.sum())()
    assert sorted(grads) == ["weight"]
    assert mx.array_equal(model.weight, weight)
    with pytest.raises(ZeroDivisionError):
        kit.reached.value_and_grad(model, lambda: 1 / 0)()


def test_a_module_in_two_that_are_trained_together_is_told():
    class Net(nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.shared, self.own = shared, [nn.Linear(2, 2)]

    shared = nn.Linear(2, 2)
    kit.training.Group(Net(shared), Net(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="a Linear is part of two modules"):
        kit.training.Group(Net(shared), Net(shared))
