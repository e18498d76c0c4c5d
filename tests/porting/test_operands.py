"""Values of numpy beside tensors, data in lists, methods of unknown owners: as torch has them."""

import collections

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import mlx.nn as nn
import torch

import torch2mlx
from torch2mlx import kit

#: Expressions of a tensor x of some rows and four columns; w is an array of numpy, d a number.
WITH_NUMPY = (
    "np.sqrt(2) * x",
    "np.float32(0.5) * x + x * np.float32(0.5)",
    "np.log(3.0) - torch.sigmoid(x)",
    "-np.sqrt(d) / (x + 3)",
    "1 / np.sqrt(d) * x",
    "np.mean(w) * x ** 2",
    "torch.where(np.float32(0.2) < x, x, 2 * x)",
    "(np.arange(3) + 1)[0] * x",
)
HEAD = "import numpy as np\nimport torch\nw = np.linspace(-1, 1, 4, dtype=np.float32)\nd = 8\n"


def test_numpy_before_a_tensor_stays_within_the_gradient():
    lines = [f"def f{i}(x: torch.Tensor):\n    return {e}\n" for i, e in enumerate(WITH_NUMPY)]
    source = HEAD + "\n".join(lines)
    theirs: dict = {}
    exec(source, theirs)
    ours = executed(torch2mlx.port(source).source, "numpy_operands")
    for rows in (1, 3):
        values = np.random.RandomState(rows).rand(rows, 4).astype(np.float32)
        for i, text in enumerate(WITH_NUMPY):
            x = torch.from_numpy(values.copy()).requires_grad_()
            expected = theirs[f"f{i}"](x).float()
            expected.pow(2).sum().backward()
            function = getattr(ours, f"f{i}")
            found, slope = mx.value_and_grad(lambda v, f=function: f(v).square().sum())(
                mx.array(values)
            )
            assert np.isclose(found.item(), expected.pow(2).sum().item(), rtol=1e-5), text
            np.testing.assert_allclose(slope, x.grad, rtol=1e-5, atol=1e-6, err_msg=text)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_number_of_numpy_decides_no_dtype(dtype):
    source = HEAD + "def f(x: torch.Tensor):\n    return np.sqrt(d) * x\n"
    ours = executed(torch2mlx.port(source).source, "numpy_dtype")
    assert ours.f(mx.ones((2, 2), getattr(mx, dtype))).dtype == getattr(mx, dtype)


MADE = """
import collections
import numpy as np
import torch

def batch(rows):
    states, actions, ended = [], [], []
    for state, action, done in rows:
        states.append(state)
        actions.append([action])
        ended.append([0.0 if done else 1.0])
    a, b, c = torch.tensor(states, dtype=torch.float), torch.tensor(actions), torch.tensor(ended)
    return a, b, c

def kept(values):
    return torch.tensor(collections.deque(values)), torch.as_tensor(values)

def each(pairs):
    return [*map(torch.tensor, zip(*pairs))]

def rows(n):
    return torch.tensor(range(n)), torch.tensor([np.float32(n), np.float32(1)])

def typed(n):
    return torch.LongTensor([np.arange(3) + i for i in range(n)]), torch.FloatTensor([np.int64(n)])
"""


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")  # torch's, of speed
@pytest.mark.parametrize("size", [1, 4])
def test_data_in_lists_is_read_as_torch_reads_it(size):
    theirs: dict = {}
    exec(MADE, theirs)
    ours = executed(torch2mlx.port(MADE).source, "made_of_lists")
    drawn = np.random.RandomState(size)
    rows = [(drawn.rand(3), np.int64(i), np.bool_(i % 2)) for i in range(size)]
    given = {
        "batch": rows,
        "kept": [float(v) for v in drawn.rand(size)],
        "each": [(i, float(i)) for i in range(size)],
        "rows": size,
        "typed": size,
    }
    for name, values in given.items():
        for one, other in zip(theirs[name](values), getattr(ours, name)(values), strict=True):
            assert tuple(one.shape) == tuple(other.shape), name
            np.testing.assert_allclose(np.array(other), one.numpy(), rtol=1e-6, err_msg=name)
            assert mx.issubdtype(other.dtype, mx.floating) == one.is_floating_point(), name


def test_a_list_of_arrays_becomes_one():
    arrays = [mx.ones((2,)), 2 * mx.ones((2,))]
    for held in (arrays, tuple(arrays), collections.deque(arrays)):
        assert kit.tensors.tensor(held).tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert kit.tensors.tensor([[arrays[0]], [arrays[1]]]).shape == (2, 1, 2)
    assert kit.tensors.tensor([]).shape == (0,)
    single = [[mx.array([2.0])], [mx.array(3.0)]]  # torch takes these for numbers
    assert kit.tensors.tensor(single).tolist() == [[2.0], [3.0]]


#: Calls on something that nothing is known of, which only tensors have, and casts.
OF_UNKNOWN = (
    "x.held.pow(2)",
    "x.held.tanh() + x.held.mul(3)",
    "x.held.clone().float()",
    "x.held.long() + x.held.int()",
    "x.held.float().amax(dim=0)",
    "x.held.t()",
)


@pytest.mark.parametrize("text", OF_UNKNOWN)
def test_what_only_tensors_have_tells_that_something_is_one(text):
    source = f"import torch\n\ndef f(x):\n    return {text}\n"
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    theirs: dict = {}
    exec(source, theirs)
    Held = collections.namedtuple("Held", "held")
    for rows in (1, 3):
        values = np.random.RandomState(rows).randn(rows, 2).astype(np.float32)
        expected = theirs["f"](Held(torch.from_numpy(values)))
        found = executed(result.source, "unknown_owner").f(Held(mx.array(values)))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_module_of_unknown_kind_is_cast():
    source = "import torch\n\ndef f(model):\n    return model.half()\n"
    made = executed(torch2mlx.port(source).source, "cast_module").f(nn.Linear(2, 2))
    assert made.weight.dtype == mx.float16


MASKED = """
import torch

def f(x: torch.Tensor, v: torch.Tensor):
    out = torch.zeros_like(x)
    mask = x.sum(1) > 0
    out[mask] = v[mask]
    out[~mask] += 2 * x[~mask]
    out[mask] *= 3
    y = x.clone()
    y[y > 0.5] = 0.0
    y[y < -0.5] += 1.0
    return out, y
"""


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("shift", [-9.0, 0.0, 9.0])
def test_rows_under_a_mask_are_written_also_where_there_are_none(rows, shift):
    """MLX would end the process for a mask that is false everywhere."""
    theirs: dict = {}
    exec(MASKED, theirs)
    ours = executed(torch2mlx.port(MASKED).source, "masked")
    drawn = np.random.RandomState(rows).randn(2, rows, 3).astype(np.float32)
    x, v = torch.from_numpy(drawn[0] + np.float32(shift)), torch.from_numpy(drawn[1])
    x.requires_grad_()
    expected = theirs["f"](x, v)
    sum(part.square().sum() for part in expected).backward()
    found = ours.f(mx.array(x.detach().numpy()), mx.array(v.numpy()))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one.detach().numpy(), rtol=1e-6)
    slope = mx.grad(lambda a: sum(p.square().sum() for p in ours.f(a, mx.array(v.numpy()))))
    np.testing.assert_allclose(slope(mx.array(x.detach().numpy())), x.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sign", ["%", "//"])
def test_a_rank_is_divided_by_no_number_of_devices(sign):
    source = f"import torch\n\ndef f(rank):\n    return rank {sign} torch.cuda.device_count()\n"
    ours = executed(torch2mlx.port(source).source, "devices")
    assert ours.f(3) == eval(f"3 {sign} 1")


def test_a_network_of_torchvision_is_refused_with_the_way_to_have_it():
    source = "import torchvision\n\nnet = torchvision.models.resnet18(num_classes=3)\n"
    (left,) = torch2mlx.port(source).unsupported
    assert "torch2mlx translate file.py:function folder" in left.reason


TWO_KINDS = """
import torch
import torch.nn as nn

class Plain(nn.Module):
    def forward(self, x):
        return 2 * x

class Keeping(nn.Module):
    def forward(self, x, kept):
        return x + kept, kept

def run(x, kind):
    if kind == "plain":
        model = Plain()
    else:
        model = Keeping()
    if kind == "plain":
        out = model(x)
        out = out.view(-1, 2)
    else:
        out, kept = model(x, torch.ones(1))
    return out.pow(2)
"""


@pytest.mark.parametrize("kind", ["plain", "keeping"])
def test_one_of_two_models_answers_a_tensor(kind):
    theirs: dict = {}
    exec(TWO_KINDS, theirs)
    made = torch2mlx.port(TWO_KINDS)
    assert made.ok, made.unsupported
    for rows in (2, 3):
        x = torch.randn(rows, 2)
        expected = theirs["run"](x, kind)
        found = executed(made.source, "two_kinds").run(mx.array(x.numpy()), kind)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
