"""Tensors that are written to while torch records nothing, and buffers that no checkpoint has:
values, gradients and what is kept for the next call."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn as mlx_nn
import torch
from mlx.utils import tree_flatten
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx


class Writes(nn.Module):
    """A model around one way of writing."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        y = self.way(self.up(x))
        return self.down(y) + y.sum()


def scaled(y):
    with torch.no_grad():
        y.mul_(2)
    return y


def one_row(y):
    with torch.no_grad():
        y[0].add_(1)
        y[:, 1:3] = 0.5
    return y


def detached(y):
    y.detach().clamp_(-0.2, 0.2)
    return y


def detached_row(y):
    y.detach()[1].mul_(3)
    return y * y


def read_within(y):
    with torch.no_grad():
        y.add_(1)
        z = y * 2
    return y + z


def recorded_after(y):
    with torch.no_grad():
        y.mul_(2)
    y.mul_(3)
    return y


def recorded_view(y):
    z = y * 1
    row = z[0]
    with torch.no_grad():
        row.mul_(2)
    return z + row


def from_outside(y):
    z = torch.zeros_like(y)
    with torch.no_grad():
        z.copy_(y)
    return y + z


WAYS = [scaled, one_row, detached, detached_row, read_within, recorded_after, recorded_view]
WAYS.append(from_outside)


def gradients(module, *inputs):
    """Gradients of the sum of squares, by name."""
    loss = lambda: mx.square(module(*inputs)).sum()
    return dict(tree_flatten(mlx_nn.value_and_grad(module, loss)()[1]))


def check_gradients(model, x):
    """Values, and the gradient of every parameter."""
    made = torch2mlx.translate(model, (x,))
    assert torch2mlx.verify(model, made, (x,)).difference < 1e-5
    model(x).square().sum().backward()
    found = gradients(made.module, to_mlx(x))
    for name, p in model.named_parameters():
        np.testing.assert_allclose(found[name], p.grad, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_values_change_and_gradients_stay(way):
    torch.manual_seed(0)
    model, x = Writes(way).train(), torch.randn(3, 4)
    check_gradients(model, x)


def cast_first(y, w):
    with torch.no_grad():
        first = y @ w.to(y.dtype)
    return (first + y) @ w.to(y.dtype)


def contiguous_first(y, w):
    with torch.no_grad():
        z = y.contiguous()
        first = z @ w.contiguous().float()
    return (first + z) @ w.contiguous()


def viewed_first(y, w):
    with torch.no_grad():
        turned = w.view(4, 4)
        first = y.view(y.shape)
    return first @ turned + y @ w


def recording_within(y, w):
    with torch.no_grad():
        first = y @ w.float()
        with torch.enable_grad():
            second = y @ w.float()
        first = first + second
    return first + second @ w.float()


def dropped_first(y, w):
    with torch.no_grad():
        kept = nn.functional.dropout(w, 0.5, False)
        first = y @ kept
    return first + y @ kept


class Shares(nn.Module):
    """A model around one way of using a weight without and with its gradient."""

    def __init__(self, way):
        super().__init__()
        self.way, self.up = way, nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        return self.way(self.up(x), self.weight)


SHARED = [cast_first, contiguous_first, viewed_first, recording_within, dropped_first]


@pytest.mark.parametrize("way", SHARED)
def test_what_no_grad_gives_back_unchanged_keeps_its_gradient(way):
    """A cast to the dtype that a tensor has is the tensor itself, wherever it is written."""
    torch.manual_seed(0)
    model, x = Shares(way), torch.randn(3, 4)
    check_gradients(model, x)


class Table(nn.Module):
    """Rows are copied into a leaf of their own, which gets the gradient; ids and a count are
    kept."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.randn(9, 4))
        leaf = torch.zeros(3, 4, requires_grad=True)
        self.register_buffer("local", leaf, persistent=False)
        self.register_buffer("ids", torch.zeros(3, dtype=torch.int32), persistent=False)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.out = nn.Linear(4, 2)

    def forward(self, ids):
        if not self.training:
            return self.out(self.rows[ids])
        with torch.no_grad():
            self.local.copy_(self.rows[ids])
            self.ids.copy_(ids)
            self.calls.add_(1)
        return self.out(self.local * 2) * self.calls


def test_a_leaf_that_is_overwritten_gets_the_gradient(tmp_path):
    torch.manual_seed(0)
    model = Table().train()
    made = torch2mlx.translate(model, (torch.tensor([1, 5, 1]),), dynamic=False)
    folder = made.save(tmp_path / "table")
    module = torch2mlx.load(folder)
    assert set(dict(tree_flatten(module.trainable_parameters()))) == {
        "local",
        "out.weight",
        "out.bias",
    }
    fresh = Table().train()
    fresh.load_state_dict(model.state_dict())
    for ids in (torch.tensor([1, 5, 1]), torch.tensor([0, 8, 2])):
        fresh.zero_grad()
        fresh.local.grad = None
        fresh(ids).square().sum().backward()
        found = gradients(module, to_mlx(ids))
        np.testing.assert_allclose(found["local"], fresh.local.grad, rtol=1e-5)
        np.testing.assert_allclose(found["out.weight"], fresh.out.weight.grad, rtol=1e-5)
        np.testing.assert_array_equal(module.local, fresh.local.detach())
        np.testing.assert_array_equal(module._ids, fresh.ids)
        assert module._calls.item() == fresh.calls.item()
    with pytest.raises(TranslationError, match="no checkpoint has local"):
        made.save(tmp_path / "other", weights=model)


def test_without_training_the_leaf_is_not_there():
    model, ids = Table().eval(), torch.tensor([1, 5, 1])
    made = torch2mlx.translate(model, (ids,))
    assert "local" not in made.source
    assert torch2mlx.verify(model, made, (ids,)).difference < 1e-5


class Cache(nn.Module):
    """What came before is kept in a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("past", torch.zeros(2, 6, 4), persistent=False)
        self.look = nn.Linear(4, 4)

    def forward(self, x, place):
        self.past.index_copy_(1, place, x)
        scores = self.look(x) @ self.past.transpose(1, 2)
        return scores.softmax(-1) @ self.past


def test_a_cache_is_kept_between_calls():
    torch.manual_seed(0)
    model, module = Cache().eval(), None
    steps = [torch.randn(2, 1, 4) for _ in range(4)]
    for i, x in enumerate(steps):
        place = torch.tensor([i])
        if module is None:
            module = torch2mlx.translate(model, (x, place), dynamic=False).module
        with torch.no_grad():
            expected = model(x, place)
        np.testing.assert_allclose(module(to_mlx(x), to_mlx(place)), expected, atol=1e-5)


class Row(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.way = way
        self.register_buffer("held", torch.zeros(2, 3))

    def forward(self, x):
        self.way(x, self.held[0])
        return self.held * 2


ROWS = {
    "a sum": lambda x, row: torch.add(x, 1, out=row),
    "of itself": lambda x, row: torch.add(row, x, out=row),
    "read after": lambda x, row: torch.mul(x, 3, out=row).add_(1),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_written_to_by_out(name):
    x = torch.tensor([1.0, 2.0, 3.0])
    made = torch2mlx.translate(Row(ROWS[name]), (x,)).module
    model = Row(ROWS[name])
    for _ in range(2):
        np.testing.assert_array_equal(made(to_mlx(x)), model(x))
    np.testing.assert_array_equal(made.held, model.held)


def test_several_results_written_to_are_refused():
    class Largest(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("most", torch.zeros(3))
            self.register_buffer("place", torch.zeros(3, dtype=torch.int64))

        def forward(self, x):
            return torch.max(x, 1, out=(self.most, self.place))[0] * 2

    with pytest.raises(TranslationError, match="writes to several tensors") as caught:
        torch2mlx.translate(Largest(), (torch.randn(3, 4),))
    assert len(caught.value.findings) == 1
