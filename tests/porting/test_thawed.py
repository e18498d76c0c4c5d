"""Parameters that are frozen or thawed while a model is trained."""

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

import torch2mlx
from tests.porting.compare import assert_trains_alike

TEXT = """
import torch
import torch.nn as nn

torch.manual_seed(0)
net, head = nn.Linear(4, 6), nn.Linear(6, 3)
opt = torch.optim.{optimizer}


def step_of(x):
    opt.zero_grad()
    loss = (head(torch.tanh(net(x))) ** 2).mean()
    loss.backward()
    opt.step()


def thaw(module, on):
    for p in module.parameters():
        p.requires_grad = on


def train(xs):
    xs = torch.as_tensor(xs)
    for epoch in range(3):
        {change}
        for x in xs:
            step_of(x)
"""
BOTH = "[*net.parameters(), *head.parameters()]"
GROUPS = "[{'params': net.parameters()}, {'params': head.parameters(), 'lr': 0.02}]"
CHANGES = {
    "thawed": "for p in net.parameters(): p.requires_grad = epoch > 0",
    "the last is frozen": "for p in head.parameters(): p.requires_grad = epoch < 1",
    "in turns": "for p in head.parameters(): p.requires_grad_(epoch % 2 == 1)",
    "named": "for name, p in net.named_parameters(): p.requires_grad = epoch > 1",
    "by a function": "thaw(net, epoch == 1)",
}


@pytest.mark.parametrize(
    "optimizer",
    [
        f"SGD({BOTH}, lr=0.05)",
        f"Adam({BOTH}, lr=0.01, eps=0.1)",
        f"AdamW({GROUPS}, lr=0.01, eps=0.1, weight_decay=0.1)",
    ],
    ids=["SGD", "Adam", "AdamW with groups"],
)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_parameter_is_stepped_from_its_first_gradient_on(optimizer, change, tmp_path):
    change = change.replace(": ", ":\n            ") if change.startswith("for") else change
    text = TEXT.replace("{optimizer}", optimizer).replace("{change}", change)
    assert_trains_alike(text, "thawed", tmp_path)


TURNS = """
import torch
import torch.nn as nn

net, head = nn.Linear(4, 4), nn.Linear(4, 1)
opt = torch.optim.RMSprop(net.parameters(), lr=0.01)
other = torch.optim.Adam(head.parameters(), lr=0.01)


def train(xs):
    for x in xs:
        for p in head.parameters():
            p.requires_grad = True
        other.zero_grad()
        head(net(x).detach()).mean().backward()
        other.step()
        for p in head.parameters():
            p.requires_grad = False
        opt.zero_grad()
        (-head(net(x)).mean()).backward()
        opt.step()
"""


def test_networks_that_are_trained_in_turns_keep_optimizers_of_mlx():
    source = torch2mlx.port(TURNS).source
    assert "other = optim.Adam(" in source and "kit.reached" not in source


def test_the_rate_of_a_first_group_is_set(tmp_path):
    text = TEXT.replace("{optimizer}", f"SGD({GROUPS}, lr=0.1, momentum=0.9)")
    text = text.replace("{change}", "opt.param_groups[0]['lr'] = 0.05 / (1 + epoch)")
    assert_trains_alike(text, "first_group", tmp_path)
    text = text.replace(GROUPS, BOTH)
    assert "opt.learning_rate = " in torch2mlx.port(text).source
    assert_trains_alike(text, "first_rate", tmp_path)
