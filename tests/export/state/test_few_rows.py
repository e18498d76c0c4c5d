"""Which rows of experts may stay in their order where they are few: those that nothing tells apart
by it."""

import pytest

from tests.support import need

(mx,) = need("mlx.core")

import numpy as np

from tests.support import close
from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node, Program, function_of, plain
from torch2mlx.export.state.expert_layers import with_expert_layers
from torch2mlx.export.state.few_rows import with_few_rows
from torch2mlx.kit import moe

EXPERTS, WIDE, CHOSEN = 3, 4, 2


def inverse(b, places):
    return b.call("method.astype", b.call("mx.argsort", places), mx.int64)


def back(b, y, at):
    """Rows where they were, and those of each token added."""
    y = b.call("index", y, (inverse(b, at["places"]),))
    return b.call("mx.sum", b.reshape(y, (-1, CHOSEN, WIDE)), axis=1)


def halves(b, y, at):
    """Halves of rows, one times the other's slope."""
    parts = b.call("mx.split", y, 2, axis=-1)
    y = b.call("operator.mul", b.call("nn.silu", b.item(parts, 0)), b.item(parts, 1))
    y = b.call("index", y, (inverse(b, at["places"]),))
    return b.call("mx.sum", b.reshape(y, (-1, CHOSEN, WIDE // 2)), axis=1)


def slopes(b, y, at):
    """Every second item of rows that have weights and biases."""
    scales = b.call("index", at["weights"], (at["places"],))
    y = b.call("operator.mul", y, b.call("index", scales, (slice(None), None)))
    y = b.call("operator.add", y, b.call("index", at["bias"], (at["experts"],)))
    y = b.call("index", y, (slice(None), slice(None, None, 2)))
    return b.call("index", y, (inverse(b, at["places"]),))


ANY = {"back": back, "halves": halves, "slopes": slopes}
TOLD = {
    "rows in the order of experts": lambda b, y, at: y,
    "numbers of experts in their order": lambda b, y, at: at["experts"],
    "sums up to each row": lambda b, y, at: back(b, b.call("mx.cumsum", y, axis=0), at),
    "a row before": lambda b, y, at: back(b, b.call("index", y, (slice(None, None, -1),)), at),
    "rows in torch's order": lambda b, y, at: back(b, b.call("operator.add", y, at["rows"]), at),
    "put back twice": lambda b, y, at: back(
        b, b.call("index", y, (b.call("mx.argsort", inverse(b, at["places"])),)), at
    ),
}


def made(finish, tokens=5):
    """A program, and values for its arguments and stored arrays."""
    rng, b, values = np.random.default_rng(tokens), Builder(), {}

    def given(op, name, shape, numbers=0):
        drawn = rng.integers(0, numbers, shape) if numbers else rng.normal(size=shape)
        values[name] = mx.array(drawn, dtype=mx.int64 if numbers else mx.float32)
        return b.add(Node(op, (name,), {}, values[name]))

    rows = tokens * CHOSEN
    x, at = given("input", "x", (tokens, WIDE)), {"rows": given("input", "rows", (rows, WIDE))}
    at["weights"] = given("input", "weights", (rows,))
    at["bias"] = given("param", "bias", (EXPERTS, WIDE))
    weight = given("param", "weight", (EXPERTS, WIDE, WIDE))
    found = b.call("kit.sorting.sort", given("input", "chosen", (rows,), EXPERTS), -1, False)
    at["experts"], at["places"] = b.item(found, 0), b.item(found, 1)
    x = b.call("index", x, (b.call("operator.floordiv", at["places"], CHOSEN),))
    turned = b.call("method.transpose", weight, 0, 2, 1)
    y = b.call("kit.moe.sorted_mm", x, turned, at["experts"])
    result = finish(b, y, at)
    program, layers = with_expert_layers(Program(tuple(b.nodes), (), result), {})
    assert layers == {"weight": False}
    return program, values


def value(program, values):
    """What a program gives."""
    found = {}
    for node in program.nodes:
        args = [plain(arg, found.get) for arg in node.args]
        if node.op in ("input", "param"):
            found[node] = values[node.args[0]]
        elif node.op in ("item", "index"):
            found[node] = args[0][tuple(args[1]) if node.op == "index" else args[1]]
        elif node.op == "chosen":
            weight, x, experts = args
            found[node] = moe.sorted_mm(x, weight.swapaxes(-1, -2), experts, False)
        else:
            kwargs = {key: plain(arg, found.get) for key, arg in node.kwargs.items()}
            found[node] = function_of(node.op)(*args, **kwargs)
    return found[program.outputs]


def sorts(program):
    return [n.op for n in program.nodes if n.op in ("kit.sorting.sort", "kit.moe.ordered")]


@pytest.mark.parametrize("tokens", [5, 60])
@pytest.mark.parametrize("finish", ANY)
def test_rows_that_nothing_tells_apart_are_in_any_order(finish, tokens):
    program, values = made(ANY[finish], tokens)
    free = with_few_rows(program)
    assert sorts(free) == ["kit.moe.ordered"]
    close(value(free, values), np.array(value(program, values)), 1e-5)


@pytest.mark.parametrize("finish", TOLD)
def test_rows_whose_order_a_result_tells_are_sorted(finish):
    program, _ = made(TOLD[finish])
    assert with_few_rows(program) is program and sorts(program) == ["kit.sorting.sort"]
