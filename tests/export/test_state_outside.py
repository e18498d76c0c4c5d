"""What a forward changes outside of its modules' buffers is put back, and another second answer is
refused by name."""

import array
import functools
import itertools
import types
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
from torch2mlx.export.verify.outside import Outside

X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 3.0, -1.0]])
CALLS = 0
TABLE: dict = {}
SEEN: deque = deque(maxlen=2)
NUMBERS = itertools.count(1)


class Settings:
    """An object of the file."""

    scale = 1.0


SETTINGS = Settings()


class Does(nn.Module):
    """A forward that is a function."""

    def __init__(self, function):
        super().__init__()
        self.does = function

    def forward(self, x):
        return self.does(x)


def counts(x):
    global CALLS
    CALLS += 1
    return x * CALLS


def remembers(x):
    if "first" not in TABLE:
        TABLE["first"] = x.mean()
    return x + TABLE["first"]


def averages(x):
    SEEN.append(x.detach())
    return sum(SEEN) / len(SEEN)


def numbers(x):
    return x * next(NUMBERS)


def halves(x):
    SETTINGS.scale = SETTINGS.scale * 0.5
    return x * SETTINGS.scale


def marked(x):
    marked.calls += 1
    return x * marked.calls


marked.calls = 0


def collects(x, seen=[]):  # noqa: B006
    seen.append(1)
    return x / len(seen)


def closed():
    calls = 0

    def inner(x):
        nonlocal calls
        calls += 1
        return x * calls

    return functools.partial(inner)


LATER = [(counts, "CALLS"), (remembers, "TABLE"), (averages, "SEEN"), (numbers, "NUMBERS")]
LATER += [(halves, r"SETTINGS\.scale"), (marked, r"marked\.calls"), (closed(), "calls of inner")]
LATER += [(collects, "a default of collects")]


class Slotted:
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 1


SPACE, SLOTS = types.SimpleNamespace(calls=1, total=torch.ones(1)), Slotted()
BYTES, WHOLE, FLOATS = bytearray([1]), array.array("i", [1]), np.ones(1)


def spaced(x):
    SPACE.calls += 1
    return x * SPACE.calls


def totals(x):
    SPACE.total = SPACE.total + 1
    return x * SPACE.total


def slotted(x):
    SLOTS.calls += 1
    return x * SLOTS.calls


def byted(x):
    BYTES[0] += 1
    return x * BYTES[0]


def whole(x):
    WHOLE[0] += 1
    return x * WHOLE[0]


def floats(x):
    FLOATS[0] += 1
    return x * float(FLOATS[0])


HELD = [(spaced, "SPACE.calls"), (totals, "SPACE.total"), (slotted, "SLOTS.calls")]
HELD += [(byted, "BYTES"), (whole, "WHOLE"), (floats, "FLOATS")]


def kept():
    return SPACE.calls, SPACE.total.item(), SLOTS.calls, BYTES[0], WHOLE[0], FLOATS[0]


@pytest.mark.parametrize("function, name", HELD)
def test_numbers_that_objects_and_memory_hold_are_named_and_put_back(function, name):
    model, before = Does(function), kept()
    with pytest.raises(TranslationError, match=f"second call differs: the forward changes {name}"):
        torch2mlx.translate(model, (X,))
    made = torch2mlx.translate(model, (X,), check=False)
    assert any(f"the forward changes {name}: " in note for note in made.notes)
    assert kept() == before


class Forgets(nn.Module):
    """A forward that deletes an attribute."""

    def __init__(self):
        super().__init__()
        self.first = True

    def forward(self, x):
        if hasattr(self, "first"):
            del self.first
            return x * 2
        return x + 1


def test_an_attribute_that_is_deleted_is_named():
    model = Forgets()
    with pytest.raises(TranslationError, match="second call differs: the forward changes first"):
        torch2mlx.translate(model, (X,))
    made = torch2mlx.translate(model, (X,), check=False)
    assert any("the forward changes first: " in note for note in made.notes)
    assert model.first


@pytest.mark.parametrize("function, name", LATER)
def test_another_second_answer_is_refused_by_name(function, name):
    model = Does(function)
    with pytest.raises(TranslationError, match=f"second call differs: the forward changes {name}"):
        torch2mlx.translate(model, (X,))


def test_what_a_forward_changed_in_its_file_is_put_back():
    before = CALLS, dict(TABLE), list(SEEN), SETTINGS.scale, marked.calls
    for function in (counts, remembers, averages, halves, marked):
        torch2mlx.translate(Does(function), (X,), check=False)
    assert (CALLS, dict(TABLE), list(SEEN), SETTINGS.scale, marked.calls) == before


QUIET = 0


def counts_only(x):
    global QUIET
    QUIET += 1
    return x * 2


@functools.lru_cache
def places(length):
    return torch.arange(length, dtype=torch.float32)


def looks_up(x):
    return x + places(x.shape[1])


@pytest.mark.parametrize("function", [counts_only, looks_up])
def test_what_no_later_call_reads_is_no_matter(function):
    made = torch2mlx.translate(Does(function), (X,))
    for given in (X, X[:, :2], torch.cat([X, X], 1)):
        np.testing.assert_array_equal(made.module(to_mlx(given)), function(given))
    assert type(places(3)) is torch.Tensor  # none of a trace is left in the cache


class Anything:
    """An object that has an attribute for every name, as proxies and mocks do."""

    def __getattr__(self, name):
        return Anything()

    def __call__(self, *args):
        return None


LOG = Anything()


def logs(x):
    LOG.info("called")
    return x * 2


def asserts(x):
    assert x.shape[1] <= 6, "pytest rewrites this where it collects the file"
    return x * 2


@pytest.mark.parametrize("function", [logs, asserts])
def test_objects_that_have_every_attribute_are_no_caches(function):
    made = torch2mlx.translate(Does(function), (X,))
    np.testing.assert_array_equal(made.module(to_mlx(X[:1])), function(X[:1]))


class Held(nn.Module):
    """A buffer that is given another tensor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        y = x + self.mean
        self.mean = self.mean + x.mean(0)
        return y


class Twice(nn.Module):
    """A module under two names."""

    def __init__(self, calls):
        super().__init__()
        self.one = Held()
        self.other = self.one
        self.calls = calls

    def forward(self, x):
        for _ in range(self.calls):
            x = self.other(x)
        return x


@pytest.mark.parametrize("calls", [1, 2])
def test_a_new_tensor_in_a_buffer_of_a_module_under_two_names_is_refused(calls):
    with pytest.raises(TranslationError, match=r"changes one\.mean, .* held once"):
        torch2mlx.translate(Twice(calls), (X,))


def test_a_buffer_under_two_names_that_part_is_refused():
    class Parts(Held):
        def __init__(self):
            super().__init__()
            self.register_buffer("same", self.mean)

        def forward(self, x):
            return super().forward(x) + self.same

    with pytest.raises(TranslationError, match="second call differs: the forward changes mean"):
        torch2mlx.translate(Parts(), (X,))


def test_code_of_libraries_is_not_looked_into():
    names = {name for name, _ in Outside(nn.TransformerEncoderLayer(8, 2)).containers}
    assert not any("torch" in name for name in names)
