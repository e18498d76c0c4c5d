"""Copies of first weights that a script takes before its optimizer is made are torch's too."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "libcst", "safetensors")

import mlx.core as mx

import torch2mlx
from tests.lockstep.judges import Judge
from torch2mlx.lockstep.copies import Changed, Copies, in_torch_layout, reached
from torch2mlx.lockstep.matching import Match

#: Averages, anchors and lists of weights, taken before the optimizer; all of them reach the loss.
SCRIPT = """
import torch
import torch.nn as nn


class Average:
    def __init__(self, model):
        self.kept = {n: p.detach().clone() for n, p in model.named_parameters()}

    def update(self, model):
        for n, p in model.named_parameters():
            self.kept[n] = 0.9 * self.kept[n] + 0.1 * p.detach()


model = nn.Sequential(nn.Conv2d(2, SIZE, 3), nn.Flatten(), nn.Linear(4 * SIZE, 1))
average = Average(model)
state = {k: v.clone() for k, v in model.state_dict().items()}
anchor = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
weights = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for step in range(4):
    x = torch.randn(BATCH, 2, 4, 4)
    loss = (model(x) - x.mean()).pow(2).mean()
    loss = loss + (torch.cat([p.reshape(-1) for p in model.parameters()]) - anchor).pow(2).sum()
    for name, p in model.named_parameters():
        loss = loss + (p - average.kept[name]).pow(2).sum() + (p - state[name]).abs().sum()
    for mean, p in zip(weights, model.parameters()):
        loss = loss + (p - mean).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    average.update(model)
    with torch.no_grad():
        for mean, p in zip(weights, model.parameters()):
            mean.lerp_(p, 0.1)
"""


@pytest.mark.parametrize(("size", "batch"), [(3, 4), (5, 2)])
def test_averages_taken_before_the_optimizer_agree(size, batch, tmp_path):
    script, port = tmp_path / "average.py", tmp_path / "average_mlx.py"
    script.write_text(SCRIPT.replace("SIZE", str(size)).replace("BATCH", str(batch)))
    ported = torch2mlx.port(script)
    assert ported.ok
    port.write_text(ported.source)
    found = Judge(tmp_path / "judged").verdict(script, port)
    assert found.ok, str(found)
    assert len(found.steps) == 4
    wrong = ported.source.replace("0.9 * self.kept[n] + 0.1 *", "0.8 * self.kept[n] + 0.2 *")
    port.write_text(wrong)
    assert wrong != ported.source
    assert not Judge(tmp_path / "judged").verdict(script, port).ok


def _changed(rng, *shape):
    return Changed(rng.normal(size=shape), rng.normal(size=shape))


def test_one_array_and_several_in_a_row_are_known_by_their_items():
    rng = np.random.default_rng(0)
    one, zeros, other = _changed(rng, 3, 2), Changed(np.zeros(3), np.ones(3)), _changed(rng, 3)
    copies = Copies([[one, zeros, other]])
    np.testing.assert_array_equal(copies.of(one.old), one.new)
    np.testing.assert_array_equal(copies.of(one.old.reshape(-1)), one.new.reshape(-1))
    row = np.concatenate([c.old.reshape(-1) for c in (one, zeros, other)])
    new = np.concatenate([c.new.reshape(-1) for c in (one, zeros, other)])
    np.testing.assert_array_equal(copies.of(row), new)


def test_what_is_no_copy_is_left_alone():
    rng = np.random.default_rng(0)
    one, zeros = _changed(rng, 3, 2), Changed(np.zeros(3), np.ones(3))
    half, ones = Changed(np.full(1, 0.5), np.full(1, 7.0)), Changed(np.ones(4), np.zeros(4))
    copies = Copies([[one, zeros, half, ones]])
    for values in (one.old * 2, one.old[:2], np.zeros(3), np.full(1, 0.5), np.ones(4), np.zeros(0)):
        assert copies.of(values) is None


def test_torchs_layout_is_known_where_mlx_has_all_of_a_tensor():
    given = {"0:w": np.arange(6.0).reshape(2, 3), "0:part": np.arange(4.0)}
    turned = np.arange(6).reshape(2, 3).T.reshape(-1)
    old = np.random.default_rng(1).normal(size=(3, 2))
    pairs = [
        (Match(("0:w",), turned, (3, 2), 0), old),
        (Match(("0:part",), np.arange(2), (2,), 1), old[0]),
    ]
    [found] = in_torch_layout(pairs, given)
    np.testing.assert_array_equal(found.old, old.T.reshape(-1))
    np.testing.assert_array_equal(found.new, np.arange(6.0))


def test_arrays_are_found_in_containers_objects_and_functions_of_the_scripts():
    class Holder:
        def __init__(self, value):
            self.value = value

    class Anything:
        def __getattr__(self, name):
            return self

        def __call__(self, *args):
            return self

    arrays = [mx.array([float(i)]) for i in range(5)]

    def closing():
        return arrays[4]

    held = [{"a": arrays[0]}, Holder((arrays[1], [arrays[2]])), Holder(arrays[3]).__init__, closing]
    held += [Anything()]
    found = {float(a.item()) for a in reached(held, __file__, mx.array)}
    assert found == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert {float(a.item()) for a in reached(held, "/elsewhere", mx.array)} == {0.0, 1.0, 2.0, 3.0}
