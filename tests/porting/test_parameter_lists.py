"""Names that hold parameters of some modules here and of others there."""

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

net, head = nn.Linear(4, 3), nn.Linear(3, 1)
"""
UPDATE = """
{pad}for x in torch.tensor(xs):
{pad}    opt.zero_grad()
{pad}    loss = 5 * (head(net(x)) - 1).square().mean()
{pad}    loss.backward()
{pad}    {clip}
{pad}    opt.step()
"""
PART = "\n\ndef {name}(xs):\n    {given}\n    opt = torch.optim.SGD(params, lr=0.1)"
CLIP = "torch.nn.utils.clip_grad_norm_(params, 0.3)"
NET, OF_HEAD = "params = list(net.parameters())", "params = [*head.parameters()]"
GROWN = f"{NET}\n    params += list(head.parameters())"
TRAIN = "\n\ndef train(xs):\n    first(xs)\n    second(xs)\n"


def part(name, given, clip=CLIP):
    return PART.format(name=name, given=given) + UPDATE.format(pad="    ", clip=clip)


def method(given, name):
    return part(name, given).replace("(xs)", "(self, xs)", 1).replace("\n", "\n    ")


CLIPPED = """
opt = torch.optim.SGD(list(net.parameters()) + list(head.parameters()), lr=0.1)


def first(xs):
    {0}{2}

def second(xs):
    {1}{2}
"""
TEXTS = {
    "functions": HEAD + part("first", NET) + part("second", OF_HEAD) + TRAIN,
    "grown": HEAD + part("first", GROWN) + part("second", OF_HEAD, "pass") + TRAIN,
    "the file's": HEAD
    + f"{NET}\nopt = torch.optim.SGD(params, lr=0.1)\n"
    + part("second", OF_HEAD)
    + "\n\ndef first(xs):"
    + UPDATE.format(pad="    ", clip=CLIP)
    + TRAIN,
    "methods": HEAD
    + "\n\nclass T:"
    + method(NET, "first")
    + method(OF_HEAD, "second")
    + "\n\nt = T()"
    + TRAIN.replace("first(", "t.first(").replace("second(", "t.second("),
    "clipped": HEAD + CLIPPED.format(NET, OF_HEAD, UPDATE.format(pad="    ", clip=CLIP)) + TRAIN,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_list_holds_what_its_own_function_gives_it(name, tmp_path):
    assert_trains_alike(TEXTS[name], "parameter_lists", tmp_path)


REBOUND = f"{{}}\n        {CLIP}\n        {{}}\n        {CLIP}"
CHOSEN = f"if more:\n            {{}}\n        else:\n            {{}}\n        {CLIP}"


@pytest.mark.parametrize("clip", [REBOUND, CHOSEN])
def test_a_list_of_some_modules_or_of_others_in_one_function_is_refused(clip):
    both = "opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)"
    body = UPDATE.format(pad="    ", clip=clip.format(NET, OF_HEAD))
    ported = torch2mlx.port(f"{HEAD}\n{both}\n\n\ndef train(xs, more):{body}")
    assert any("which of the gradients" in part.reason for part in ported.unsupported)
