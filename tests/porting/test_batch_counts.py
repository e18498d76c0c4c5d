"""The counts of batches of norms, which are buffers in torch and numbers of a layer in MLX."""

from __future__ import annotations

import numpy as np
import pytest

from tests.porting.compare import both
from tests.support import need

torch, mx, nn = need("torch", "mlx.core", "mlx.nn")

COUNTS = """
import torch
import torch.nn as nn


def numbers(*shape):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.7).reshape(shape)


class Own(nn.BatchNorm1d):
    def forward(self, x):
        if self.training:
            self.num_batches_tracked += 1
        return super().forward(x) * float(self.num_batches_tracked)


def net():
    made = nn.Sequential(
        nn.Linear(3, SIZE),
        nn.BatchNorm1d(SIZE, momentum=None),
        nn.Sequential(nn.Linear(SIZE, SIZE), nn.BatchNorm1d(SIZE)),
        nn.BatchNorm1d(SIZE, track_running_stats=False),
        Own(SIZE, momentum=None),
    )
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(numbers(*p.shape) * 0.5)
    return made


def train(made, rounds):
    opt = torch.optim.SGD(made.parameters(), lr=0.05)
    found = []
    for i in range(rounds):
        opt.zero_grad()
        loss = (made(numbers(BATCH, 3) * (i + 1)) - 1).pow(2).mean()
        loss.backward()
        opt.step()
        found.append(loss.item())
    return found


first, second = net(), net()
out = train(first, 3)
second.load_state_dict(first.state_dict())
out += train(second, 2)
second.eval()
out += second(numbers(BATCH, 3)).flatten().tolist()
names = [name for name, _ in second.named_buffers()] + list(second.state_dict())
names += [name for name, _ in second[1].named_buffers()]
counts = [b.item() for name, b in second.named_buffers() if "tracked" in name]
counts += [int(first[1].num_batches_tracked), len(list(second.buffers()))]
counts.append(first.state_dict()["1.num_batches_tracked"].item())
counts.append(second[3].num_batches_tracked is None)
first[1].num_batches_tracked.zero_()
first[2][1].num_batches_tracked += 2
second[1].num_batches_tracked.fill_(7)
second[2][1].num_batches_tracked.copy_(first[2][1].num_batches_tracked)
counts += [m.num_batches_tracked.item() for m in (first[1], first[2][1], second[1], second[2][1])]
for b in first.buffers():
    b.zero_()
counts += [b.sum().item() for b in first.buffers()]
images = nn.InstanceNorm2d(SIZE, momentum=None, track_running_stats=True)
images(numbers(BATCH, SIZE, 4, 3))
counts += [images.num_batches_tracked.item(), *images.running_mean.tolist()]
second[1].reset_running_stats()
counts.append(second[1].num_batches_tracked.item())
"""


@pytest.mark.parametrize("size", [(4, 3), (5, 2)], ids=str)
def test_counts_of_batches_are_buffers_that_are_carried_read_and_set(size):
    text = COUNTS.replace("SIZE", str(size[0])).replace("BATCH", str(size[1]))
    ours, theirs = both(text, "counts")
    assert (ours.names, ours.counts[:-6]) == (theirs["names"], theirs["counts"][:-6])
    np.testing.assert_allclose(ours.counts[-6:], theirs["counts"][-6:], rtol=1e-6)
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=1e-4, atol=1e-5)


def test_counts_of_compiled_steps_go_on(monkeypatch):
    """A program that is compiled cannot hold a count, so a step that reads one runs as written."""
    from torch2mlx import kit

    monkeypatch.setitem(kit.compiling.WAIT, "cpu", 1)
    layer = kit.BatchNorm(3)
    scale = mx.arange(6.0).reshape(2, 3)

    @kit.compiled(layer)
    def plain(x):
        return layer(x).sum()

    @kit.compiled(layer)
    def reading(x):
        return layer(x).sum() * 0 + float(layer.num_batches_tracked)

    assert [plain(scale) and layer.num_batches_tracked.item() for _ in range(4)] == [1, 2, 3, 4]
    assert [float(reading(scale)) for _ in range(4)] == [5, 6, 7, 8]


def test_states_without_counts_leave_them_as_torch_does():
    from torch2mlx import kit

    theirs, ours = torch.nn.BatchNorm1d(3), kit.channels_first.BatchNorm1d(3)
    for layer in (theirs, ours):
        layer.num_batches_tracked += 4
    state = {k: v for k, v in theirs.state_dict().items() if "tracked" not in k}
    theirs.load_state_dict(state)
    kit.files.load_state_dict(ours, {k: mx.array(v.numpy()) for k, v in state.items()})
    assert ours.num_batches_tracked.item() == theirs.num_batches_tracked.item() == 4
    assert ours.num_batches_tracked.dtype == mx.int64
