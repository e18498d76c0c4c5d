"""Owners of keys, the tree that keys show, and collisions, against plain Python twins."""

import pytest

from tests.support import need

need("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from torch2mlx import _core
from torch2mlx.checkpoint.plan.user_rules import untyped_records
from torch2mlx.errors import ConversionError

components = st.sampled_from(["a", "b", "weight", "0", "1", "x" * 30, "", "é", "parametrizations"])
keys = st.lists(components, min_size=1, max_size=5).map(".".join)


def shown(names):
    """The tree of keys, component by component: {path: (children, tensors)}."""
    tree = {"": ([], [])}
    for key in names:
        parts = key.split(".")
        depth = len(parts) - 1
        if "parametrizations" in parts:
            depth = min(depth, parts.index("parametrizations"))
        depth = 0 if key.startswith(".") else depth
        for i in range(depth):
            children = tree[".".join(parts[:i])][0]
            if parts[i] not in children:
                children.append(parts[i])
            tree.setdefault(".".join(parts[: i + 1]), ([], []))
        tree[".".join(parts[:depth])][1].append(".".join(parts[depth:]))
    return {path: (tuple(c), tuple(t)) for path, (c, t) in tree.items()}


@given(st.lists(keys, unique=True, max_size=12))
def test_keys_show_their_modules(names):
    found = _core.shown_modules(names)
    assert {path: (c, t) for path, c, t in found} == shown(names)
    assert [path for path, _, _ in found] == list(shown(names))


@given(st.lists(keys, unique=True, max_size=12))
def test_each_key_is_owned_where_it_was_shown(names):
    rows = _core.shown_modules(names)
    found = _core.owners([path for path, _, _ in rows], [], [], names)
    for i, prefix, owned in found:
        path, _, tensors = rows[i]
        assert prefix == (f"{path}." if path else "")
        assert tuple(owned) == tensors
        assert all(key == prefix + name for name, key in owned.items())
    assert sorted(key for _, _, owned in found for key in owned.values()) == sorted(names)


def test_renames_and_wrappers_change_the_prefix_alone():
    paths = ["", "module", "module.seq", "module.seq.0", "module.seq.1", "extra"]
    wrappers = [(0, "module", ("n_averaged",))]
    renames = [(2, {"0": "layers.0", "1": "layers.1", "7": "none"})]
    keys = ["n_averaged", "module.seq.0.w", "seq.1.w", "module.w", "extra.w", "module"]
    assert _core.owners(paths, wrappers, renames, keys) == [
        (0, "", {"n_averaged": "n_averaged"}),
        (3, "seq.layers.0.", {"w": "module.seq.0.w"}),
        (4, "seq.layers.1.", {"w": "seq.1.w"}),
        (1, "", {"w": "module.w", "extra.w": "extra.w", "module": "module"}),
    ]


def test_wrappers_within_wrappers():
    paths = ["", "module", "module._orig_mod", "module._orig_mod.fc"]
    wrappers = [(0, "module", ()), (1, "_orig_mod", ())]
    for key in ("module._orig_mod.fc.w", "_orig_mod.fc.w", "module.fc.w", "fc.w"):
        assert _core.owners(paths, wrappers, [], [key]) == [(3, "fc.", {"w": key})]


def test_many_children_are_told_apart():
    paths = ["", "m", *(f"m.{i}" for i in range(300)), *(f"m.{i}.x" for i in range(300))]
    renames = [(1, {str(i): f"layers.{i}" for i in range(300)})]
    keys = [f"m.{i}.x.w" for i in reversed(range(300))]
    found = _core.owners(paths, [], renames, keys)
    assert [prefix for _, prefix, _ in found] == [f"m.layers.{i}.x." for i in reversed(range(300))]


@given(st.lists(keys, max_size=10))
def test_collisions_are_found(names):
    pairs = [
        (i, j)
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if (i != j and b.startswith(a + ".")) or (i < j and a == b)
    ]
    found = _core.collision(names)
    assert found in pairs if pairs else found is None


def test_what_sorts_between_a_name_and_its_continuation_hides_no_collision():
    names = ["a-b", "a", "a+", "a!x", "a\x00", "a.b", "a b"]
    assert _core.collision(names) == (1, 5)
    assert _core.collision([name for name in names if name != "a"]) is None


def test_hostile_arguments_are_errors():
    with pytest.raises(ValueError, match="the root's"):
        _core.owners([], [], [], ["a"])
    with pytest.raises(ValueError, match="the root's"):
        _core.owners(["a"], [], [], ["a"])
    for number, error in ((-1, OverflowError), (1, ValueError), (2**62, ValueError)):
        with pytest.raises(error, match=r"no such module|negative"):
            _core.owners([""], [(number, "a", ())], [], [])
        with pytest.raises(error, match=r"no such module|negative"):
            _core.owners([""], [], [(number, {})], [])
    for call in (
        lambda: _core.owners([""], [(0, "a", (1,))], [], []),
        lambda: _core.owners([""], [], [(0, {"a": 1})], []),
        lambda: _core.owners([""], [], [], [1]),
        lambda: _core.shown_modules([b"a"]),
        lambda: _core.collision([None]),
    ):
        with pytest.raises(TypeError):
            call()


def test_deep_keys_are_refused_by_name():
    assert len(untyped_records([".".join("a" * 513)])) == 513
    with pytest.raises(ConversionError, match=r"key 'a\.a.*': nested deeper than the limit"):
        untyped_records(["b.c", ".".join("a" * 514)])


def test_paths_that_add_up_to_far_more_than_their_keys_are_refused_by_name():
    deep = ".".join(f"{'part' * 500}{i}" for i in range(500))
    with pytest.raises(ConversionError, match=r"key 'partpart.*': the modules above it have paths"):
        untyped_records(["b.c", deep])
    wide = [f"{'part' * 1000}{i}.weight" for i in range(500)]
    assert len(untyped_records(wide)) == 501
