"""The parts of a comparison on their own: matching, draws, first weights, rules of optimizers."""

import numpy as np
import pytest

from tests.support import need

need("torch")

import torch

from torch2mlx.lockstep.compared import _is_still, _unsure
from torch2mlx.lockstep.draws import Stream, laid
from torch2mlx.lockstep.first_weights import drawn_otherwise
from torch2mlx.lockstep.matching import Matching, canonical
from torch2mlx.lockstep.numbers import apart, relative
from torch2mlx.lockstep.rules import adam, explained, ratio, sgd


def draw(kind, values, **more):
    return {"kind": kind, "values": np.asarray(values), "weights": False, "options": {}, **more}


def test_draws_are_served_in_order_for_each_kind_in_the_asked_layout():
    mask = np.arange(24).reshape(2, 3, 2, 2)
    held = [draw("normal", np.ones((2, 2))), draw("bernoulli", mask), draw("normal", np.zeros(3))]
    stream = Stream(held, 0)
    served = stream.ask("bernoulli", (2, 2, 2, 3), {}, {})
    assert np.array_equal(served, mask.transpose(0, 2, 3, 1))
    assert np.array_equal(stream.ask("normal", (2, 2), {}, {}), np.ones((2, 2)))
    assert stream.ask("normal", (5,), {}, {}) is None  # torch's next has three items
    assert [note["torch"] for note in stream.served] == [1, 0, None]


def test_a_draw_is_repeated_where_the_state_is_put_back():
    stream = Stream([draw("normal", np.full(2, n)) for n in range(3)], 0)
    stream.ask("normal", (2,), {}, {})
    state = stream.state()
    first = stream.ask("normal", (2,), {}, {})
    stream.restore(state)
    assert np.array_equal(stream.ask("normal", (2,), {}, {}), first)
    assert len(stream.served) == 2


def test_values_are_laid_into_axes_of_length_one():
    assert laid(np.arange(6).reshape(2, 3, 1, 1), (2, 1, 1, 3)).shape == (2, 1, 1, 3)


@pytest.mark.parametrize(
    ("scale", "shift", "said"),
    [(1.0, 0.0, ""), (2.0, 0.0, "standard deviation"), (1.0, 3.0, "mean")],
)
def test_first_weights_are_told_apart_by_their_moments(scale, shift, said):
    draws = np.random.RandomState(0)
    one, other = draws.rand(300), draws.rand(300) * scale + shift * 0.3
    other = other - (0.5 * (scale - 1) if not shift else 0)
    found = drawn_otherwise(one, other)
    assert (said in found) if said else not found


def test_constants_are_told_from_draws():
    numbers = np.random.RandomState(0).rand(20)
    assert drawn_otherwise(np.zeros(20), numbers) == (
        "torch starts from the constant 0, MLX from random numbers"
    )
    assert drawn_otherwise(np.zeros(20), np.ones(20)) == "torch starts from 0, MLX from 1"
    assert drawn_otherwise(numbers, numbers) == ""


def test_differences_are_taken_in_the_layout_that_suits():
    values = np.random.RandomState(0).rand(2, 3, 4, 5)
    assert apart(values, values.transpose(0, 2, 3, 1)) == 0
    assert apart(values, values[:1]) is None
    assert relative([3.0, 4.0], [3.0, 5.0]) == pytest.approx(0.2)
    assert relative([1.0], [np.nan]) == np.inf


GIVEN = [np.random.RandomState(n).randn(7) for n in range(4)]


def held(kind, **options):
    """The weights before each step of a torch optimizer over GIVEN, and its last update."""
    weight = torch.nn.Parameter(torch.from_numpy(np.random.RandomState(9).randn(7)))
    optimizer = getattr(torch.optim, kind)([weight], **options)
    weights = []
    for gradient in GIVEN:
        weights.append(weight.detach().numpy().copy())
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    return weights, weight.detach().numpy() - weights[-1]


@pytest.mark.parametrize(
    ("kind", "rule", "decay", "options"),
    [
        ("Adam", adam, "l2", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}),
        ("AdamW", adam, "decoupled", {"lr": 0.1, "weight_decay": 0.1}),
        ("SGD", sgd, "l2", {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    ],
)
def test_the_rules_are_those_of_torch(kind, rule, decay, options):
    weights, update = held(kind, **options)
    np.testing.assert_allclose(rule(GIVEN, weights, options, decay=decay), update, rtol=1e-6)


def test_the_mistake_that_makes_an_update_is_found():
    options = {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}
    weights, update = held("Adam", **options)
    assert explained("Adam", options, GIVEN, weights, update) == ""
    swapped = adam(GIVEN, weights, options, swapped=True, decay="l2")
    said = explained("Adam", options, GIVEN, weights, swapped)
    assert said == "the bias corrections of the two moments are swapped"
    decoupled = adam(GIVEN, weights, options, decay="decoupled")
    assert "apart from the gradient" in explained("Adam", options, GIVEN, weights, decoupled)
    assert ratio(update, 3 * update) == pytest.approx(3)
    assert ratio(update, update[::-1]) is None


def piece(key, *shape, sources=None):
    places = np.arange(int(np.prod(shape)))
    return {"key": key, "shape": list(shape), "sources": [sources or key], "index": places}


def test_arrays_are_matched_by_name_then_by_the_model_s_variable_then_by_shape():
    roots = [
        {"name": "net", "pieces": [piece("0.weight", 3, 2), piece("0.bias", 3)]},
        {"name": "head", "pieces": [piece("weight", 4, 3), piece("scale", 5)]},
    ]
    found = Matching(roots)
    arrays = {(0, "net.layers.0.weight"): (3, 2), (0, "net.layers.0.bias"): (3,)}
    found.add({**arrays, (0, "head.weight"): (4, 3), (0, "gain"): (5,)}, ["model"])
    sources = {key[1]: match.sources for key, match in found.pairs.items()}
    assert sources == {
        "net.layers.0.weight": ("0:0.weight",),
        "net.layers.0.bias": ("0:0.bias",),
        "head.weight": ("1:weight",),
        "gain": ("1:scale",),
    }
    assert found.pairs[0, "gain"].how == "shape"
    assert canonical("_a.layers.0._b") == "a.0.b"


def test_parameters_that_no_module_of_torch_holds_may_be_of_one_of_mlx():
    shapes = {"W": (3, 2), "b": (2,), "c": (2,)}
    roots = [{"name": n, "pieces": [piece("value", *shape)]} for n, shape in shapes.items()]
    found = Matching(roots)
    found.add({(0, f"parts.{i}.value"): s for i, s in enumerate(shapes.values())}, ["params"])
    sources = {key[1]: match.sources for key, match in found.pairs.items()}
    assert sources == {f"parts.{i}.value": (f"{i}:value",) for i in range(3)}


def test_a_matched_array_is_made_of_torch_s_items():
    roots = [{"name": "m", "pieces": [{**piece("w", 2, 3), "index": np.arange(6)[::-1]}]}]
    found = Matching(roots)
    found.add({(0, "w"): (2, 3)}, ["m"])
    values = found.pairs[0, "w"].of({"0:w": np.arange(6.0)}, (2, 3))
    assert np.array_equal(values, [[5, 4, 3], [2, 1, 0]])


def test_items_whose_gradient_is_rounding_are_counted():
    gradient = np.array([1.0, -2.0, 1e-9, 0.0, 3.0])
    other = gradient + np.array([1e-6, 0.0, -3e-9, 0.0, 0.0])
    assert _unsure(gradient, other) == 0.2
    assert _unsure(gradient, gradient) == 0.0
    assert _unsure(gradient, gradient[:2]) == 0.0


def test_a_tensor_that_no_step_moved_is_told_from_one_that_moved():
    class Same:
        @staticmethod
        def of(held, shape):
            return held.get("w")

    was, now = {"torch": {"w": np.ones(3)}}, {"torch": {"w": np.ones(3)}}
    assert _is_still(Same, now, was, (3,))
    assert not _is_still(Same, {"torch": {"w": np.ones(3) + 1e-7}}, was, (3,))
    assert not _is_still(Same, {"torch": {}}, was, (3,))
