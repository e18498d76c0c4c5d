"""Functions, methods, indexing: each expression gives torch's value after it was ported."""

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.porting.expressions import expressions
from tests.support import need

need("torch", "mlx.core", "libcst", "hypothesis")

import mlx.core as mx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torch2mlx
from tests.gpu_refusals import as_on_a_gpu
from torch2mlx.porting.compiling.finishing import no_python_made

HEAD = """\
import math

import numpy as np
import torch
import torch.nn.functional as F
"""
ARGUMENTS = ("x", "y", "z", "s", "v", "i", "j", "m")


def values():
    draw = np.random.RandomState(0)
    normal = lambda *shape: torch.from_numpy(draw.randn(*shape).astype(np.float32))
    return {
        **{"x": normal(3, 4), "y": normal(3, 4), "z": normal(2, 3, 4), "s": normal(4, 4)},
        **{"v": normal(4), "i": torch.tensor([2, 0, 3]), "j": torch.tensor([1, 0, 3])},
        "m": normal(3, 4) > 0,
    }


def source(lines):
    arguments = ", ".join(f"{name}: torch.Tensor" for name in ARGUMENTS)
    functions = (f"\n\ndef f{n}({arguments}):\n    return {e}\n" for n, e in enumerate(lines))
    return HEAD + "".join(functions)


def same(expected, found, line):
    wanted = np.array(expected.detach().numpy() if hasattr(expected, "detach") else expected)
    got = np.array(found)
    assert wanted.shape == got.shape, line
    np.testing.assert_allclose(
        got.astype(np.float64), wanted.astype(np.float64), atol=2e-5, rtol=2e-5, err_msg=line
    )
    if hasattr(expected, "detach") and not expected.dtype.is_floating_point:
        assert wanted.dtype.kind == got.dtype.kind or wanted.dtype.kind in "iu", line


@pytest.fixture(scope="module")
def ported():
    lines = expressions()
    text = source(lines)
    result = torch2mlx.port(text)
    assert result.ok, result.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    return theirs, executed(result.source, "expressions")


@pytest.mark.filterwarnings("ignore")  # torch deprecates some of the calls
@pytest.mark.parametrize(("number", "line"), list(enumerate(expressions())))
def test_value(number, line, ported):
    theirs, ours = ported
    given_values = values()
    arrays = {name: mx.array(value.numpy()) for name, value in given_values.items()}
    expected = theirs[f"f{number}"](**given_values)
    with as_on_a_gpu():
        found = getattr(ours, f"f{number}")(**arrays)
    same(expected, found, line)


SHAPED = ("x", "y", "x * y", "x.abs()", "torch.tanh(y)", "F.relu(x)", "y.clamp(-1, 1)")
UNARY = ("torch.sin({})", "({}).sigmoid()", "({}).pow(2)", "F.softmax({}, dim=1)", "-({})")
UNARY += ("({}).cumsum(1)", "({}).flip(0)", "torch.where(m, {}, y)", "({}).masked_fill(m, 0.5)")
UNARY += ("({}) - ({}).mean(dim=1, keepdim=True)", "({}).t().contiguous().view(3, 4)")
UNARY += ("({}).sort(dim=1)[0]", "({}).unsqueeze(0).squeeze(0)", "({}) @ s", "({}).tanh().mul(2)")
BINARY = ("({}) + ({})", "torch.maximum({}, {})", "({}).mul({})", "({}).sub({}, alpha=2)")
BINARY += ("torch.where(({}) > ({}), x, y)", "torch.lerp({}, {}, 0.3)", "({}).div(({}).abs() + 1)")
LAST = ("{}", "({}).sum(dim=0)", "({}).max(dim=1)[0]", "({}).std(1)", "({}).argmax(dim=1)")
LAST += ("({}).reshape(2, -1)", "torch.cat([{}, y], dim=1)", "({})[:, 1:]", "({}).norm(dim=1)")


def nested(inner):
    one = st.tuples(st.sampled_from(UNARY), inner).map(lambda p: p[0].replace("{}", p[1]))
    two = st.tuples(st.sampled_from(BINARY), inner, inner).map(lambda p: p[0].format(p[1], p[2]))
    return one | two


EXPRESSION = st.recursive(st.sampled_from(SHAPED), nested, max_leaves=6)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LAST), EXPRESSION), min_size=3, max_size=6))
def test_meaning_survives(pairs):
    lines = [last.format(inner) for last, inner in pairs]
    text = source(lines)
    result = torch2mlx.port(text)
    assert result.ok, result.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    ours = executed(result.source, "nested")
    arrays = {name: mx.array(value.numpy()) for name, value in values().items()}
    for n, line in enumerate(lines):
        same(theirs[f"f{n}"](**values()), getattr(ours, f"f{n}")(**arrays), line)


def test_strings_in_an_f_string_take_the_other_quotes():
    text = (
        "import torch\nx = torch.ones(2)\n" + """y = f"{torch.__version__} {x.to('cpu').sum()}"\n"""
    )
    made = torch2mlx.port(text)
    assert made.ok, made.unsupported
    assert "2.0" in executed(made.source, "quotes").y


def test_a_port_that_is_no_python_is_told():
    found = no_python_made("x = 1\ny = 2\n", "x = 1\ny = (\n")
    assert found is not None and found.line == 2
    assert found.detail == (
        "line 2 of the port is no Python ('(' was never closed): write what stands here by hand"
    )
    assert no_python_made("x = (\n", "x = (\n") is None
