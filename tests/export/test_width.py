"""float64 within a model becomes float32 where that is as good; what an Apple GPU lacks is told."""

import re

import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import numpy as np
import torch
from torch import nn

import torch2mlx
from tests.gpu_refusals import as_on_a_gpu
from torch2mlx.common.apple import places


class Rotary(nn.Module):
    """Angles in float64, as Flux has them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        steps = torch.arange(0, 8, 2, dtype=torch.float64) / 8
        angles = torch.einsum("n,d->nd", torch.arange(x.shape[1]).double(), 1.0 / 100**steps)
        y = self.fc(x)
        return y[..., :4] * angles.cos().float() + y[..., 4:] * angles.sin().float()


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(24, 24)
        self.register_buffer("t", torch.linspace(0, 1, 24).double(), persistent=False)

    def forward(self, x):
        return (self.fc(x) * self.t.cos()).float()


class Cancelling(nn.Module):
    def forward(self, x):
        return ((x.double() + 1e9) - 1e9).float()


class Ends(nn.Module):
    def forward(self, x):
        return x.double() * 2


def same(model, made, x):
    with torch.no_grad():
        wanted = model(x).numpy()
    np.testing.assert_allclose(np.array(made.module(mx.array(x.numpy()))), wanted, atol=2e-5)


@pytest.mark.parametrize("make", [Rotary, Table])
def test_float64_within_becomes_float32_with_a_note(make):
    model = make().eval()
    width = 8 if make is Rotary else 24
    x = torch.randn(2, 5, width)
    made = torch2mlx.translate(model, (x,))
    assert "float64" not in made.source and places(made.source) == ()
    assert [note for note in made.notes if "float64" in note] == list(made.notes)
    assert made.notes[-1].startswith("float64 within the model is computed in float32")
    for length in (5, 5 if make is Table else 9):
        same(model, made, torch.randn(3, length, width))


def test_gradients_pass_through_what_became_narrow():
    model, x = Rotary().eval(), torch.randn(2, 5, 8)
    made = torch2mlx.translate(model, (x,))
    model(x).square().mean().backward()
    module = made.module
    loss = lambda m, v: m(v).square().mean()
    _, grads = __import__("mlx.nn", fromlist=["nn"]).value_and_grad(module, loss)(
        module, mx.array(x.numpy())
    )
    np.testing.assert_allclose(
        np.array(grads["fc"]["weight"]), model.fc.weight.grad.numpy(), atol=1e-5
    )


def test_float64_stays_where_float32_answers_otherwise():
    model, x = Cancelling(), torch.rand(5)
    made = torch2mlx.translate(model, (x,))
    assert "mx.float64" in made.source
    same(model, made, x)
    (line,) = [place.line for place in places(made.source)]
    assert f"T2M115 line {line}, mx.float64: no Apple GPU has float64" in made.notes[0]
    assert made.notes[-1].startswith("float64 within the model stays")


def test_float64_that_comes_or_goes_stays():
    made = torch2mlx.translate(Ends(), (torch.rand(3),))
    assert made.module(mx.zeros(3)).dtype == mx.float64
    assert all("is computed in float32" not in note for note in made.notes)
    wide = torch2mlx.translate(nn.ReLU(), (torch.rand(3, dtype=torch.float64),))
    assert all("is computed in float32" not in note for note in wide.notes)


def test_without_a_check_float64_stays():
    made = torch2mlx.translate(Table().eval(), (torch.randn(2, 24),), check=False)
    assert any("T2M115" in note or "not run" in note for note in made.notes)
    assert all("is computed in float32" not in note for note in made.notes)


class Algebra(nn.Module):
    def forward(self, x):
        a = x @ x.mT + 3 * torch.eye(4)
        parts = (torch.linalg.inv(a), torch.linalg.cholesky(a), torch.linalg.solve(a, x))
        rest = torch.linalg.svdvals(x).sum() + torch.linalg.det(a) + torch.logdet(a)
        return sum(p.sum() for p in parts) + rest + torch.linalg.eigvalsh(a).sum()


def test_linear_algebra_is_written_for_the_cpu():
    made = torch2mlx.translate(Algebra(), (torch.randn(4, 4),))
    assert "stream=mx.cpu" in made.source and places(made.source) == () and made.notes == ()
    alone = torch2mlx.translate(Algebra(), (torch.randn(4, 4),), standalone=True)
    assert places(alone.source) == ()


class Counting(nn.Module):
    def forward(self, index):
        return torch.zeros(5, dtype=torch.long).scatter_add(0, index, torch.ones_like(index))


class Summing(nn.Module):
    def forward(self, index):
        return torch.zeros(5).scatter_add(0, index, torch.ones(index.shape))


def test_scattered_integers_of_64_bits_need_no_note():
    for model in (Counting(), Summing()):
        made = torch2mlx.translate(model, (torch.tensor([0, 2, 2, 4]),))
        assert made.notes == ()
        for index in (torch.tensor([0, 2, 2, 4]), torch.tensor([[3, 3]] * 3).flatten()):
            with as_on_a_gpu():
                found = made.module(mx.array(index.numpy()))
            assert np.array_equal(found, model(index))


def test_a_port_reports_what_no_apple_gpu_runs():
    need("libcst")
    source = (
        "import torch\n\n\ndef f(x):\n    y = torch.linalg.det(x)\n"
        "    return y + torch.zeros(3, dtype=torch.float64).sum()\n"
    )
    made = torch2mlx.port(source)
    assert "mx.linalg.inv" not in made.source
    (change,) = [c for c in made.changes if c.why.startswith("T2M115")]
    assert (change.line, change.what) == (6, "mx.float64") and "mx.float32" in change.check
    number = int(change.why.split("line ")[1].split()[0])
    assert "mx.float64" in made.source.splitlines()[number - 1]


class Branching(torch.nn.Module):
    def forward(self, x):
        y = x.sum(1)
        if x.shape[1] == 1:  # of the lengths of one that need a check in the file
            y = y * 0 + 7
        return torch.outer(y[0], y[0]).double().sin()


def test_notes_have_the_lines_of_the_file_that_is_returned():
    made = torch2mlx.translate(Branching(), (torch.randn(3, 5, 4),))
    assert "x.shape[1] == 1" in made.source
    (note,) = (n for n in made.notes if n.startswith("T2M115"))
    number = int(re.match(r"T2M115 line (\d+)", note)[1])
    assert "mx.float64" in made.source.splitlines()[number - 1]
