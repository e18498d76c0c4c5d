"""nest and flatten against mlx.utils, key by key."""

import sys
from collections import ChainMap, OrderedDict
from types import MappingProxyType

import pytest

from tests.support import need

need("mlx.core", "hypothesis")

import mlx.utils
from hypothesis import given
from hypothesis import strategies as st

from torch2mlx import _core, flatten, nest
from torch2mlx.errors import ConversionError, KeyCollisionError


def test_the_examples_of_a_model():
    tensors = {"a.0.weight": 1, "a.0.bias": 2, "a.1.weight": 3, "b": 4}
    assert nest(tensors) == {
        "a": [{"weight": 1, "bias": 2}, {"weight": 3}],
        "b": 4,
    }
    assert flatten(nest(tensors)) == tensors


def test_without_lists():
    assert nest({"a.0.w": 1, "a.1.w": 2}, lists=False) == {"a": {"0": {"w": 1}, "1": {"w": 2}}}


@pytest.mark.parametrize(
    "keys",
    [
        [""],
        ["a."],
        [".a"],
        ["a..b"],
        ["0"],
        ["2", "0"],
        ["0.a", "3.b"],
        ["a.1", "a.0"],
        ["a.1", "a.x"],
        ["a.x", "a.1"],
        ["-1.a"],
        ["1_0.a", "0.b"],
        [" 1.a"],
        ["²"],
        ["é.ü", "é.0"],
        ["a", "a.b"],
        ["a.b", "a"],
    ],
)
def test_odd_keys_like_mlx(keys):
    pairs = [(key, i) for i, key in enumerate(keys)]
    try:
        expected = mlx.utils.tree_unflatten(pairs)
    except (KeyError, ValueError, RecursionError, IndexError) as error:
        with pytest.raises((KeyCollisionError, ValueError, type(error))):
            nest(dict(pairs))
    else:
        assert nest(dict(pairs)) == expected


component = st.sampled_from(["a", "b", "weight", "0", "1", "2", "10", "x1", ""])
keys = st.lists(st.lists(component, min_size=1, max_size=4).map(".".join), unique=True, max_size=12)


@given(keys)
def test_any_keys_like_mlx(names):
    pairs = [(name, i) for i, name in enumerate(names)]
    if not pairs:
        return
    try:
        found = nest(dict(pairs))
    except KeyCollisionError:  # where MLX would call itself without end
        with pytest.raises(RecursionError):
            mlx.utils.tree_unflatten(pairs)
    else:
        assert found == mlx.utils.tree_unflatten(pairs)


leaves = st.integers() | st.none() | st.text(max_size=3)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "b.c", "0", "d"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(trees, st.sampled_from(["", "model"]))
def test_any_tree_flattens_like_mlx(tree, prefix):
    assert list(flatten(tree, prefix).items()) == list(
        dict(mlx.utils.tree_flatten(tree, prefix)).items()
    )


def test_is_leaf_stops_the_walk():
    tree = {"a": [1, 2], "b": {"c": 3}}
    stop = lambda value: isinstance(value, list)
    assert flatten(tree, is_leaf=stop) == dict(mlx.utils.tree_flatten(tree, is_leaf=stop))


def test_a_failing_is_leaf_is_reported():
    with pytest.raises(ZeroDivisionError):
        flatten({"a": 1}, is_leaf=lambda value: 1 / 0)


def test_a_tree_that_changes_while_it_is_walked_is_survived():
    tree = {}

    class Key:
        def __format__(self, spec):
            tree.clear()
            tree.update({str(i): [i] for i in range(100)})
            return "k"

    tree.update({"a": {Key(): [1, 2]}, "b": {"c": 3}})
    assert isinstance(flatten(tree), dict)


@pytest.mark.parametrize("names", [["0", "20.a"], ["a.7", "a.3"], ["e.1000.w", "e.0.w"]])
def test_holes_that_the_keys_account_for_are_filled_like_mlx(names):
    pairs = [(name, i) for i, name in enumerate(names)]
    assert nest(dict(pairs)) == mlx.utils.tree_unflatten(pairs)


def test_many_keys_may_leave_many_holes():
    pairs = [(f"l.{i * 16}.w", i) for i in range(3000)]
    assert nest(dict(pairs)) == mlx.utils.tree_unflatten(pairs)


@pytest.mark.parametrize(
    "names",
    [
        ["a.1057"],
        ["a.b", "0.16777216", "c"],
        ["x.2000.w", "x.0.w", "x.4000.w"],
        ["9999999.0.0", "1.0"],
        [f"k{i}.1040" for i in range(3)],
        ["a.99999999999999999999"],
        ["a.-99999999999999999999"],
    ],
)
def test_holes_that_would_fill_the_memory_are_refused_by_the_key(names):
    with pytest.raises(ConversionError, match=rf"key '({'|'.join(names)})': .*lists=False"):
        nest(dict.fromkeys(names, 1))
    assert flatten(nest(dict.fromkeys(names, 1), lists=False)) == dict.fromkeys(names, 1)


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(ConversionError, match="is not valid text"):
        nest({"b": 1, "a.\ud800": 2})


def test_depth_is_limited_not_crashed():
    assert flatten(nest({".".join(["a"] * 512): 1})) == {".".join(["a"] * 512): 1}
    for depth in (513, 1_000_000):
        with pytest.raises(ConversionError, match=r"key 'a\.a.*': nested deeper than the limit"):
            nest({"b": 1, ".".join(["a"] * depth): 1})
    tree = current = {}
    for _ in range(100_000):
        current["a"] = current = {}
    with pytest.raises(ConversionError, match="nested too deeply"):
        flatten(tree)


def test_mappings_of_any_kind_keep_their_order():
    kinds = (OrderedDict, MappingProxyType, lambda given: ChainMap(given))
    for kind in kinds:
        given = kind({"b.x": 1, "b.y": 2, "a": 3})
        if kind is OrderedDict:
            given.move_to_end("b.x")
        pairs = mlx.utils.tree_flatten(mlx.utils.tree_unflatten(list(given.items())))
        assert list(flatten(nest(given)).items()) == pairs


def test_a_list_that_the_callback_empties_is_left_where_it_stands():
    tree = {"a": [{"x": 1}, {"x": 2}, {"x": 3}, {"x": 4}, {"x": 5}, {"x": 6}]}

    def stop(value):
        if value == {"x": 2}:
            del tree["a"][2:]
        return False

    assert flatten(tree, is_leaf=stop) == {"a.0.x": 1, "a.1.x": 2}


def test_a_failure_half_way_drops_what_was_found():
    class Fails:
        def __format__(self, spec):
            raise ValueError("no name")

    value = object()
    before = sys.getrefcount(value)
    for pairs in (True, False):
        with pytest.raises(ValueError, match="no name"):
            _core.flatten([value] * 99 + [{Fails(): 1}], pairs=pairs)
    assert sys.getrefcount(value) == before
