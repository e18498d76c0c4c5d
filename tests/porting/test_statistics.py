"""Running statistics that a script starts anew, and buffers that it reads and sets by name."""

import numpy as np
import pytest

from tests.porting.compare import executed
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
    theirs: dict = {"__name__": "in_torch"}
    exec(text, theirs)
    result = torch2mlx.port(text)
    assert not result.unsupported
    ours = executed(result.source, "statistics")
    assert ours.names == [n for n in theirs["names"] if not n.endswith("num_batches_tracked")]
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
