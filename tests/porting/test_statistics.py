"""Running statistics that a script starts anew, and buffers that it reads and sets by name."""

import numpy as np
import pytest

from tests.porting.compare import both, executed
from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import torch

import torch2mlx

HEAD = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, size=SIZE):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, size, 3), nn.BatchNorm2d(size)
        self.each = nn.InstanceNorm2d(size, affine=True, track_running_stats=True)
        self.plain = nn.Sequential(nn.InstanceNorm2d(size), nn.BatchNorm2d(size, momentum=0.3))
        self.register_buffer("scale", torch.ones(size, 1, 1) * 2)

    def forward(self, x):
        return self.plain(self.each(self.norm(self.conv(x)))) * self.scale


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


net = Net()
with torch.no_grad():
    for p in net.parameters():
        p.copy_(numbers(*p.shape) + 0.5)
net(numbers(BATCH, 3, 5, 6))
net(numbers(BATCH, 3, 5, 6) * 2)
"""
PROGRAMS = {
    "one layer's": "net.norm.reset_running_stats()",
    "those of an average over all batches": """
for m in net.modules():
    if isinstance(m, nn.BatchNorm2d):
        m.momentum = None
        m.reset_running_stats()
net(numbers(BATCH, 3, 5, 6))
""",
    "those of all layers of a kind": """
for m in net.modules():
    if isinstance(m, (nn.BatchNorm2d, nn.InstanceNorm2d)):
        m.reset_running_stats()
""",
    "of what has the method": """
def start(module):
    if hasattr(module, "reset_running_stats"):
        module.reset_running_stats()
net.apply(start)
""",
    "set by name": """
other = dict(net.named_buffers())
twin = Net()
twin.load_state_dict(net.state_dict())
for name, buffer in twin.named_buffers():
    if "var" in name:
        buffer.copy_(other[name] * 2)
    elif name == "scale":
        buffer.fill_(3)
net = twin
""",
}
TAIL = """
net(numbers(BATCH, 3, 5, 6) * 3)
net.eval()
out = [net(numbers(BATCH, 3, 5, 6) + 0.2)]
names = [name for name, _ in net.named_buffers()]
out += [buffer for name, buffer in net.named_buffers() if "tracked" not in name]
"""


@pytest.mark.parametrize("size", [(4, 2), (5, 3)], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_statistics_and_buffers_are_torchs(name, size):
    text = (HEAD + PROGRAMS[name] + TAIL).replace("SIZE", str(size[0]))
    text = text.replace("BATCH", str(size[1]))
    ours, theirs = both(text, "statistics")
    assert ours.names == theirs["names"]
    for mine, wanted in zip(ours.out, theirs["out"], strict=True):
        wanted = wanted.detach().numpy()
        np.testing.assert_allclose(np.array(mine), wanted, rtol=2e-5, atol=2e-5)


def test_a_layer_without_statistics_has_no_such_method():
    text = "import torch.nn as nn\ndef start(module):\n    module.reset_running_stats()\n"
    ported = executed(torch2mlx.port(text).source, "start")
    with pytest.raises(AttributeError, match="Linear has no reset_running_stats"):
        ported.start(need("mlx.nn")[0].Linear(2, 2))


GIVEN = """
import torch


class Pool:
    def __init__(self, data):
        self.data = data

    def rows(self, given):
        return [torch.unsqueeze(row, 0) for row in given.data]


def wide(given):
    return given.double() * 2


def marked(given):
    given.data[0] = 7
    return given
"""


def test_what_may_be_an_array_or_an_object_is_asked_when_it_runs():
    theirs: dict = {"__name__": "in_torch"}
    exec(GIVEN, theirs)
    result = torch2mlx.port(GIVEN)
    ours = executed(result.source, "given")
    values = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    for rows in (
        ours.Pool(0).rows(mx.array(values)),
        ours.Pool(0).rows(ours.Pool([*mx.array(values)])),
    ):
        assert [np.array(row).tolist() for row in rows] == [[row.tolist()] for row in values]
    assert ours.wide(mx.array(values)).dtype == mx.float64
    assert theirs["wide"](torch.tensor(values)).dtype == torch.float64


WALKED = """
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, SIZE)
        self.rest = nn.ModuleList([nn.Linear(SIZE, 5)])
        self.rest.append(nn.Sequential(nn.Conv2d(5, 6, 3), nn.Tanh()))
        self.last = nn.BatchNorm1d(SIZE)
        self.again = self.first

    def sizes(self):
        return [m.out_features for m in self.modules() if hasattr(m, "out_features")]


net = Net()
seen = []


def visit(m):
    if isinstance(m, nn.ModuleList):
        return
    if hasattr(m, "in_features"):
        seen.append(m.in_features)
    seen.append(getattr(m, "out_channels", -1))


if net.apply(visit) is net:
    seen.append(100)
found = [i * 10 + m.in_features for i, m in enumerate(net.modules()) if isinstance(m, nn.Linear)]
kinds = [[type(m) is nn.Conv2d, type(m) in (nn.Linear, nn.BatchNorm1d), type(m) != nn.Conv2d,
          isinstance(m, nn.modules.batchnorm._BatchNorm), isinstance(m, nn.modules.conv._ConvNd),
          sum(p.numel() for p in m.parameters(recurse=False))] for m in net.modules()]
named = dict(net.named_modules())
widths = [named["first"].out_features, *kinds]
widths += [(name, hasattr(m, "kernel_size"), getattr(m, "num_features", None))
          for name, m in net.named_modules()]
out = [net.sizes(), found, widths, len(list(net.modules()))]
"""


@pytest.mark.parametrize("size", [4, 7])
def test_modules_are_walked_in_torchs_order_and_have_its_options(size):
    text = WALKED.replace("SIZE", str(size))
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    ours = executed(torch2mlx.port(text).source, "walked")
    assert ours.out == theirs["out"]
    assert ours.seen == theirs["seen"]


SWAPPED = """
import torch
import torch.nn as nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(SIZE, SIZE), nn.LeakyReLU(0.3)])
        self.last = nn.LeakyReLU(0.3)

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return self.last(x)


def swap(module):
    for name, child in module.named_children():
        if isinstance(child, nn.LeakyReLU):
            setattr(module, name, nn.Hardtanh(-0.2, 0.2))
        else:
            swap(child)


tail = nn.Sequential(nn.LeakyReLU(0.3))
net = nn.Sequential(nn.Linear(3, SIZE), nn.LeakyReLU(0.3), Block(), tail)
with torch.no_grad():
    for p in net.parameters():
        p.copy_(torch.sin(torch.arange(p.numel()).float() * 1.7).reshape(p.shape))
before = net(torch.ones(2, 3)).tolist()
swap(net)
out = [before, net(torch.ones(2, 3)).tolist()]
"""


@pytest.mark.parametrize("size", [4, 6])
def test_parts_that_are_set_by_their_names_take_their_places(size):
    text = SWAPPED.replace("SIZE", str(size))
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    ours = executed(torch2mlx.port(text).source, "swapped")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=1e-5, atol=1e-6)


OWN = """
import torch
import torch.nn as nn
import torch.nn.functional as F


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, self.weight, None, self.training, 0.2, 1e-4)


class Adapted(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size, self.weight, self.bias = size, None, None
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x):
        b, c, h, w = x.size()
        mean, var = self.running_mean.repeat(b), self.running_var.repeat(b)
        rows = x.contiguous().view(1, b * c, h, w)
        out = F.batch_norm(rows, mean, var, self.weight, self.bias, True, 0.1, 1e-5)
        return out.view(b, c, h, w)


class Net(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, size, 3), Norm(size)
        self.adapted = nn.ModuleList([Adapted(size), Adapted(size)])
        self.style = nn.Linear(3, 4 * size)
        self.shift = None

    def forward(self, x, style):
        given = self.style(style)
        for m in self.modules():
            if m.__class__.__name__ == "Adapted":
                m.bias = given[:, : m.size].contiguous().view(-1)
                m.weight = given[:, m.size : 2 * m.size].contiguous().view(-1)
                given = given[:, 2 * m.size :]
        x = self.norm(self.first(x))
        for adapted in self.adapted:
            x = torch.tanh(adapted(x))
        return x - self.shift


net = Net(SIZE)
net.shift = numbers(1, SIZE, 1, 1) * 2
with torch.no_grad():
    for p in net.parameters():
        p.copy_(numbers(*p.shape) * 0.5)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
out = []
for i in range(3):
    opt.zero_grad()
    loss = (net(numbers(BATCH, 3, 5, 6) * (i + 1), numbers(BATCH, 3)) - 1).abs().mean()
    loss.backward()
    opt.step()
    out.append(loss.item())
out += net.norm.mean.tolist() + net.norm.var.tolist() + net.adapted[0].running_mean.tolist()
mean, var = torch.zeros(3), torch.ones(3)
x = numbers(BATCH, 3, 4, 5)
out += F.instance_norm(x, mean, var, momentum=0.3).flatten().tolist()
out += mean.tolist() + var.tolist() + [len(list(net.parameters())), len(net.state_dict())]
"""


@pytest.mark.parametrize("size", [(4, 2), (5, 3)], ids=str)
def test_norms_that_are_functions_move_what_they_are_given(size):
    """So do modules whose weights are set from outside: these are no parameters."""
    text = OWN.replace("SIZE", str(size[0])).replace("BATCH", str(size[1]))
    ours, theirs = both(text, "own_norms")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=1e-4, atol=2e-5)


GIVEN_STATISTICS = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norms = nn.Sequential(nn.Identity(), nn.BatchNorm1d(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))

    def forward(self, x):
        norm = self.norms[1]
        x = F.batch_norm(x, self.mean.detach(), self.var.data, None, None, self.training)
        return F.batch_norm(
            x * 2 + 1, running_var=self.norms[1].running_var.data.detach(),
            running_mean=norm.running_mean.detach(), training=True, momentum=0.3
        )


net = Net(SIZE)
out = []
for i in range(3):
    out += net(torch.sin(torch.arange(SIZE * BATCH).float() * (i + 1)).view(BATCH, SIZE)).tolist()
for b in (net.mean, net.var, net.norms[1].running_mean, net.norms[1].running_var):
    out.append(b.tolist())
"""


@pytest.mark.parametrize("size", [(4, 3), (5, 2)], ids=str)
def test_statistics_that_are_given_detached_are_moved(size):
    text = GIVEN_STATISTICS.replace("SIZE", str(size[0])).replace("BATCH", str(size[1]))
    ours, theirs = both(text, "given_statistics")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "lines",
    [
        "F.batch_norm(x, bn.running_mean.view(-1), bn.running_var, training=True)",
        "F.batch_norm(x, bn.running_mean, bn.running_var[:], None, None, bn.training)",
        "torch.batch_norm(x, None, None, bn.running_mean[:], bn.running_var, True, 0.1, 1e-5, 1)",
        "mean = bn.running_mean.detach()\n    F.instance_norm(x, mean, bn.running_var)",
        "m, v = bn.running_mean, bn.running_var.float()\n    F.batch_norm(x, m, v, training=True)",
    ],
)
def test_statistics_that_are_views_are_refused_and_do_not_run(lines):
    text = "import torch\nimport torch.nn.functional as F\ndef run(bn, x):\n    " + lines + "\n"
    result = torch2mlx.port(text)
    assert ["moves `bn.running_" in u.reason for u in result.unsupported] == [True]
    ported = executed(result.source, "views")
    norm = need("torch2mlx.kit")[0].channels_first.BatchNorm1d(3)
    with pytest.raises(NotImplementedError, match=r"moves `bn\.running_"):
        ported.run(norm, mx.zeros((2, 3)))


def test_views_of_statistics_that_only_norm_stay():
    text = "import torch.nn.functional as F\ndef run(bn, x):\n"
    text += "    return F.batch_norm(x, bn.a[0], bn.b)\n"
    assert torch2mlx.port(text).ok


THROUGH = """
import functools
import torch
import torch.nn as nn
import torch.nn.functional as F


def norm(x, mean, var, training=True):
    return F.batch_norm(x, mean, var, training=training)


def of_pair(x, pair):
    mean, var = pair
    return norm(x, mean, var)


def of_all(x, *given, **named):
    return F.batch_norm(x, *given, training=True, **named)


def fade(kept, x):
    kept.mul_(0.9).add_(x)


class Norm(nn.Module):
    def forward(self, x, mean, var):
        return F.batch_norm(x, mean, var, training=True)


class Net(nn.Module):
    def __init__(self, n=SIZE):
        super().__init__()
        self.register_buffer("rows", torch.stack([torch.zeros(n), torch.ones(n)]))
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("var", torch.ones(n))
        self.norm, self.first = Norm(), self.rows[0]

    def part(self, i):
        return self.rows[i]

    def forward(self, x):
        BODY


net = Net()
OUT = []
for i in range(2):
    OUT.append(net(torch.cos(torch.arange(BATCH * SIZE).float() * (i + 1)).view(BATCH, SIZE)))
OUT += [net.rows, net.mean, net.var]
"""
WHOLE = """
        x = norm(x, self.mean, self.var) + of_pair(x, [self.mean.detach(), self.var.data])
        x = x + norm(x, self.mean.clone(), self.var)
        fade(self.mean.data, x.mean(0).detach())
        return self.norm(x, self.mean, self.var) + of_all(x, self.mean, running_var=self.var)
"""


@pytest.mark.parametrize("size", [(4, 2), (5, 3)], ids=str)
def test_functions_of_the_file_move_the_tensors_that_they_are_given(size):
    text = THROUGH.replace("SIZE", str(size[0])).replace("BATCH", str(size[1]))
    ours, theirs = both(text.replace("BODY", WHOLE), "through")
    for mine, wanted in zip(ours.OUT, theirs["OUT"], strict=True):
        np.testing.assert_allclose(np.array(mine), wanted.detach(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "call",
    [
        "norm(x, self.rows[0], self.rows[1])",
        "norm(x, var=self.part(1), mean=self.part(0))",
        "norm(x, self.first, self.var)",
        "norm(x, *self.rows)",
        "of_pair(x, self.rows)",
        "of_pair(x, (self.mean, self.rows[1]))",
        "of_all(x, self.rows[0], self.rows[1])",
        "of_all(x, running_mean=self.rows[0], running_var=self.var)",
        "self.norm(x, self.rows[0] if x.dim() == 2 else self.mean, self.var)",
        "functools.partial(F.batch_norm, x, self.rows[0], self.rows[1], training=True)()",
        "F.batch_norm(x, *self.rows.unbind(0), training=True)",
        "(lambda m, v: F.batch_norm(x, m, v, training=True))(self.rows[0], self.rows[1])",
        "fade(self.rows[0], x.mean(0)) or x",
    ],
)
def test_views_that_functions_of_the_file_change_are_refused(call):
    text = THROUGH.replace("SIZE", "3").replace("BATCH", "2").replace("BODY", f"return {call}")
    left = torch2mlx.port(text).unsupported
    assert any("in place" in each.reason for each in left), left
