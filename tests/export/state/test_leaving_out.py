"""Masks that say of a sequence that begins later what they say of others, and masks that do not."""

import pytest

from tests.support import need

(mx,) = need("mlx.core")

from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.state.leaving_out import _moves_along

TOKENS = Node("input", (("tokens",),), {}, mx.zeros((2, 3)), ("b", "n"), (), "tokens")
LENGTH = Node("shape", (TOKENS, 1), {}, 3, None, (), "L")
HELD = Node("held", (Node("entry", (), {}, None, None, (), "cache"),), {}, 6, None, (), "offset")


def call(op, *args, **kwargs):
    return Node(op, args, kwargs, mx.zeros((1, 1)), None, (), "")


def places():
    """The places of queries (L, 1), and of keys (S,)."""
    queries = call("operator.add", call("mx.arange", LENGTH), HELD)
    whole = Node("operator.add", (HELD, LENGTH), {}, 9, None, (), "S")
    return call("mx.expand_dims", queries, -1), call("mx.arange", whole)


def in_one_chunk(size):
    queries, keys = places()
    chunks = [call("operator.floordiv", one, size) for one in (queries, keys)]
    return call("operator.eq", *chunks)


def in_window(size):
    queries, keys = places()
    return call("operator.gt", keys, call("operator.sub", queries, size))


def slope(steepness, of_keys):
    queries, keys = places()
    gap = call("operator.sub", keys, queries) if of_keys else keys
    return call("operator.mul", call("method.astype", gap, mx.float32), steepness)


def curved():
    _, keys = places()
    return call("mx.sqrt", call("method.astype", keys, mx.float32))


@pytest.mark.parametrize(
    "mask", [in_window(4), in_window(50), slope(0.25, True), slope(-2.0, False), "causal"]
)
def test_windows_and_slopes_move_along(mask):
    assert _moves_along(mask, ())


@pytest.mark.parametrize("mask", [in_one_chunk(4), in_one_chunk(50), curved()])
def test_chunks_and_what_is_no_slope_do_not(mask):
    assert not _moves_along(mask, ())
