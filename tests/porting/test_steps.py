"""Training steps: what leaves a step, what runs once, which gradients are clipped; as torch has it.

Each source is run in torch, ported, and run in MLX from the same weights; `OUT` is compared.
"""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from tests.porting.compare import executed, give_weights

HEAD = """
import torch
import torch.nn as nn
model = nn.Linear(3, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
"""
#: A function `run(xs)` of a list of (4, 3) arrays, which gives a list of numbers.
RUNS = {
    "what is kept is turned around and added to": """
def run(xs):
    out = []
    for x in xs:
        kept, total = [], 0.0
        for v in model(x).detach().flatten().tolist():
            total = 0.9 * total + v
            kept.append(total)
        kept.reverse()
        terms = {"one": (model(x).flatten() - torch.tensor(kept)).pow(2).mean()}
        terms.update({"two": model(x).abs().mean()})
        loss = sum(terms.values())
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "a branch alone sets what the step takes": """
def run(xs, kind="plain"):
    out = []
    if kind != "plain":
        hidden = torch.zeros(4, 2)
    for x in xs:
        if kind == "plain":
            y = model(x)
        else:
            hidden = hidden.detach()
            hidden = torch.tanh(model(x) + hidden)
            y = hidden
        loss = y.square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out if kind == "kept" else out + run(xs, "kept")
""",
    "both branches assign": """
def run(xs):
    out = []
    for i, x in enumerate(xs):
        y = model(x)
        if i % 2:
            loss = y.mean()
            loss += y.pow(2).mean()
        else:
            loss = y.sum()
            loss += y.abs().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "an elif assigns, or raises": """
def run(xs):
    out = []
    for i, x in enumerate(xs):
        y = model(x)
        if i == 0:
            scale = 2.0
            loss = scale * y.mean()
        elif i > 7:
            raise ValueError(i)
        else:
            scale = 3.0
            loss = scale * y.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item() + scale)
    return out
""",
    "a state that one branch carries": """
def run(xs):
    hidden, out = torch.zeros(4, 2), []
    for i, x in enumerate(xs):
        if i % 2:
            y = model(x)
        else:
            hidden = hidden.detach()
            y = model(x) + hidden
            hidden = torch.tanh(y)
        loss = ((y - 1) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "a penalty on slopes, whose cotangents are not the outputs'": """
def run(xs):
    out = []
    for x in xs:
        x = x.requires_grad_(True)
        value = torch.tanh(model(x))
        ones = torch.full((x.shape[0], 2), 1.0)
        slope = torch.autograd.grad(value, x, ones, create_graph=True)[0]
        steep = slope.pow(2).sum(1)
        loss = value.mean() + steep.mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "an optimizer of a chain of parameters under a name of the file's own": """
from itertools import chain as joined
other = nn.Linear(2, 2, bias=False)
nn.init.constant_(other.weight, 0.5)
both = joined(model.parameters(), other.parameters())
second = torch.optim.SGD(both, lr=0.05)
def run(xs):
    out = []
    for x in xs:
        loss = (other(model(x)) - 1).pow(2).mean()
        second.zero_grad()
        loss.backward()
        second.step()
        out.append(loss.item())
    return out
""",
    "parameters that no module holds": """
scale = torch.full((2,), 0.5, requires_grad=True)
shift = nn.Parameter(torch.zeros(2))
second = torch.optim.SGD([scale, shift], lr=0.05)
def run(xs):
    out = []
    for x in xs:
        with torch.no_grad():
            y = model(x)
        loss = (y * scale.exp() + shift - 1).pow(2).mean()
        second.zero_grad()
        loss.backward()
        second.step()
        out += [loss.item(), scale[0].item() * 2, shift.sum().item()]
    return out
""",
    "a buffer that is written between the steps that read its views": """
def run(xs):
    buffer, out = torch.zeros(2, 4, 3), []
    for epoch in range(2):
        for i, x in enumerate(xs):
            buffer[i % 2] = x + epoch
        flat = buffer.reshape(-1, 3)
        loss = model(flat[2:]).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "functions of the step": """
def run(xs):
    out = []
    for x in xs:
        def forward(y, scale=1.0):
            return model(y) * scale
        def penalty():
            return value.abs().mean()
        value = forward(x, scale=2.0)
        loss = (value - 1).pow(2).mean() + penalty()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item() + forward(x).sum().item())
    return out
""",
    "derivatives of derivatives": """
def run(xs):
    out = []
    for x in xs:
        x = x.requires_grad_(True)
        value = torch.tanh(model(x)).sum()
        slope = torch.autograd.grad(value, x, create_graph=True)[0]
        bent = torch.autograd.grad(slope.pow(2).sum(), x, create_graph=True)[0]
        other = torch.autograd.grad(slope.sum(), x, create_graph=True)[0]
        loss = value / 8 + bent.pow(2).mean() + other.mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "a state of an outer loop": """
def run(xs):
    hidden, out = torch.zeros(4, 2), []
    for epoch in range(2):
        for x in xs:
            y = model(x) + hidden.detach()
            hidden = torch.tanh(y)
            loss = ((y - 1) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            out.append(loss.item())
    return out
""",
    "a name that means two things": """
def run(xs):
    out = []
    for x in xs:
        y = model(x)
        first = (y - 1).pow(2).mean()
        score = y.mean()
        y = model(-x)
        loss = first + y.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out += [loss.item(), score.item(), y.mean().item()]
    return out
""",
    "a sum that is looked at between": """
def run(xs):
    out = []
    for x in xs:
        loss = model(x).mean()
        out.append(loss.item())
        loss += model(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
""",
    "a global that a step sets": """
last = torch.zeros(4, 2)
def step(x):
    global last
    y = model(x) + last.detach()
    last = torch.tanh(y)
    loss = y.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()
def run(xs):
    return [step(x) for x in xs]
""",
    "clipping inside an expression": """
def run(xs):
    out = []
    for x in xs:
        loss = model(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        # not too far
        out.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.1)))
        opt.step()
        out.append(loss.item())
    return out
""",
    "clipping of one parameter": """
def run(xs):
    out = []
    for x in xs:
        loss = model(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.weight, 0.1)
        nn.utils.clip_grad_value_([model.bias], clip_value=0.01)
        opt.step()
        out += [loss.item(), float(norm)]
    return out
""",
    "clipping of an optimizer's group": """
def run(xs):
    out = []
    for x in xs:
        loss = model(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(opt.param_groups[0]["params"], 0.1)
        opt.step()
        out.append(loss.item())
    return out
""",
}


def both(source, folder, names=("model",)):
    """The script in torch, and ported from the same weights; the port has to be whole."""
    theirs = executed(source, "original")
    made = torch2mlx.port(source)
    assert made.ok, made.unsupported
    ours = executed(made.source, "steps")
    for name in names:
        give_weights(getattr(ours, name), getattr(theirs, name), folder)
    return theirs, ours, made.source


def batches(count=5, size=(4, 3)):
    drawn = np.random.default_rng(0).standard_normal((count, *size)).astype("f4")
    return [torch.from_numpy(x) for x in drawn], [mx.array(x) for x in drawn]


@pytest.mark.parametrize("name", RUNS)
def test_a_step_gives_and_learns_what_it_does_in_torch(name, tmp_path):
    theirs, ours, _ = both(HEAD + RUNS[name], tmp_path)
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    weight = theirs.model.weight.detach().numpy()
    assert np.allclose(weight, np.array(ours.model.weight), atol=1e-5)


def test_a_name_that_is_bound_twice_is_no_free_parameter():
    text = RUNS["parameters that no module holds"].replace("for x in xs", "for scale in xs")
    assert not torch2mlx.port(HEAD + text).ok


@pytest.mark.parametrize(
    "line",
    [
        "model.scale = scale",
        "kept = [scale, 1]",
        "kept = dict(scale=scale)",
        "model.register_parameter('scale', scale)",
        "keep = lambda: (scale, 1)",
    ],
)
def test_a_parameter_that_something_else_may_hold_is_no_free_one(line):
    """It would go on with the first value: what was refused stays refused."""
    text = RUNS["parameters that no module holds"]
    assert torch2mlx.port(HEAD + text).ok
    assert not torch2mlx.port(HEAD + text.replace("def run", line + "\ndef run")).ok


def test_gradients_that_add_up_start_before_a_step_of_the_file():
    """A file that never sets its gradients to zero, and steps outside of a loop."""
    step = "loss = model(torch.ones(2, 3)).pow(2).sum()\nloss.backward()\nopt.step()\n"
    made = torch2mlx.port(HEAD + step + step).source
    assert made.index("grads = None") < made.index("kit.training.add(grads, new_grads)")
    exec(compile(made, "<steps>", "exec"), {})


def test_comments_above_a_clipping_stay(tmp_path):
    assert "# not too far" in torch2mlx.port(HEAD + RUNS["clipping inside an expression"]).source


TWO = """
import torch
import torch.nn as nn
G = nn.Sequential(nn.Linear(3, 4), NORM, nn.Linear(4, 3))
D = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
optD = torch.optim.SGD(D.parameters(), lr=0.05)
optG = torch.optim.SGD(G.parameters(), lr=0.05)
def run(xs):
    out = []
    for x in xs:
        fake = G(x)
        lossD = D(fake.detach()).pow(2).mean()
        optD.zero_grad()
        lossD.backward()
        optD.step()
        lossG = (D(fake) - 1).pow(2).mean()
        optG.zero_grad()
        lossG.backward()
        optG.step()
        out += [lossD.item(), lossG.item()]
    return out
"""


def test_statistics_of_a_pass_that_two_gradients_need_move_once(tmp_path):
    theirs, ours, source = both(TWO.replace("NORM", "nn.BatchNorm1d(4)"), tmp_path, ("G", "D"))
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-4)
    for name in "GD":
        mean = getattr(theirs, name)[1].running_mean.numpy()
        assert np.allclose(mean, np.array(getattr(ours, name).layers[1].running_mean), atol=1e-4)
    assert source.count("Repeated(") == 1


BETWEEN = """
def run(xs):
    out = []
    for x in xs:
        label = torch.full((x.shape[0], 1), 0.9)
        optD.zero_grad()
        output = D(x)
        real = (output - label).pow(2).mean()
        real.backward()
        first = output.mean().item()
        fake = G(x)
        label.fill_(0.1)
        output = D(fake.detach())
        wrong = (output - label).pow(2).mean()
        wrong.backward()
        second = output.mean().item()
        total = real + wrong
        optD.step()
        optG.zero_grad()
        label.fill_(0.9)
        output = D(fake)
        lossG = (output - label).pow(2).mean()
        lossG.backward()
        third = output.mean().item()
        optG.step()
        out += [first, second, third, total.item(), lossG.item()]
    return out
"""


def test_what_an_earlier_step_computes_is_computed_once(tmp_path):
    """Names that are used again: a loss needs their last values alone."""
    head = TWO.replace("NORM", "nn.BatchNorm1d(4)").partition("def run")[0]
    theirs, ours, source = both(head + BETWEEN, tmp_path, ("G", "D"))
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-4)
    for name in "GD":
        mean = getattr(theirs, name)[1].running_mean.numpy()
        assert np.allclose(mean, np.array(getattr(ours, name).layers[1].running_mean), atol=1e-4)
    assert source.count("stop_gradient") == 1


def test_a_pass_without_statistics_or_draws_needs_no_care():
    text = TWO.replace("NORM", "nn.ReLU()").replace("nn.BatchNorm1d(4)", "nn.ReLU()")
    assert "Repeated" not in torch2mlx.port(text).source


def test_random_numbers_of_a_repeated_pass_are_drawn_once():
    from torch2mlx.kit.repeated import Repeated

    mx.random.seed(3)
    drop = torch2mlx.kit.dropout.Dropout(0.5) if hasattr(torch2mlx.kit.dropout, "Dropout") else None
    draw = (lambda: drop(mx.ones((64,)))) if drop is not None else lambda: mx.random.normal((64,))
    once = Repeated()
    first, second = draw(), draw()
    with once:
        again = draw()
    third = draw()
    mx.random.seed(3)
    plain = [draw() for _ in range(3)]
    assert all(mx.array_equal(a, b) for a, b in zip(plain, (first, second, third), strict=True))
    assert mx.array_equal(first, again)


LOST = (
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.fc, self.kept = nn.Linear(3, 2), KEPT\n"
    "    def forward(self, x):\n"
    "        return self.fc(x)\n"
    "net = Net()\n"
    "opt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
    "def act(x):\n"
    "    KEEP\n"
    "def finish():\n"
    "    loss = LOSS\n"
    "    opt.zero_grad()\n"
    "    loss.backward()\n"
    "    opt.step()\n"
)
KEPT = {
    "a list": ("[]", "net.kept.append(net(x).mean())", "torch.stack(net.kept).sum()"),
    "a dict": ("{}", "net.kept['a'] = net(x).mean()", "2 * net.kept['a']"),
    "a value": ("torch.zeros(1)", "net.kept = net(x).mean()", "net.kept * 2"),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_gradient_that_would_be_zero_is_refused_by_name(name):
    text = LOST
    for word, value in zip(("KEPT", "KEEP", "LOSS"), KEPT[name], strict=True):
        text = text.replace(word, value)
    made = torch2mlx.port("import torch\nimport torch.nn as nn\n" + text)
    told = [u.reason for u in made.unsupported]
    assert not made.ok and any("kept (net.kept)" in reason for reason in told), told


@pytest.mark.parametrize("word", ["continue", "break", "return out"])
def test_a_step_that_is_left_in_the_middle_is_refused_by_name(word):
    text = HEAD + RUNS["an elif assigns, or raises"].replace("raise ValueError(i)", word)
    told = [u.reason for u in torch2mlx.port(text).unsupported]
    assert any(f"a {word.split()[0]!r} leaves this step" in reason for reason in told), told


def test_a_loop_inside_of_a_step_may_end_early(tmp_path):
    text = RUNS["an elif assigns, or raises"].replace(
        "y = model(x)",
        "y = model(x)\n        for k in range(3):\n            y = y + k\n"
        "            if k:\n                break",
    )
    theirs, ours, _ = both(HEAD + text, tmp_path)
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)


@pytest.mark.parametrize(
    "given", ["few", "[p for n, p in model.named_parameters() if 'bias' not in n]"]
)
def test_gradients_that_are_not_told_apart_are_not_clipped_in_silence(given):
    text = HEAD + RUNS["clipping of one parameter"].replace("model.weight, 0.1", f"{given}, 0.1")
    made = torch2mlx.port(text.replace("def run(xs)", "def run(xs, few=None)"))
    assert any("clip_grad_norm_: which of the gradients" in u.reason for u in made.unsupported)
