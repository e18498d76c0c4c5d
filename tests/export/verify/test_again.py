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


class Noisy(Keeps):
    """The same with a draw that does not matter for the mean, and does for each number."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, True)


@pytest.mark.parametrize("forward, attributes, name", LATER)
def test_another_second_answer_is_refused_where_the_forward_draws(forward, attributes, name):
    told = f"the second call differs: the forward changes {name}, .*register_buffer"
    with pytest.raises(TranslationError, match=told):
        torch2mlx.translate(Noisy(forward, **deepcopy(attributes)), (X,))
    made = torch2mlx.translate(Noisy(forward, **deepcopy(attributes)), (X,), check=False)
    with pytest.raises(VerificationError, match=told):
        torch2mlx.verify(Noisy(forward, **deepcopy(attributes)), made, (X,))


def drawn_once(m, x):
    if m.inner.kept is None:
        m.inner.kept = torch.rand(x.shape)
    return x + m.inner.kept


def layer_at_first(m, x):
    if not hasattr(m, "late"):
        m.late = nn.Linear(2, 2)
    return m.late(x)


@pytest.mark.parametrize("forward, name", [(drawn_once, r"inner\.kept"), (layer_at_first, "late")])
def test_what_the_first_call_draws_and_later_ones_keep_is_refused(forward, name):
    with pytest.raises(TranslationError, match=f"second call differs: the forward changes {name}"):
        torch2mlx.translate(Keeps(forward), (X,))


class Averages(nn.Module):
    """A buffer that follows the mean of what dropout leaves."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x):
        x = nn.functional.dropout(x, 0.5, True)
        self.mean.mul_(0.5).add_(x.mean(0))
        return x - self.mean


def test_buffers_that_follow_draws_are_compared_in_later_calls():
    made = torch2mlx.translate(Averages(), (X,))
    assert torch2mlx.verify(Averages(), made, (X,)).verdict == "equal"


def every(period):
    def forward(m, x):
        m.n += 1
        return x * 2 if m.n % period == 0 else x

    return forward


def warms_up(m, x):
    m.n += 1
    return x if m.n <= 500 else -x


def resets(m, x):
    m.n += 1
    if m.n % 7 == 0:
        m.total.zero_()
    m.total += 1
    return x * 1


FAR = [(every(3), "call 3"), (every(100), "a call at n = 99"), (warms_up, "a call at n = 999")]


@pytest.mark.parametrize("forward, call", FAR)
def test_what_a_counter_decides_later_is_refused_by_name(forward, call):
    with pytest.raises(TranslationError, match=f"{call} differs: the forward changes n, "):
        torch2mlx.translate(Keeps(forward, n=0), (X,))


def test_what_a_counter_decides_of_a_buffer_is_refused_by_name():
    model = Keeps(resets, n=0)
    model.register_buffer("total", torch.ones(2))
    with pytest.raises(TranslationError, match="call 7 differs: the forward changes n, total, "):
        torch2mlx.translate(model, (X,))
    assert model.n == 0 and torch.equal(model.total, torch.ones(2))


def first_mean(m, x):
    if m.inner.kept is None:
        m.inner.kept = x.mean(0).detach()
    return x.abs() - m.inner.kept


def test_a_forward_that_raises_for_others_after_the_first_call_is_refused_by_name():
    told = r"second call differs: the forward changes inner\.kept"
    with pytest.raises(TranslationError, match=told):
        torch2mlx.translate(Keeps(first_mean), (X,))


class Follows(nn.Module):
    """A buffer that is what came in."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x):
        self.mean.mul_(0.5).add_(x.mean(0))
        return x - self.mean


def test_the_weights_are_those_from_before_any_call():
    x = X[:1]  # is a batch of one free? the model has to be run for that
    made = torch2mlx.translate(Follows(), (x,))
    assert not np.array(made.weights["mean"]).any()
    limited = nn.Embedding(5, 2, max_norm=0.5)
    weight = limited.weight.detach().numpy().copy()
    made = torch2mlx.translate(nn.Sequential(limited), (torch.tensor([[1, 3, 3]]),))
    np.testing.assert_array_equal(made.weights["layers.0.weight"], weight)


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
