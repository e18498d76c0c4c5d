"""Channels last in networks that nobody wrote: drawn statements, each as torch has it."""

import random

import numpy as np
import pytest

from tests.porting.compare import executed, give_weights
from tests.support import need

need("torch", "mlx.core", "libcst")

import torch

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x):
        return self.norm(self.conv(x)) + x


class Gate(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class Net(nn.Module):
    def __init__(self, flag=True):
        super().__init__()
        self.flag = flag
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.pick = nn.Conv2d(8, 4, 1)
        self.norm, self.bn = nn.GroupNorm(2, 4), nn.BatchNorm2d(4)
        self.slopes = nn.PReLU(4)
        self.lin = nn.Linear(4, 4)
        self.block, self.gate = Block(), Gate()
        self.seq = nn.Sequential(nn.GroupNorm(1, 4), Gate(), nn.Conv2d(4, 4, 1), Block())
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 1), Block(), nn.Identity()])
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 4).view(4, 1, 1))
        self.row = nn.Parameter(torch.linspace(0.5, 1.5, 6))

    def _half(self, x):
        return self.conv(x) * 0.5

    def rest(self, x):
        return F.avg_pool2d(x, 3, 1, 1) + x

    def forward(self, a, b):
"""
#: Over images p and q of (2, 4, 6, 6), which they answer too.
EXPRESSIONS = (
    *("self.conv({p})", "self.norm({p})", "self.bn({p})", "F.relu({p})", "{p} + {q}", "-{p}"),
    *("{p} * self.scale", "{p} * self.row + {q}", "{p} * 0.5 - {q}", "self.gate({p})"),
    *("self.pick(torch.cat([{p}, {q}], dim=1))", "{p}.mean(dim=1, keepdim=True) + {q}"),
    *("{p} * {q}.mean((2, 3), keepdim=True)", "self.slopes({p})", "self.block({p})"),
    *("{p}.permute(0, 2, 3, 1).permute(0, 3, 1, 2)", "{p}.transpose(2, 3)", "self.seq({p})"),
    *("self.lin({p}.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)", "F.softmax({p}, dim=1)"),
    *(
        "{p}.flatten(2).softmax(-1).reshape({p}.shape)",
        "torch.cat({p}.chunk(2, dim=1)[::-1], dim=1)",
    ),
    *("F.max_pool2d({p}, 3, 1, 1)", "F.pad({p}, (1, 1, 1, 1))[:, :, 1:-1, 1:-1]"),
    *("{p}[:, [1, 0, 3, 2]]", "{p}.reshape({p}.size(0), -1).view(*{p}.shape)", "{p}.clamp(min=0)"),
    *("torch.where({p} > 0, {p}, {q})", "{p} if self.flag else {q}", "self._half({p})"),
    *("self.rest({p})", "{p} * {q}.sum((2, 3))[:, :, None, None].tanh()", "torch.tanh({p})"),
    *("torch.stack([{p}, {q}]).mean(0)", "{p} / (1 + {q}.abs().amax(dim=(1, 2, 3), keepdim=True))"),
    *("F.interpolate({p}, scale_factor=2)[:, :, ::2, ::2]", "torch.maximum({p}, {q})"),
    *("{p}.transpose(1, 2).transpose(2, 1)", "{p} - {p}.amax(dim=1, keepdim=True)"),
)
STATEMENTS = (
    *("{r} = {e}",) * 6,
    *("{r} = torch.tanh({e})",) * 2,
    "{r} = {r} * 1\n        {r} += 1 * ({e})",
    "if self.flag:\n            {r} = {e}",
    "if {p}.shape[1] == 5:\n            {r} = {e}\n        else:\n            {r} = {f}",
    "for _ in range(2):\n            {r} = torch.tanh({e})",
    "for layer in self.layers:\n            {r} = torch.tanh(layer({r}))",
    "kept = [{e}]\n        kept.append({f})\n        {r} = self.pick(torch.cat(kept, 1))",
    "n, c, h, w = {p}.shape\n        {r} = ({e}) * (c / w) + ({f}).reshape(n, c, h, w)",
    "{r}, other = {e}, {f}\n        {r} = {r} + other",
)
RESULTS = (
    "a, b",
    "a",
    "[b, a * b]",
    "a.flatten(1), b.mean((2, 3))",
    "torch.cat((a, b), 1), a.size(1)",
)


def network(seed: int) -> str:
    draw = random.Random(seed)

    def expression() -> str:
        return draw.choice(EXPRESSIONS).format(p=draw.choice("ab"), q=draw.choice("ab"))

    lines = []
    for _ in range(draw.randint(2, 7)):
        form, names = draw.choice(STATEMENTS), {"p": draw.choice("ab"), "r": draw.choice("ab")}
        lines.append(f"        {form.format(e=expression(), f=expression(), **names)}\n")
    return HEAD + "".join(lines) + f"        return {draw.choice(RESULTS)}\n"


def leaves(value):
    return [x for v in value for x in leaves(v)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("seed", range(80))
def test_drawn_networks(seed, tmp_path):
    source = network(seed)
    result = torch2mlx.port(source)
    assert result.ok, (source, result.unsupported)
    torch.manual_seed(seed)
    theirs: dict = {"__name__": "theirs"}
    exec(source, theirs)
    net, ours = theirs["Net"]().eval(), executed(result.source, f"drawn_{seed}").Net()
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            if value.is_floating_point():
                value.uniform_(0.1, 0.9)
    give_weights(ours, net, tmp_path)
    ours.eval()
    given = [torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)]
    with torch.no_grad():
        expected = leaves(net(*(x.clone() for x in given)))
    found = leaves(ours(*map(to_mlx, given)))
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        one, other = np.asarray(one), np.array(other)
        limit = 1e-4 * max(1.0, float(np.abs(one).max()))
        np.testing.assert_allclose(other, one, rtol=0, atol=limit, err_msg=source + result.source)
