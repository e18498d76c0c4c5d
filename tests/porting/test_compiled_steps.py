"""Which training steps of a port are compiled, how they are written, and that they learn alike."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from tests.porting.compare import executed, give_weights
from torch2mlx.kit import compiling

HEAD = """
import random
import torch
import torch.nn as nn
import torch.nn.functional as F
"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.seen = []
    def forward(self, x):
        return self.fc(x)
"""
LOOP = """
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
def run(xs):
    out = []
    for i, x in enumerate(xs):
        opt.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
"""


def steps(result):
    """What the report says of the steps."""
    return [c.why for c in result.changes if c.what == "step" and "compiled" in c.why]


def test_a_step_stands_before_its_loop_and_is_called_in_it():
    result = torch2mlx.port(HEAD + NET + LOOP)
    assert steps(result) == ["compiled, with the state of model, opt: mx.compile traces it once"]
    assert (
        """    out = []

    @kit.compiled(model, opt)
    def step(x):
        def loss_fn():
            loss = (model(x) ** 2).mean()
            return loss
        loss, grads = nn.value_and_grad(model, loss_fn)()
        opt.update(model, grads)
        return loss

    for i, x in enumerate(xs):
        loss = step(x)
        mx.eval(model.parameters(), opt.state)
        out.append(loss.item())
"""
        in result.source
    )


IN_FORWARD = {
    "self.calls = 1": "keeps state in self.calls in Net.__call__()",
    "self.seen.append(1)": "changes self.seen (.append()) in Net.__call__()",
    "print(x.shape)": "calls print() in Net.__call__()",
    "x = x * random.random()": "calls random.random() in Net.__call__()",
    "x = x * x.mean().item()": "reads numbers of arrays (.item()) in Net.__call__()",
    "unknown.log(x)": "calls .log(), of which nothing is known",
}


@pytest.mark.parametrize("line", [line for line in IN_FORWARD if "unknown" not in line])
def test_a_forward_pass_that_does_more_than_compute_is_not_compiled(line):
    net = NET.replace("        return self.fc(x)", f"        {line}\n        return self.fc(x)")
    result = torch2mlx.port(HEAD + net + LOOP)
    (why,) = steps(result)
    assert why == f"not compiled: it {IN_FORWARD[line]}"
    assert f"        # torch2mlx: {why}\n        def loss_fn():" in result.source
    assert "kit.compiled" not in result.source


STEP = "        loss = model(x).pow(2).mean()\n"
IN_STEP = {
    STEP + "        loss = loss * float(loss.item() > 0)\n": "reads numbers of arrays (.item())",
    STEP
    + "        loss = loss + weight(i) * model(x).mean()\n": "calls random.random() in weight()",
    STEP + "        loss = loss * scale_of(x).mean()\n": "reads rate, which may change",
}


@pytest.mark.parametrize("lines", IN_STEP)
def test_what_a_step_calls_is_looked_at(lines):
    functions = """
rate = 1.0
def weight(i):
    return random.random() * i
def scale_of(x):
    return x * rate
def slower():
    global rate
    rate = rate / 2
"""
    result = torch2mlx.port(HEAD + NET + functions + LOOP.replace(STEP, lines))
    (why,) = steps(result)
    assert why.startswith("not compiled") and IN_STEP[lines] in why


def test_a_net_that_another_step_trains_is_held_too():
    source = """
def run(G, D, loader):
    g_opt = torch.optim.Adam(G.parameters())
    d_opt = torch.optim.Adam(D.parameters())
    for real, z in loader:
        d_opt.zero_grad()
        d_loss = D(G(z).detach()).mean() - D(real).mean()
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = -D(G(z)).mean()
        g_loss.backward()
        g_opt.step()
run(nn.Linear(2, 3), nn.Linear(3, 1), [])
"""
    text = torch2mlx.port(HEAD + source).source
    assert "@kit.compiled(D, d_opt, G)\n    def D_step(z, real):" in text
    assert "@kit.compiled(G, g_opt, D)\n    def G_step(z):" in text


def test_a_method_is_compiled_where_it_stands_and_state_of_self_is_not():
    source = """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.opt = torch.optim.SGD(model.parameters(), lr=0.1)
        self.weight = 1.0
    def step(self, x, y):
        self.opt.zero_grad()
        loss = F.mse_loss(self.model(x), y) * self.weight
        loss.backward()
        self.opt.step()
        self.log(loss)
        return loss.item()
    def log(self, loss):
        print(loss.item())
Trainer(Net())
"""
    result = torch2mlx.port(HEAD + NET + source)
    assert (
        "        @kit.compiled(self.model, self.opt)\n        def train_step(x, y):"
        in result.source
    )
    changing = source.replace("print(loss.item())", "self.weight = self.weight / 2")
    (why,) = steps(torch2mlx.port(HEAD + NET + changing))
    assert why == "not compiled: it reads .weight, which is set while training"


LEARNING = {
    "dropout, statistics, a schedule, clipping": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 8, bias=False), nn.Linear(8, 2)
        self.norm = nn.BatchNorm1d(8)
    def forward(self, x):
        return self.fc2(F.dropout(F.relu(self.norm(self.fc1(x))), 0.0, self.training))
def build():
    return Net()
def run(model, xs):
    opt = torch.optim.Adam(model.parameters(), lr=0.1)
    sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
    out = []
    for epoch in range(3):
        model.train()
        for x in xs:
            x = torch.as_tensor(x)
            opt.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            out += [loss.item(), float(norm)]
        sched.step()
        model.eval()
        out.append(model(torch.as_tensor(xs[0])).sum().item())
    return out
""",
    "gradients of several batches, a state that is carried, a number that changes": """
def build():
    return nn.GRUCell(3, 3)
def run(model, xs):
    opt = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    out, beta = [], 1.0
    h = torch.zeros(4, 3)
    opt.zero_grad()
    for i in range(12):
        x = torch.as_tensor(xs[i % 3])
        beta = 1.0 / (1 + i // 4)
        h = model(x, h.detach())
        loss = beta * h.pow(2).mean()
        loss.backward()
        out.append(loss.item())
        if i % 2:
            opt.step()
            opt.zero_grad()
    return out
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_a_compiled_step_learns_what_torch_does(name, tmp_path, monkeypatch):
    monkeypatch.setitem(compiling.WAIT, "cpu", 1)
    programs = []
    first = compiling._Program.first
    monkeypatch.setattr(
        compiling._Program, "first", lambda self, given: programs.append(1) or first(self, given)
    )
    torch.manual_seed(0)
    theirs: dict = {}
    exec(HEAD + LEARNING[name], theirs)
    result = torch2mlx.port(HEAD + LEARNING[name])
    ours = executed(result.source, "compiled").__dict__
    model, made = theirs["build"](), ours["build"]()
    give_weights(made, model, tmp_path)
    draw = np.random.default_rng(0)
    xs = [draw.normal(size=(n, 3)).astype(np.float32) for n in (4, 4, 4)]
    expected = theirs["run"](model, xs)
    found = ours["run"](made, [mx.array(x) for x in xs])
    assert 1 <= len(programs) <= compiling.VARIANTS
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
