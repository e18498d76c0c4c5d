"""Gradients that a call of a function leaves to the next one, as torch keeps them in `.grad`."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import torch2mlx
from tests.porting.compare import assert_trains_alike

HEAD = """
import torch
import torch.nn as nn

torch.manual_seed(0)
net, head = nn.Linear(4, 6), nn.Linear(6, 3)
opt = torch.optim.{optimizer}


"""

GIVEN = "[*net.parameters(), *head.parameters()], lr=0.05"
SGD = f"SGD({GIVEN}, momentum=0.9)"
#: With an eps that keeps rounding small.
ADAM = f"Adam({GIVEN}, eps=0.1)"
FUNCTION = """
def step_of(x, count):
    loss = (head(torch.tanh(net(x))) ** 2).mean()
    {begin}
    loss.backward()
    if (count + 1) % 2 == 0:
        opt.step()
        opt.zero_grad()
    return loss.item()


def train(xs):
    xs = torch.as_tensor(xs)
    {before}
    for count in range(len(xs)):
        step_of(xs[count], count)
"""

EPOCHS = """
def epoch_of(xs):
    for i, x in enumerate(xs):
        loss = (head(torch.tanh(net(x))) ** 2).mean()
        loss.backward()
        if i % 2 == 1:
            opt.step()
            opt.zero_grad()
        if loss.item() > 1e4:
            return None
    return loss.item()


def train(xs):
    xs = torch.as_tensor(xs)
    for epoch in range(3):
        epoch_of(xs)
"""

TRAINER = """
class Trainer:
    def __init__(self, net, head, opt):
        self.net, self.head, self.opt, self.seen = net, head, opt, 0

    def step(self, x):
        loss = (self.head(torch.tanh(self.net(x))) ** 2).mean()
        loss.backward()
        self.seen += 1
        if self.seen % 3:
            return loss.item()
        self.opt.step()
        self.opt.zero_grad()
        return loss.item()


trainer = Trainer(net, head, opt)


def train(xs):
    xs = torch.as_tensor(xs)
    for epoch in range(2):
        for x in xs:
            trainer.step(x)
"""

ON_ONE_LINE = """
def step_of(x, count):
    loss = (head(torch.tanh(net(x))) ** 2).mean()
    loss.backward()
    if count % 2: return loss.item()
    opt.step()
    opt.zero_grad()


def train(xs):
    xs = torch.as_tensor(xs)
    for epoch in range(2):
        for count in range(len(xs)):
            step_of(xs[count], count)
"""

NEVER = """
def step_of(x):
    loss = (head(torch.tanh(net(x))) ** 2).mean()
    loss.backward()
    opt.step()


def train(xs):
    xs = torch.as_tensor(xs)
    for x in xs:
        step_of(x)
"""

ELSEWHERE = """
def step_of(x):
    loss = (head(torch.tanh(net(x))) ** 2).mean()
    loss.backward()
    opt.step()


def train(xs):
    xs = torch.as_tensor(xs)
    for i, x in enumerate(xs):
        # every other batch begins anew
        if i % 2 == 0:
            opt.zero_grad()
        step_of(x)
"""


def function(begin: str = "pass", before: str = "pass") -> str:
    return FUNCTION.format(begin=begin, before=before)


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
@pytest.mark.parametrize(
    "way",
    {
        "in a function": function(),
        "set to zero by the caller": function(before="opt.zero_grad()"),
        "from epoch to epoch": EPOCHS,
        "in a method": TRAINER,
        "a return on the line of its condition": ON_ONE_LINE,
        "never set to zero": NEVER,
        "set to zero elsewhere": ELSEWHERE,
    }.items(),
    ids=lambda way: way[0],
)
def test_a_call_adds_to_what_the_call_before_left(way, optimizer, tmp_path):
    text = HEAD.format(optimizer=optimizer) + way[1]
    assert "kit.training.left(" in torch2mlx.port(text).source
    assert_trains_alike(text, "left_over", tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        function(begin="opt.zero_grad()"),
        NEVER.replace("    opt.step()", "    opt.step()\n    opt.zero_grad()"),
        ELSEWHERE.replace("    loss.backward()", "    opt.zero_grad()\n    loss.backward()"),
    ],
)
def test_nothing_is_written_where_nothing_is_left(body, tmp_path):
    text = HEAD.format(optimizer=SGD) + body
    source = torch2mlx.port(text).source
    assert "leave(" not in source and "left(" not in source
    assert "every other batch" not in body or "# every other batch" in source
    assert_trains_alike(text, "nothing_left", tmp_path)


COMMENTS = """
import torch
import torch.nn as nn

net = nn.Linear(4, 3)
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def step(x):
    # {0} first
    opt.zero_grad()
    # {0} second
    loss = net(x).mean()
    loss.backward()
    opt.step()


# {0} third
opt.zero_grad()
# {0} fourth
opt.zero_grad()
for x in torch.ones(3, 2, 4):
    step(x)
# {0} fifth
opt.zero_grad()
"""


@pytest.mark.parametrize("leaves", [False, True])
def test_comments_above_what_sets_to_zero_stay(leaves):
    text = COMMENTS.format("the")
    if leaves:
        text = text.replace("    # the first\n    opt.zero_grad()\n", "    # the first\n")
    source = torch2mlx.port(text).source
    assert source.count("leave(None, net)") == (3 if leaves else 0)
    words = ["first", "second", "third", "fourth", "fifth"]
    assert [w for w in words if f"# the {w}" in source] == words[: 5 if leaves else 4]


def test_whose_gradients_are_set_to_zero_has_to_be_seen():
    text = HEAD.format(optimizer=SGD) + NEVER + "\n\ndef begin(given):\n    given.zero_grad()\n"
    refused = torch2mlx.port(text).unsupported
    assert [u.line for u in refused] == [text[: text.index("given.zero")].count("\n") + 1]
    assert "whose gradients this sets to zero" in refused[0].reason


def test_names_are_told_global_before_their_gradients_are_read(tmp_path):
    told = "    global seen, net\n    seen += 1\n    net = net.train()\n"
    begin = "def step_of(x):\n"
    text = HEAD.format(optimizer=SGD) + NEVER.replace(begin, f"seen = 0\n\n\n{begin}{told}")
    assert_trains_alike(text, "global", tmp_path)


OWN = """
import torch
import torch.nn as nn


def trained(x):
    own = nn.Linear(4, 3)
    opt = torch.optim.SGD(own.parameters(), lr=0.1)
    own(x).mean().backward()
    opt.step()
    return own


def both(x):
    return trained(x), trained(x)
"""


def test_gradients_of_modules_that_a_call_makes_are_its_own():
    ported = torch2mlx.port(OWN)
    assert ported.ok, ported.unsupported
    assert "left(" not in ported.source
