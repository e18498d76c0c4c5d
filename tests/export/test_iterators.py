"""Iterators that a forward takes from: put back where that can be, refused by name where a later
call gets another item, or where nothing can give the items again."""

import itertools
from collections import deque

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.verify.iterators import again, progress

X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 3.0, -1.0]])
OF_THE_FILE = iter([2.0, 3.0, 4.0])
NUMBERS = [1.0, 2.0, 3.0, 4.0]


def squares():
    yield from (1.0, 4.0, 9.0)


class Counter:
    """An iterator that is a class of the file."""

    def __init__(self):
        self.count = 1.0

    def __iter__(self):
        return self

    def __next__(self):
        self.count += 1
        return self.count


class Takes(nn.Module):
    """A forward that multiplies by what an iterator of its own gives next."""

    def __init__(self, items):
        super().__init__()
        self.items = items

    def forward(self, x):
        return x * next(self.items)


class Keeps(Takes):
    """The same, in an object, in a list, in a dict."""

    def forward(self, x):
        return x * next(self.items[0])


class FromTheFile(nn.Module):
    """A forward that takes from an iterator of the file."""

    def forward(self, x):
        return x * next(OF_THE_FILE)


class Sums(Takes):
    """A forward that takes two items from several iterators in one."""

    def forward(self, x):
        for one, other in itertools.islice(self.items, 2):
            x = x * one + other
        return x


AGAIN = {
    "of a list": lambda: iter(NUMBERS),
    "of a range": lambda: iter(range(1, 9)),
    "of a dict": lambda: iter(dict.fromkeys(NUMBERS)),
    "of a deque": lambda: iter(deque(NUMBERS)),
    "cycle": lambda: itertools.cycle([2.0, 3.0]),
    "count": lambda: itertools.count(2.5),
    "map": lambda: map(abs, iter([-1.0, -2.0, -3.0, -4.0])),
    "chain": lambda: itertools.chain([1.0], iter([2.0, 3.0, 4.0])),
    "reversed": lambda: reversed(NUMBERS),
}


@pytest.mark.parametrize("name", AGAIN)
def test_another_iterator_is_as_far_as_the_first(name):
    one = AGAIN[name]()
    next(one)
    known, other = progress(one), again(one)
    like = progress(other)
    assert progress(one) == known
    rest = list(itertools.islice(one, 3))
    assert progress(one) != known and progress(other) == like
    assert list(itertools.islice(other, 3)) == rest


@pytest.mark.parametrize("name", AGAIN)
def test_the_next_item_is_refused_and_nothing_is_taken(name):
    model = Takes(AGAIN[name]())
    first = next(AGAIN[name]())
    with pytest.raises(TranslationError, match="second call differs: the forward changes items,"):
        torch2mlx.translate(model, (X,))
    made = torch2mlx.translate(model, (X,), check=False)
    assert "the forward changes items: the file does what the first call does" in made.notes[-1]
    np.testing.assert_array_equal(made.module(to_mlx(X)), X * first)
    torch.testing.assert_close(model(X), X * first)


HELD = [([iter(NUMBERS)], "items"), (deque([iter(NUMBERS)]), "items")]
HELD += [({0: iter(NUMBERS)}, "items")]


@pytest.mark.parametrize("items, name", HELD)
def test_iterators_in_containers_are_seen_and_put_back(items, name):
    model = Keeps(items)
    with pytest.raises(TranslationError, match=f"the forward changes {name},"):
        torch2mlx.translate(model, (X,))
    torch.testing.assert_close(model(X), X * 1.0)


def test_iterators_of_a_file_are_put_back():
    with pytest.raises(TranslationError, match="the forward changes OF_THE_FILE,"):
        torch2mlx.translate(FromTheFile(), (X,))
    torch.testing.assert_close(FromTheFile()(X), X * 2.0)
    torch.testing.assert_close(FromTheFile()(X), X * 3.0)


def test_iterators_in_iterators_are_put_back():
    model = Sums(zip(iter(NUMBERS), itertools.count(1.0), strict=False))
    with pytest.raises(TranslationError, match="the forward changes items,"):
        torch2mlx.translate(model, (X,))
    torch.testing.assert_close(model(X), (X * 1.0 + 1.0) * 2.0 + 2.0)


def test_classes_that_iterate_are_objects_as_others_are():
    model = Takes(Counter())
    with pytest.raises(TranslationError, match=r"the forward changes items\.count,"):
        torch2mlx.translate(model, (X,))
    torch.testing.assert_close(model(X), X * 2.0)


def test_a_cycle_of_one_item_is_right_at_every_call():
    made = torch2mlx.translate(Takes(itertools.cycle([3.0])), (X,))
    for _ in range(3):
        np.testing.assert_array_equal(made.module(to_mlx(X)), X * 3.0)


SPENT = {
    "generator": squares,
    "map of a generator": lambda: map(float, squares()),
    "chain of a generator": lambda: itertools.chain([1.0], squares()),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", SPENT)
def test_what_cannot_be_given_again_is_refused_by_name(name, check):
    told = "^each call of the forward takes the next item of items, and what it gave cannot be"
    with pytest.raises(TranslationError, match=told):
        torch2mlx.translate(Takes(SPENT[name]()), (X,), check=check)


def test_a_generator_that_no_forward_takes_from_is_no_matter():
    model = nn.Sequential(nn.Linear(3, 3))
    model.rows = squares()
    made = torch2mlx.translate(model, (X,))
    np.testing.assert_allclose(made.module(to_mlx(X)), model(X).detach(), rtol=1e-6, atol=1e-6)
    assert next(model.rows) == 1.0


def test_models_without_values_are_refused_too():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 3), Takes(iter(NUMBERS)))
    with pytest.raises(
        TranslationError, match=r"second call differs: the forward changes 1\.items"
    ):
        torch2mlx.translate(model, (X.to("meta"),))
