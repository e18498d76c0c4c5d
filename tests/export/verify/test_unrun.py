"""What a forward changes where nothing is run: named, and refused where a second trace differs."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError

X = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
CALLS = 0


class Counts(nn.Module):
    """A counter, read or not."""

    def __init__(self, read):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.read, self.n = read, 0

    def forward(self, x):
        self.n += 1
        return self.linear(x) * (self.n if self.read else 1)


class Collects(nn.Module):
    """A list that grows, of numbers."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(2, 2), []

    def forward(self, x):
        self.seen.append(1)
        return self.linear(x) / len(self.seen)


class OfTheFile(nn.Module):
    """A counter of the file."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        global CALLS
        CALLS += 1
        return self.linear(x) * CALLS


class Remembers(nn.Module):
    """A tensor kept between calls."""

    def __init__(self):
        super().__init__()
        self.linear, self.kept = nn.Linear(2, 2), None

    def forward(self, x):
        y = self.linear(x)
        y = y if self.kept is None else y + self.kept
        self.kept = y.detach()
        return y


class Moves(nn.Module):
    """A buffer, which the file follows."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x)


def empty(make):
    with torch2mlx.empty_weights():
        return make()


@pytest.mark.parametrize(
    "make, name", [(lambda: Counts(True), "n"), (Collects, "seen"), (OfTheFile, "CALLS")]
)
def test_a_model_without_values_that_is_another_program_at_its_second_call_is_refused(make, name):
    model = empty(make)
    with pytest.raises(TranslationError, match=f"second call differs: the forward changes {name}"):
        torch2mlx.translate(model, (X,))
    assert not CALLS and not vars(model).get("n") and not vars(model).get("seen")


NAMED = [(lambda: Counts(True), "n"), (lambda: Counts(False), "n"), (Remembers, "kept")]


@pytest.mark.parametrize("make, name", NAMED)
def test_what_changes_is_named_where_nothing_is_run(make, name):
    note = f"the forward changes {name}: the file does what the first call does, at every call"
    assert note in torch2mlx.translate(make(), (X,), check=False).notes


@pytest.mark.parametrize("make, name", NAMED[1:])
def test_what_a_second_trace_does_not_show_is_named(make, name):
    note = f"the forward changes {name}: the file does what the first call does, at every call"
    assert note in torch2mlx.translate(empty(make), (X,)).notes


def test_buffers_are_no_matter():
    for model in (Moves(), empty(Moves)):
        made = torch2mlx.translate(model.train(), (X,), check=False)
        assert not any("changes" in note for note in made.notes)
