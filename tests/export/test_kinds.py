"""A branch on a rank or a dtype that the example does not take: the file refuses what it would
answer otherwise than torch, and nothing else."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
import torch.nn.functional as F
from torch import nn

import torch2mlx
from tests.export.kinds import ASKING, Does, normal
from torch2mlx.export.capture.kind_uses import Use, use_of


def values(makers):
    makers = makers if isinstance(makers, tuple) else (makers,)
    return tuple(make() for make in makers)


@pytest.mark.parametrize("name", ASKING)
def test_other_ranks_and_dtypes_are_right_or_refused_by_name(name):
    torch.manual_seed(0)
    function, example, others, wrong = ASKING[name]
    model = Does(function).eval()
    made = torch2mlx.translate(model, values(example))
    assert made.source.count("if x.ndim") <= 1
    for makers in (example, *others):
        args = values(makers)
        np.testing.assert_allclose(
            np.array(made(*args).astype(mx.float32)), model(*args).detach().float(), atol=1e-2
        )
    for makers in wrong:
        with pytest.raises(ValueError, match=r"is .*, translated for .*translate again for it"):
            made(*values(makers))


def test_the_message_says_the_rank_the_line_and_what_to_do():
    made = torch2mlx.translate(Does(ASKING["by_dim"][0]).eval(), (torch.randn(2, 3, 4),))
    assert "if x.ndim not in (1, 3, 4, 5):\n" in made.source
    with pytest.raises(ValueError) as caught:
        made(torch.randn(3, 4))
    said = str(caught.value)
    assert said.startswith("x.ndim is 2, translated for 3: change kinds.py:")
    assert said.endswith(" or translate again for it")


def test_the_message_says_the_dtype():
    made = torch2mlx.translate(Does(ASKING["by_dtype"][0]).eval(), (torch.randn(2, 3),))
    assert "if x.dtype == mx.float16:\n" in made.source
    with pytest.raises(ValueError, match=r"^x\.dtype is mlx\.core\.float16, translated for float3"):
        made(torch.randn(2, 3).half())


class Ordinary(nn.Module):
    """What asks for ranks, lengths and dtypes as every model does."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        batch, length, _ = x.shape
        y = self.norm(x.float()).to(x.dtype)
        low = torch.finfo(x.dtype).min
        y = self.linear(y).masked_fill(y < 0, low).clamp(-1, 1)
        keep = torch.ones((x.shape[0],) + (1,) * (x.dim() - 1), dtype=x.dtype)
        return (y * keep).reshape(*x.shape[:-1], 4) + torch.zeros(batch, length, 1).type_as(x)


class Convolutions(nn.Module):
    """Images through a convolution and a norm, then numbers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """The last step of an LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1].softmax(-1)


@pytest.mark.parametrize(
    "model, example",
    [(Ordinary, (2, 3, 4)), (Convolutions, (2, 3, 8, 8)), (Recurrent, (2, 3, 4))],
)
def test_ordinary_models_have_no_such_checks(model, example):
    made = torch2mlx.translate(model().eval(), (torch.randn(example),))
    assert ".ndim" not in made.source
    assert "x.dtype" not in made.source


class Weighed(nn.Module):
    """Asks for the dtype of its weight, which no input decides."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.weight if self.weight.dtype == torch.float32 else x


def test_questions_about_weights_are_none_about_arguments():
    made = torch2mlx.translate(Weighed().eval(), (torch.randn(2, 4),))
    assert ".dtype" not in made.source


class Held(nn.Module):
    """An argument in a dict."""

    def forward(self, batch):
        x = batch["x"]
        return x * 2 if x.dim() == 2 else x * 3


def test_an_argument_in_a_container_is_named():
    made = torch2mlx.translate(Held().eval(), ({"x": torch.randn(2, 4)},))
    assert 'batch["x"].ndim != 2' in made.source
    with pytest.raises(ValueError, match=r"is \?, translated for 2|is 3, translated for 2"):
        made({"x": torch.randn(2, 4, 1)})


def test_what_is_not_tried_is_noted():
    model = Does(ASKING["by_dim"][0]).eval()
    made = torch2mlx.translate(model, (normal(2, 3, 4)(),), check=False)
    assert any("decides by ranks or dtypes" in n and "kinds.py:" in n for n in made.notes)
    with torch2mlx.empty_weights():
        model = Does(ASKING["by_dim"][0]).eval()
    made = torch2mlx.translate(model, (torch.randn(2, 3, 4),))
    assert any("decides by ranks or dtypes" in n for n in made.notes)


USES = [
    ("rank", "y = x.dim() == 3", Use.DECIDES),
    ("rank", "y = x.ndim - 1", Use.USED),
    ("rank", "y = x.ndim\nz = 1 if y > 2 else 0", Use.DECIDES),
    ("rank", "y = (1,) * x.ndim", Use.USED),
    ("rank", "self.rank = x.ndim", Use.DECIDES),
    ("rank", "if (n := x.ndim) and n > 2: pass", Use.DECIDES),
    ("shape", "a, b = x.shape", Use.NONE),
    ("shape", "a, *b = x.shape", Use.USED),
    ("shape", "a = x.shape[0]", Use.NONE),
    ("shape", "a = x.shape[-2:]", Use.USED),
    ("shape", "y = x.size(1) > 3", Use.NONE),
    ("shape", "y = len(x.shape) == 3", Use.DECIDES),
    ("shape", "y = x.shape == z.shape", Use.DECIDES),
    ("dtype", "y = z.to(x.dtype)", Use.NONE),
    ("dtype", "y = zeros(3, dtype=x.dtype)", Use.NONE),
    ("dtype", "d = x.dtype\ny = z.to(d)", Use.NONE),
    ("dtype", "d = x.dtype\ny = z if d is half else x", Use.DECIDES),
    ("dtype", "y = chosen(x.dtype)", Use.DECIDES),
    ("dtype", "y = not x.is_floating_point()", Use.DECIDES),
    ("dtype", "y = x.type(half)", Use.NONE),
]


@pytest.mark.parametrize("kind, text, use", USES)
def test_what_becomes_of_an_answer_is_read_from_the_source(kind, text, use):
    import ast

    tree = ast.parse("def f(self, x, z):\n  " + text.replace("\n", "\n  "))
    names = ("dim", "ndim", "shape", "size", "dtype", "is_floating_point", "type")
    node = next(n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in names)
    chain = [node]
    parents = {child: n for n in ast.walk(tree) for child in ast.iter_child_nodes(n)}
    while chain[0] in parents:
        chain.insert(0, parents[chain[0]])
    assert use_of(tuple(chain[1:]), kind) is use
