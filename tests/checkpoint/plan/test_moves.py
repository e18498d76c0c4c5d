"""Modules whose tensors are only moved are planned by kind, to the same plan as one by one."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import torch
from torch import nn

from tests.checkpoint.plan.layer_cases import CASES
from torch2mlx.checkpoint.plan import planner as weight_converter
from torch2mlx.checkpoint.plan.planner import make_plan
from torch2mlx.checkpoint.plan.typing import from_keys, from_module
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.errors import ConversionError


def both(monkeypatch, typed, dtype=None):
    """The plan, and the plan of the way that takes every tensor by itself."""
    short = make_plan(typed, dtype)
    with monkeypatch.context() as patch:
        patch.setattr(weight_converter, "shared_rule", lambda spec: None)
        return short, make_plan(typed, dtype)


def assert_same(short, long):
    for name in ("traces", "ties", "notes", "made", "shared"):
        assert getattr(short, name) == getattr(long, name), name
    for mine, other in ((short.pieces, long.pieces), (short.sidecar, long.sidecar)):
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            for name in ("target", "shape", "dtype", "sources", "rule", "deferred", "identity"):
                assert getattr(a, name) == getattr(b, name), (a.target, name)
            assert a.load().shape == b.load().shape
            assert bytes(a.load().dense()) == bytes(b.load().dense())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_is_planned_as_tensor_by_tensor(case, monkeypatch):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = case.torch_layer(), case.torch_layer()

    checkpoint = open_checkpoint(Two())
    if checkpoint.tensors:
        assert_same(*both(monkeypatch, from_module(checkpoint, checkpoint.tree, None)))


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_ties_views_and_renames_stay(dtype, monkeypatch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
            self.head.weight = self.embed.weight
            self.stack = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))
            self.stack[1].weight = self.stack[0].weight
            self.empty = nn.Parameter(torch.zeros(0, 3))
            self.other = nn.Parameter(torch.zeros(0, 3))

    checkpoint = open_checkpoint(Net())
    short, long = both(monkeypatch, from_module(checkpoint, checkpoint.tree, None), dtype)
    assert_same(short, long)
    assert set(short.ties) == {"head.weight", "stack.layers.1.weight"}


def test_rules_for_single_tensors_are_kept(monkeypatch):
    state = {f"{i}.{n}": np.ones((2, 3, 4), np.float32) * i for i in range(4) for n in "ab"}
    rules = {"2.a": "a b c -> c a b", "3.*": "a b c -> b a c", "1.b": "drop"}
    typed = from_keys(open_checkpoint(state), {"**.?": "identity", **rules})
    assert_same(*both(monkeypatch, typed))


def test_a_layout_that_does_not_fit_names_its_tensor():
    """The rules are checked beforehand; a record of another class stands for what slips through."""
    typed = from_keys(open_checkpoint({"conv.weight": np.ones((2, 3), np.float32)}), None)
    record = typed.tree.records["conv"]._replace(kinds=("torch.nn.Conv1d",))
    tree = replace(typed.tree, records={**typed.tree.records, "conv": record})
    with pytest.raises(
        ConversionError, match=r"^tensor 'conv.weight': 2 dimensions where o i k -> o k i takes 3$"
    ):
        make_plan(replace(typed, tree=tree))
