"""A backward pass and its step in two functions: what is called is done where it is called, or the
backward pass is refused by name."""

import numpy as np
import pytest

from tests.porting.compare import assert_trains_alike, both
from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx

HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, n=3, m=2):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n, 5), nn.Linear(5, m)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


def started(net):
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.sin(torch.arange(p.numel()).float() * 1.3).view(p.shape))
    return net


def data(i):
    x = torch.cos(torch.arange(3.0 * BATCH) * 0.7 + i).view(BATCH, 3)
    return x, torch.sin(x[:, :2] * 2)


OUT = []
"""
#: A function's name, what it is written beside, and its body: it is given a model and an optimizer.
STEPS = {
    "the loss and its gradient": (
        """
def first(model, x, y, weight=1.0):
    \"\"\"A forward pass.\"\"\"
    x = x * weight
    loss = F.mse_loss(model(x), y)
    loss.backward()
    return loss
""",
        """
    loss = torch.zeros(1)
    for i in range(4):
        x, y = data(i)
        optimizer.zero_grad()
        before = loss.item()
        loss = first(model, x + before, y)
        if i % 2:
            other = first(model, y=y, x=x, weight=2.0)
            OUT.append(other.item())
        optimizer.step()
        OUT.append(loss.item() + x.sum().item())
""",
    ),
    "gradients that add up, and several results": (
        """
def second(model, batch, parts):
    out = model(batch[0])
    loss = F.mse_loss(out, batch[1]) / parts
    loss.backward()
    return loss.item(), out.detach()
""",
        """
    batches = iter([data(i) for i in range(4)])
    optimizer.zero_grad()
    for i in range(4):
        value, out = second(model, next(batches), 2)
        OUT.append(value + out.sum().item())
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()
""",
    ),
    "the loss is given, and the gradient is clipped": (
        """
def third(optimizer, loss, model, most=None):
    optimizer.zero_grad()
    loss.backward()
    if most is not None:
        nn.utils.clip_grad_norm_(model.parameters(), most)
    optimizer.step()
""",
        """
    for i in range(4):
        x, y = data(i)
        loss = F.mse_loss(model(x), y)
        third(optimizer, loss, model, most=0.5)
        OUT.append(loss.item())
""",
    ),
    "a step of its own": (
        """
def fourth(optimizer, held):
    optimizer.step()
    optimizer.zero_grad()
    held.append(1)
    return len(held)
""",
        """
    held = []
    for i in range(4):
        x, y = data(i)
        loss = F.mse_loss(model(x), y)
        loss.backward()
        OUT.append(fourth(optimizer, held) * loss.item())
""",
    ),
    "a loop over parts of a batch": (
        """
def fifth(model, x, y):
    total = 0.0
    for p, q in zip(x.chunk(2), y.chunk(2)):
        loss = F.mse_loss(model(p), q) / 2
        loss.backward()
        total += loss.item()
    return total
""",
        """
    total = 0.0
    for i in range(4):
        x, y = data(i)
        optimizer.zero_grad()
        total += fifth(model, x, y)
        optimizer.step()
        OUT.append(total)
""",
    ),
}
GAN = """
class Gan:
    def __init__(self, lr=0.02):
        self.netG, self.netD = started(Net(3, 2)), started(Net(5, 1))
        self.optimizer_G = torch.optim.Adam(self.netG.parameters(), lr=lr)
        self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=lr)
        self.count, self.scale = 0, 1.0

    def set_input(self, i):
        self.real_A, self.real_B = data(i)

    def forward(self):
        self.fake_B = self.netG(self.real_A)

    def score(self, net, x, wanted):
        out = net(x)
        return (out - wanted).pow(2).mean()

    def backward_D(self):
        fake = torch.cat((self.real_A, self.fake_B), 1)
        real = torch.cat((self.real_A, self.real_B), 1)
        self.loss_fake = self.score(self.netD, fake.detach(), 0.0)
        self.loss_real = self.score(self.netD, real, 1.0)
        self.loss_D = (self.loss_fake + self.loss_real) * 0.5
        self.loss_D.backward()

    def grow(self):
        self.scale = self.scale * 2

    def backward_G(self, scale):
        self.grow()
        fake = torch.cat((self.real_A, self.fake_B), 1)
        self.loss_G = self.score(self.netD, fake, 1.0) + F.l1_loss(self.fake_B, self.real_B)
        self.take(self.loss_G * scale)

    def take(self, loss):
        self.loss = loss
        self.backward()

    def backward(self):
        self.loss.backward()

    def update(self):
        self.optimizer_G.step()
        self.count += 1

    def optimize_parameters(self):
        self.forward()
        self.optimizer_D.zero_grad()
        self.backward_D()
        self.optimizer_D.step()
        self.optimizer_G.zero_grad()
        self.backward_G(self.scale)
        self.update()


gan = Gan()
for i in range(4):
    gan.set_input(i)
    gan.optimize_parameters()
    OUT += [gan.loss_D.item(), gan.loss_G.item(), gan.count, gan.scale]
net0 = gan.netD
"""


def _trained(steps):
    text = HEAD
    for i, (above, body) in enumerate(steps):
        text += f"{above}\n\ndef run{i}(model, optimizer):{body}"
        text += f"\n\nnet{i} = started(Net())\n"
        text += f"opt{i} = torch.optim.Adam(net{i}.parameters(), lr=0.05)\nrun{i}(net{i}, opt{i})\n"
    return text


@pytest.mark.parametrize("batch", [4, 2])
@pytest.mark.parametrize("text", [_trained(STEPS.values()), HEAD + GAN], ids=["steps", "gan"])
def test_a_step_over_two_functions_learns_what_it_does_in_torch(text, batch):
    ours, theirs = both(text.replace("BATCH", str(batch)), "step_functions")
    assert len(theirs["OUT"]) >= 16
    np.testing.assert_allclose(ours.OUT, theirs["OUT"], rtol=1e-4, atol=1e-5)
    for name, net in theirs.items():
        if name.startswith("net"):
            for layer in ("fc1", "fc2"):
                wanted = getattr(net, layer).weight.detach().numpy()
                held = np.array(getattr(getattr(ours, name), layer).weight)
                np.testing.assert_allclose(held, wanted, rtol=1e-4, atol=1e-5)


BACK = """
def back(model, x, y):
    loss = F.mse_loss(model(x), y)
    loss.backward()
    return loss.item()
"""
RUN = """
    for i in range(2):
        x, y = data(i)
        optimizer.zero_grad()
        value = back(model, x, y)
        optimizer.step()
        OUT.append(value)
"""
#: What would mean something else where it is called.
REFUSED = {
    "a return between": (
        BACK.replace("loss.b", "if x is None:\n        return 0.0\n    loss.b"),
        RUN,
    ),
    "another function of the name": (f"{BACK}\nback = torch.no_grad()(back)\n", RUN),
    "a default that changes": (BACK.replace("y):", "y, seen=[]):"), RUN),
    "a name that means another": (
        "scale = 3.0\n" + BACK.replace("y)\n", "y) * scale\n"),
        "\n    scale = 0.5" + RUN,
    ),
    "a decorator": (BACK.replace("def", "@torch.enable_grad()\ndef"), RUN),
    "a call that is not the first": (BACK, RUN.replace("= back", "= i + back")),
    "a method that a class has anew": (
        "class A:\n    def back(self, model, x, y):\n        model(x).sum().backward()\n\n"
        "    def run(self, model, optimizer):\n        self.back(model, *data(0))\n\n\n"
        "class B(A):\n    def back(self, model, x, y):\n        model(y).sum().backward()\n",
        "\n    B().run(model, optimizer)\n    optimizer.step()\n",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mean_something_else_where_it_is_called_is_refused(name):
    result = torch2mlx.port(_trained([REFUSED[name]]).replace("BATCH", "4"))
    assert any("backward" in left.reason for left in result.unsupported)


def test_the_output_of_a_trained_model_is_no_constant_of_another_functions_step():
    text = HEAD.replace("BATCH", "4") + (
        "class Loss:\n    def __init__(self, head, opt):\n"
        "        self.head, self.opt = head, opt\n\n"
        "    def __call__(self, out, y):\n        loss = F.mse_loss(self.head(out), y)\n"
        "        loss.backward()\n        self.opt.step()\n        self.opt.zero_grad()\n"
        "        return loss.item()\n\n\n"
        "def run(model, loss_of):\n    for i in range(2):\n        x, y = data(i)\n"
        "        out = model(x)CUT\n        OUT.append(loss_of(out, y))\n\n\n"
        "net, head = started(Net()), started(Net(2, 2))\n"
        "opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)\n"
        "run(net, Loss(head, opt))\n"
    )
    left = torch2mlx.port(text.replace("CUT", "")).unsupported
    assert any("`out` comes from a call of `model`" in one.reason for one in left)
    cut = text.replace("CUT", ".detach()").replace("*net.parameters(), ", "")
    ours, theirs = both(cut, "cut")
    np.testing.assert_allclose(ours.OUT, theirs["OUT"], rtol=1e-4)


def test_a_forward_pass_that_an_earlier_step_needs_runs_before_it():
    """What an earlier step is given of it is computed beside that step, not behind it."""
    text = HEAD.replace("BATCH", "4") + (
        "made, judge = started(Net()), started(Net(2, 1))\n"
        "first = torch.optim.SGD(judge.parameters(), lr=0.1)\n"
        "second = torch.optim.SGD(made.parameters(), lr=0.1)\n"
        "for i in range(3):\n    x, y = data(i)\n    fake = made(x)\n    given = fake * 2\n"
        "    loss = (judge(given.detach()) - 1).pow(2).mean()\n    first.zero_grad()\n"
        "    loss.backward()\n    first.step()\n    other = judge(fake).pow(2).mean()\n"
        "    second.zero_grad()\n    other.backward()\n    second.step()\n"
        "    OUT += [loss.item(), other.item()]\n"
    )
    ours, theirs = both(text, "needed")
    np.testing.assert_allclose(ours.OUT, theirs["OUT"], rtol=1e-4)


def test_what_is_refused_of_a_function_that_is_written_out_has_the_line_of_its_call():
    update = "def update(optimizer, seen):\n    optimizer.step()\n    seen.append(1)\n\n\n"
    run = RUN.replace("optimizer.step()", "update(optimizer, OUT)")
    back = BACK.replace("loss.b", "if x is None:\n        return 0.0\n    loss.b")
    text = _trained([(update + back, run)]).replace("BATCH", "4")
    left = torch2mlx.port(text).unsupported
    lines = text.split("\n")
    assert {lines[one.line - 1].strip() for one in left} == {
        "loss.backward()",
        "update(optimizer, OUT)",
    }


CARRIED = """
net0 = started(nn.RNNCell(3, 2))
optimizer = torch.optim.SGD(net0.parameters(), lr=0.1)


def cut(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(cut(one) for one in h)


def step(x, y, h, other):
    optimizer.zero_grad()
    other = other.detach()
    h = net0(x, h)
    loss = F.mse_loss(h * 2 + other, y)
    loss.backward()
    optimizer.step()
    return loss.item(), h


h = torch.zeros(BATCH, 2)
for i in range(4):
    x, y = data(i)
    h = cut(h)
    with torch.no_grad():
        seen = net0(x, h)
    value, h = step(x, y, h, seen + net0(x, h).max(1)[1][:, None])
    OUT.append(value)
"""


def test_what_callers_cut_off_is_a_constant_of_a_step():
    ours, theirs = both((HEAD + CARRIED).replace("BATCH", "4"), "carried")
    np.testing.assert_allclose(ours.OUT, theirs["OUT"], rtol=1e-4)


LEARN = """
actor, critic = started(Net(3, 2)), started(Net(3, 1))
optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.05)


class Player:
    def __init__(self, net):
        self.net = net

    def play(self, x):
        return torch.log_softmax(self.net(x), -1)[:, 0]


def learn(scores, x, y):
    gain = y[:, 0] - critic(x)[:, 0]
    loss = gain.pow(2).mean() - (torch.stack(list(scores)) * gain.detach()).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


player = Player(actor)
for i in range(2):
    x, y = data(i)
    LINES
"""


@pytest.mark.parametrize(
    "lines",
    [
        "scores = []\n    for one in x:\n        scores.append(torch.tanh(actor(one))[0])\n"
        "    OUT.append(learn(scores, x, y))",
        "OUT.append(learn([torch.tanh(actor(one))[0] for one in x], x, y))",
        "scores = player.play(x)\n    OUT.append(learn(scores, x, y))",
        "given = (torch.tanh(actor(x))[:, 0], x, y)\n    OUT.append(learn(*given))",
        "OUT.append(learn(y=y, x=x, scores=player.play(x)))",
    ],
)
def test_values_of_one_trained_model_are_no_constants_where_another_is_stepped(lines):
    text = HEAD.replace("BATCH", "4") + LEARN.replace("LINES", lines)
    left = torch2mlx.port(text).unsupported
    assert any("outside of this function" in one.reason for one in left)


BRACKETS = """
import torch
import torch.nn as nn

net, head = nn.Linear(4, 3), nn.Linear(3, 1)
opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)


def update(loss, opt, clip):
    opt.zero_grad()
    loss.backward()
    if(clip):
        nn.utils.clip_grad_norm_(net.parameters(), 0.05)
    opt.step()


def train(xs):
    for x in torch.as_tensor(xs):
        loss = head(net(x)).square().mean()
        update(loss, opt, len(xs) > 2)
"""


def test_an_argument_in_brackets_behind_a_keyword_keeps_them(tmp_path):
    assert_trains_alike(BRACKETS, "brackets", tmp_path)
