"""Weights and draws start alike at any size; what is only compared may be left out."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "libcst", "safetensors")

import torch2mlx
from tests.lockstep import judges
from torch2mlx.lockstep import records

#: Both the weight and the noise have more items than are compared here.
SCRIPT = """
import torch
import torch.nn as nn

net = nn.ConvTranspose2d(3, 5, (2, 4), bias=False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    noise = torch.randn(BATCH * 50)
    x = torch.randn(BATCH, 3, 1, 1) + noise[::9].mean()
    loss = net(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
FEW = 64


def record_little(job):
    """A recording of torch's side that leaves out what has more than a few items."""
    records.LARGEST = FEW
    judges.record_in_forks(job)


@pytest.mark.parametrize("batch", [2, 3])
def test_large_weights_and_draws_are_given_to_the_other_side(batch, tmp_path):
    script, port = tmp_path / "large.py", tmp_path / "large_mlx.py"
    script.write_text(SCRIPT.replace("BATCH", str(batch)))
    ported = torch2mlx.port(script)
    port.write_text(ported.source)
    judge = judges.Judge(tmp_path / "judged", record=record_little)
    found = judge.verdict(script, port)
    assert found.ok, str(found)
    assert len(found.steps) == 2
    port.write_text(ported.source.replace("::9", "::8"))
    assert not judge.verdict(script, port).ok


def test_what_is_compared_alone_is_left_out_beyond_a_size(monkeypatch):
    monkeypatch.setattr(records, "LARGEST", FEW)
    kept = records.Recorder()
    assert kept.put(np.zeros(FEW + 1)) is None
    assert kept.put(np.zeros(FEW)) == {"array": "0"}
    assert kept.put(np.zeros(FEW + 1), given=True) == {"array": "1"}
