"""Models that draw random numbers: compared with torch's draws, or said not to be comparable."""

import random

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError

F = nn.functional
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
GIVEN = "MLX was given torch's random numbers: "


class Draws(nn.Module):
    """A layer, and a function of it and its result that draws."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.function = nn.Linear(8, 8), function

    def forward(self, x):
        return self.function(self, self.fc(x))


@pytest.mark.parametrize(
    ("operator", "function"),
    [
        ("bernoulli", lambda m, y: F.dropout(F.dropout(y, 0.5), 0.5)),
        ("bernoulli", lambda m, y: y * y.new_empty((4, 1)).bernoulli_(0.6) / 0.6),
        ("rand", lambda m, y: y * (0.7 + torch.rand((y.shape[0], 1))).floor()),
        ("rand_like", lambda m, y: torch.rand_like(y) * y + torch.rand_like(y)),
        ("randn_like", lambda m, y: y + torch.randn_like(y) * torch.exp(0.5 * y)),
        ("exponential", lambda m, y: F.gumbel_softmax(y, hard=True)),
        ("multinomial", lambda m, y: torch.multinomial(F.softmax(y, -1), 1)),
        ("rand", lambda m, y: torch.where(torch.rand(()) < 0.5, y, -y)),
        ("normal", lambda m, y: (y, torch.normal(y, torch.ones(8)))),
    ],
)
def test_both_sides_compute_with_torchs_draws(operator, function):
    model = Draws(function).train()
    made = torch2mlx.translate(model, (X,))
    (note,) = [note for note in made.notes if note.startswith(GIVEN)]
    assert made.compared == "equal" and note.startswith(f"{GIVEN}{operator} (test_chance.py:")
    found = torch2mlx.verify(model, made, (X,))
    assert found.ok and any(n.startswith(GIVEN) for n in found.notes)


def on_one_side(function, twin):
    """A verification of a model that draws, and of a twin in plain MLX."""

    class Model(nn.Module):
        def forward(self, x):
            return function(x)

    class Twin(mlx.nn.Module):
        def __call__(self, x):
            return twin(x)

    return torch2mlx.verify(Model(), Twin(), (torch.ones(2, 3),))


def test_draws_that_happened_to_make_no_difference_are_tried_once_more():
    assert on_one_side(lambda x: x * torch.rand(9).ceil().sum(), lambda x: x * 9).ok
    verdicts = set()
    for seed in range(8):  # at some the first comparison agrees
        torch.manual_seed(seed)
        half = on_one_side(lambda x: x * (torch.rand(()) > 0.5), lambda x: x)
        verdicts.add(half.verdict)
    assert verdicts == {"incomparable"}


def test_a_twin_that_draws_otherwise_is_incomparable():
    found = on_one_side(
        lambda x: (x, x + torch.rand_like(x)), lambda x: (x, x + mx.random.normal(x.shape))
    )
    assert [o.verdict for o in found.outputs] == ["equal", "incomparable"]
    assert "it depends on random numbers (rand_like (test_chance.py:" in found.outputs[1].reason


def test_draws_that_the_answer_does_not_depend_on_are_not_spoken_of():
    model = Draws(lambda m, y: (torch.rand(3), y)[1])
    made = torch2mlx.translate(model, (X,))
    assert made.compared == "equal" and made.notes == ()


def test_a_forward_that_sets_the_seed_is_noted():
    def seeded(model, y):
        torch.manual_seed(0)
        return y + torch.rand(y.shape)

    torch.manual_seed(0)
    made = torch2mlx.translate(Draws(seeded), (X,))
    assert made.compared == "equal"
    assert any(note.startswith("torch draws the same numbers at every call") for note in made.notes)


@pytest.mark.parametrize(
    ("whose", "draw"),
    [
        ("Python", lambda: random.random() < 0.001),
        ("Python", lambda: random.uniform(-1, 1) > 0.999),
        ("numpy", lambda: np.random.rand() < 0.001),
        ("numpy", lambda: np.random.uniform(0, 1) > 0.999),
        ("numpy", lambda: np.random.random_sample(2).max() < 0.001),
    ],
)
def test_a_rare_branch_of_pythons_or_numpys_stream_is_refused(whose, draw):
    model = Draws(lambda m, y: -y if draw() else y)
    with pytest.raises(TranslationError) as told:
        torch2mlx.translate(model, (X,))
    assert str(told.value) == (
        f"the forward draws with {whose}'s random module, and torch.export makes constants of "
        "these numbers: draw with torch.rand"
    )
    made = torch2mlx.translate(model, (X,), check=False)
    assert torch2mlx.verify(model, made, (X,)).verdict == "incomparable"


def test_numbers_of_pythons_stream_without_effect_are_a_note():
    model = Draws(lambda m, y: y + random.random() * 0)
    before = random.getstate()
    made = torch2mlx.translate(model, (X,))
    assert random.getstate() == before and made.compared == "equal"
    assert any(note.endswith("other ones gave the same outputs") for note in made.notes)


def test_near_ties_under_torchs_draws_are_unstable():
    def near(x):
        a, b = x.sum(-1), x.flip(-1).sum(-1)
        return torch.stack([a, b], -1).argmax(-1) + torch.rand(()) * 0

    def other(x):
        a, b = x.sum(-1), x[:, ::-1].sum(-1)
        found = mx.stack([a, b], -1).argmax(-1)
        return 1 - found + mx.random.uniform() * 0

    class Model(nn.Module):
        def forward(self, x):
            return near(x)

    class Twin(mlx.nn.Module):
        def __call__(self, x):
            return other(x)

    x = torch.randn(16, 4001, generator=torch.Generator().manual_seed(0))
    found = torch2mlx.verify(Model(), Twin(), (x,))
    assert found.verdict == "unstable"
