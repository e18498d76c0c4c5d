"""What a forward keeps in plain attributes between calls: another second answer is refused by
name, counters are noted."""

from copy import deepcopy

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.ir.structures import to_mlx

X = torch.tensor([[1.0, -2.0], [0.5, 3.0]])


class Keeps(nn.Module):
    """A forward with some attributes, that may be written to."""

    def __init__(self, forward, **attributes):
        super().__init__()
        self.inner = nn.Module()
        self.inner.kept = None
        self.does = forward
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.does(self, x)


def counts(m, x):
    m.n += 1
    return x * m.n


def remembers(m, x):
    y = x if m.inner.kept is None else x + m.inner.kept
    m.inner.kept = y.detach()
    return y


def collects(m, x):
    m.seen.append(1)
    return x / len(m.seen)


def switches(m, x):
    m.even = not m.even
    return x if m.even else -x


def by_name(m, x):
    m.table["n"] = m.table.get("n", 0.0) + 1.0
    return x + m.table["n"]


LATER = [(counts, {"n": 0}, "n"), (remembers, {}, r"inner\.kept"), (collects, {"seen": []}, "seen")]
LATER += [(switches, {"even": True}, "even"), (by_name, {"table": {}}, "table")]


@pytest.mark.parametrize("forward, attributes, name", LATER)
def test_another_second_answer_is_refused_by_name(forward, attributes, name):
    told = f"the second call differs: the forward changes {name}, .*register_buffer"
    with pytest.raises(TranslationError, match=told):
        torch2mlx.translate(Keeps(forward, **deepcopy(attributes)), (X,))
    made = torch2mlx.translate(Keeps(forward, **deepcopy(attributes)), (X,), check=False)
    assert np.array_equal(made.module(to_mlx(X)), Keeps(forward, **deepcopy(attributes))(X))
    with pytest.raises(VerificationError, match=told):
        torch2mlx.verify(Keeps(forward, **deepcopy(attributes)), made, (X,))


class OfTheClass(nn.Module):
    """A counter that all instances share."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return x + type(self).calls


def test_attributes_of_a_class_are_state_too():
    with pytest.raises(TranslationError, match=r"changes OfTheClass\.calls, "):
        torch2mlx.translate(OfTheClass(), (X,))


def steps(m, x):
    m.n += 1
    return x * 2


def stores(m, x):
    m.inner.kept = x * 2
    return m.inner.kept


def caches(m, x):
    if m.inner.kept is None or m.inner.kept.shape != x.shape[1:]:
        m.inner.kept = torch.arange(x.shape[1]).float()
    return x + m.inner.kept


@pytest.mark.parametrize("forward, counted", [(steps, True), (stores, False), (caches, False)])
def test_what_no_later_call_reads_is_no_matter(forward, counted):
    model = Keeps(forward, n=3)
    made = torch2mlx.translate(model, (X,))
    assert [n for n in made.notes if n.startswith("the forward changes n:")] == list(made.notes)
    assert bool(made.notes) == counted and model.n == 3 and model.inner.kept is None
    for _ in range(2):
        assert np.array_equal(made.module(to_mlx(X)), model(X))
