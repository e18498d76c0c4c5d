"""`group["params"]`: the parameters of the module that an optimizer was given, or refused."""

import numpy as np
import pytest

from tests.porting.compare import both
from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx

HEAD = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, SIZE, (1, 2)), nn.Linear(SIZE, 3)

    def forward(self, x):
        return self.fc(torch.tanh(self.conv(x)).mean((2, 3)))


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


net = Net()
with torch.no_grad():
    for p in net.parameters():
        p.copy_(numbers(*p.shape) * 0.5)
out = []


def loss_of(model):
    return (model(numbers(BATCH, 2, 3, 4)) - 1).pow(2).mean()


"""
STEP = """
for i in range(3):
    opt.zero_grad()
    loss = loss_of(net)
    loss.backward()
    BEFORE
    opt.step()
    out.append(loss.item())
    AFTER
"""
SGD = "opt = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.5)\n"


def step(before="pass", after="pass"):
    indented = (text.strip().replace("\n", "\n    ") for text in (before, after))
    return STEP.replace("BEFORE", next(indented)).replace("AFTER", next(indented))


PROGRAMS = {
    "clamped and measured": SGD
    + step(
        after="""
for group in opt.param_groups:
    for p in group["params"]:
        p.data.clamp_(-0.3, 0.4)
out.append(sum(p.numel() for group in opt.param_groups for p in group["params"]))
out += [p.norm().item() for g in opt.param_groups for p in g['params'] if p.dim() > 1]
"""
    ),
    "clipped": SGD
    + step(
        before="""
for group in opt.param_groups:
    torch.nn.utils.clip_grad_norm_(group["params"], 0.05)
"""
    ),
    "decayed by their rate": SGD
    + step(
        before="""
for group in opt.param_groups:
    for param in group["params"]:
        param.data.add_(param.data, alpha=-0.1 * group["lr"])
"""
    ),
    "of an optimizer of the file, in a function": SGD
    + """
def shrink(factor):
    with torch.no_grad():
        for group in opt.param_groups:
            for p in group["params"]:
                p.mul_(factor)


"""
    + step(after="shrink(0.9)"),
    "of an object": """
class Trainer:
    def __init__(self, model):
        self.model = model
        self.opt = torch.optim.Adam(params=self.model.parameters(), lr=0.05)

    def limit(self):
        for g in self.opt.param_groups:
            for p in g["params"]:
                p.data.clamp_(-0.3, 0.4)

    def train(self):
        loss = loss_of(self.model)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        self.limit()
        return loss.item()


trainer = Trainer(net)
for i in range(3):
    out.append(trainer.train())
""",
}


@pytest.mark.parametrize("size", [(4, 2), (5, 3)], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_they_are_the_modules(name, size):
    text = (HEAD + PROGRAMS[name]).replace("SIZE", str(size[0])).replace("BATCH", str(size[1]))
    text += "out += [float(p.detach().abs().sum()) for p in net.parameters()]\n"
    ours, theirs = both(text, "groups")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=2e-5)


LOOP = """
for group in opt.param_groups:
    for p in group["params"]:
        p.data.clamp_(-1, 1)
"""
REFUSED = {
    "several groups": 'opt = torch.optim.SGD([{"params": net.fc.parameters()}], lr=0.1)\n' + LOOP,
    "a group that comes later": SGD
    + 'opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})\n'
    + LOOP,
    "some parameters": "opt = torch.optim.SGD(list(net.parameters())[1:], lr=0.1)\n" + LOOP,
    "one of two modules": SGD + "opt = torch.optim.SGD(net.fc.parameters(), lr=0.1)\n" + LOOP,
    "an argument": SGD + "def limit(opt):" + LOOP.replace("\n", "\n    ") + "\nlimit(opt)\n",
    "a module that has another name there": SGD
    + "def limit(net):"
    + LOOP.replace("\n", "\n    ")
    + "\nlimit(net.fc)\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_seen_is_refused(name):
    text = (HEAD + REFUSED[name]).replace("SIZE", "4").replace("BATCH", "2")
    told = [u.reason for u in torch2mlx.port(text).unsupported]
    assert any(
        reason.startswith('group["params"]: an optimizer of MLX holds no') for reason in told
    )
