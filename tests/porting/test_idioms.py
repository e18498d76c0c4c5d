"""Habits of scripts: older types and keywords, star imports, layers by name, ranges as places.

Each is run in torch and, ported, in MLX; `OUT` is compared.
"""

import warnings

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from tests.porting.compare import executed, give_weights

HEAD = "import numpy as np\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
SAME = {
    "sizes that are known": "OUT = torch.FloatTensor(2, 3).fill_(1.5)",
    "a size that is a variable": "n = len([1, 2])\nOUT = torch.LongTensor(n).zero_()",
    "a shape": "x = torch.ones(2, 3)\nOUT = torch.FloatTensor(x.shape).fill_(2.0) + "
    "torch.Tensor(x.size()).fill_(1.0)",
    "data in a tuple": "OUT = torch.FloatTensor((4, 5))",
    "shapes of another library's": "from types import SimpleNamespace\n"
    "import types as simulator\n"
    "env = simulator.SimpleNamespace(space=SimpleNamespace(shape=(4, 2)))\n"
    "OUT = torch.Tensor(env.space.shape)",
    "the shape of an array of numpy": "a = np.ones((2, 3))\nOUT = torch.Tensor(a.shape)",
    "data in a list": "OUT = torch.LongTensor([4, 5])",
    "data in a variable": "d = [[1.0, 2.0]]\nOUT = torch.FloatTensor(d)",
    "data in a range": "OUT = torch.LongTensor(range(3))",
    "data of numpy": "OUT = torch.Tensor(np.ones((2, 2)))",
    "a type in a variable": "T = torch.cuda.FloatTensor if torch.cuda.is_available() else "
    "torch.FloatTensor\nOUT = T(2, 2).fill_(3.0) + torch.ones(2, 2).type(T)",
    "the type of all tensors in a variable": "cuda = torch.cuda.is_available()\n"
    "T = torch.cuda.FloatTensor if cuda else torch.Tensor\nx = torch.arange(4).reshape(2, 2)\n"
    "OUT = T(2, 2).fill_(3.0) + x.type(T) + T(np.ones((2, 2))) + isinstance(x, T)",
    "a cast by a type": "OUT = torch.tensor([1.7, 0.0]).type(torch.ByteTensor) + 1",
    "a cast by a name": "OUT = torch.tensor([1.7]).type('torch.LongTensor')",
    "isinstance of a type": "x = torch.ones(2)\nOUT = torch.tensor([isinstance(x, kind)"
    " for kind in (torch.FloatTensor, torch.LongTensor)])",
    "size_average": "a, b = torch.rand(3) * 0 + 0.3, torch.ones(3)\n"
    "OUT = torch.stack([F.mse_loss(a, b, size_average=False), F.mse_loss(a, b, size_average=True),"
    " F.binary_cross_entropy(a, b, size_average=len([]) > 0)])",
    "reduce": "OUT = F.l1_loss(torch.zeros(3), torch.ones(3), reduce=False)",
    "a density of shares": "d = torch.distributions.Beta(torch.tensor([0.7, 2.0]), "
    "torch.tensor([1.5, 3.0]))\nv = torch.tensor([0.3, 0.6])\nOUT = d.log_prob(v) + d.entropy() + "
    "d.mean + d.variance + isinstance(d, torch.distributions.Beta)",
    "a density of vectors": "from torch.distributions import MultivariateNormal\n"
    "m = torch.arange(6.).reshape(3, 2)\nc = torch.diag_embed(torch.full((2,), .4).expand_as(m))\n"
    "d = MultivariateNormal(m, c)\nOUT = d.log_prob(m + 0.5) + d.entropy() + d.sample().shape[0]",
    "a layer by its name": "OUT = getattr(nn, 'LeakyReLU')(0.2)(torch.tensor([-1.0, 1.0]))",
    "a function by its name": "OUT = getattr(F, 'relu')(torch.tensor([-1.0, 1.0]))",
    "a range as an index": "OUT = torch.zeros(3, 4)\nOUT[range(3), torch.tensor([0, 2, 3])] = 1.0",
    "a range in a variable": "r = range(0, 4, 2)\nOUT = torch.arange(8.0)[r]",
    "elements as bounds": "x = torch.arange(9.0)\nOUT = torch.stack([x[i:i + 2] for i in "
    "torch.tensor([1, 3])])",
    "an element as a count": "n = torch.tensor([3])\nOUT = torch.tensor(list(range(n[0])))",
    "an accelerator": "d = torch.accelerator.current_accelerator() if torch.accelerator."
    "is_available() else torch.device('cpu')\nOUT = torch.ones(2).to(d)",
    "masks of an encoder": "torch.manual_seed(0)\nl = nn.TransformerEncoderLayer(4, 2, 8, 0.0)\n"
    "m = torch.zeros(3, 3)\ne = nn.TransformerEncoder(l, 1).eval()\n"
    "OUT = e(torch.ones(3, 1, 4), mask=m, is_causal=False).shape[0] * torch.ones(1)",
}


@pytest.mark.parametrize("name", SAME)
def test_a_habit_means_what_it_means_in_torch(name):
    source = HEAD + SAME[name] + "\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it calls old
        theirs = executed(source, "original")
    made = torch2mlx.port(source)
    assert made.ok, made.unsupported
    ours = executed(made.source, "habit")
    assert np.allclose(np.asarray(theirs.OUT, float), np.array(ours.OUT, float))


def test_a_type_that_is_no_size_and_no_data_is_an_error():
    from torch2mlx.kit import typed

    with pytest.raises(TypeError, match="LongTensor takes sizes or one piece of data"):
        typed.LongTensor([1], 2)
    with pytest.raises(TypeError, match=r"'torch\.Complex' is no tensor type"):
        typed.cast(mx.ones(2), "torch.Complex")
    with pytest.raises(
        TypeError, match=r"FloatTensor\(\(2, 3\)\) is a shape or data: give a shape"
    ):
        typed.FloatTensor((2, 3))


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")
def test_older_tensor_types_take_arrays_and_numbers_of_numpy_within_lists():
    from torch2mlx.kit import typed

    for data in ([np.float64(1.5), 2], [np.arange(3), np.arange(3)], [[np.int64(1)], (2,)]):
        for name in ("FloatTensor", "LongTensor"):
            found, expected = getattr(typed, name)(data), getattr(torch, name)(data)
            assert np.array(found).tolist() == expected.tolist()
            assert str(found.dtype).endswith(str(expected.dtype).partition(".")[2])


def test_a_layer_whose_name_is_only_known_later_is_refused():
    made = torch2mlx.port(f"{HEAD}def f(kind):\n    return getattr(nn, kind)(3, 4)\n")
    assert [u.where for u in made.unsupported] == ["getattr(torch.nn, ...)"]


def test_value_and_grad_of_another_library_is_left_alone():
    text = "import torch\nimport jax\nv = jax.value_and_grad(lambda q: q)(torch.ones(2))\n"
    assert "jax.value_and_grad(lambda q: q)(mx.ones((2,)))" in torch2mlx.port(text).source


LAYERS = {
    "Linear": "nn.Linear|(i, o, bias, device, dtype)",
    "keywords": "nn.Linear|(i, o, bias=bias, device=device, dtype=dtype)",
    "Embedding": "nn.Embedding|(i, o, device=device)",
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_subclass_of_a_layer_gives_its_class_what_it_takes(name, tmp_path):
    base, given = LAYERS[name].split("|")
    source = (
        f"{HEAD}class L({base}):\n"
        "    def __init__(self, i, o, bias=True, device=None, dtype=None):\n"
        f"        super().__init__{given}\n"
        "layer = L(2, 3)\n"
    )
    theirs, made = executed(source, "original"), torch2mlx.port(source)
    assert made.ok, made.unsupported
    ours = executed(made.source, "subclass")
    assert ours.layer.weight.shape == tuple(theirs.layer.weight.shape)
    give_weights(ours.layer, theirs.layer, tmp_path)
    assert np.allclose(theirs.layer.weight.detach().numpy(), np.array(ours.layer.weight))


PARTS = """import torch
import torch.nn as nn
from torch.nn import functional as F
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
    def forward(self, x):
        return F.relu(self.fc(x))
"""
MODEL = """from .parts import *
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Block()
    def forward(self, x):
        return torch.sigmoid(F.relu(self.a(x)))
"""


@pytest.mark.parametrize("between", ["", "from .parts import *\n"], ids=["direct", "through"])
def test_names_of_torch_that_come_through_a_star_are_ported(between, tmp_path, monkeypatch):
    name = f"starred_{len(between)}"
    folder = tmp_path / "src" / name
    folder.mkdir(parents=True)
    (folder / "parts.py").write_text(PARTS)
    model = MODEL
    if between:
        (folder / "middle.py").write_text(between)
        model = MODEL.replace(".parts", ".middle")
    (folder / "model.py").write_text(model)
    (folder / "__init__.py").write_text("from .model import Net\n")
    torch2mlx.port_folder(tmp_path / "src", tmp_path / "out")
    monkeypatch.syspath_prepend(str(tmp_path / "out"))
    made = __import__(name)
    assert made.Net()(mx.zeros((1, 2))).shape == (1, 2)


def test_a_star_that_hides_names_brings_only_what_it_shows(tmp_path):
    (tmp_path / "parts.py").write_text(f"__all__ = ['nn']\n{PARTS}")
    (tmp_path / "model.py").write_text("from .parts import *\nx = torch.ones(2)\ny = nn.ReLU()\n")
    made = torch2mlx.port(tmp_path / "model.py")
    assert "torch.ones(2)" in made.source and "y = nn.ReLU()" in made.source
