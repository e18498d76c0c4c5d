"""Tables that a forward reads by itself: bags of rows, with every option, and their gradients."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx.errors import UnsupportedOperatorError
from torch2mlx.export.ir.structures import to_mlx


class Bags(nn.Module):
    """A table of its own, and how it is read."""

    def __init__(self, read):
        super().__init__()
        self.weight, self.read = nn.Parameter(torch.randn(7, 4)), read

    def forward(self, *inputs):
        return self.read(self.weight, *inputs)


FLAT = (torch.tensor([1, 2, 6, 5, 2, 3, 3, 0]), torch.tensor([0, 3, 3, 5]))
LONGER = (torch.tensor([6, 6, 1, 0, 4, 3, 3, 0, 2, 5]), torch.tensor([0, 1, 6, 6]))
SHARES = (torch.linspace(-1, 1, 8), torch.linspace(2, 3, 10))
SQUARE = torch.tensor([[1, 2, 6], [5, 2, 2]])
WIDER = torch.tensor([[1, 6, 2, 0], [5, 2, 2, 4], [6, 6, 6, 6]])

READS = {
    "means": (lambda w, i, o: F.embedding_bag(i, w, o), FLAT, LONGER),
    "sums": (lambda w, i, o: F.embedding_bag(i, w, o, mode="sum"), FLAT, LONGER),
    "maxima": (lambda w, i, o: F.embedding_bag(i, w, o, mode="max"), FLAT, LONGER),
    "padding": (lambda w, i, o: F.embedding_bag(i, w, o, padding_idx=2), FLAT, LONGER),
    "padding from the end": (
        lambda w, i, o: F.embedding_bag(i, w, o, mode="max", padding_idx=-1),
        FLAT,
        LONGER,
    ),
    "ends": (
        lambda w, i, o: F.embedding_bag(i, w, o, include_last_offset=True),
        (FLAT[0], torch.tensor([0, 3, 3, 8])),
        (LONGER[0][:8], torch.tensor([0, 1, 6, 8])),
    ),
    "shares": (
        lambda w, i, o, s: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=s),
        (*FLAT, SHARES[0]),
        (*LONGER, SHARES[1]),
    ),
    "rows": (lambda w, i: F.embedding_bag(i, w, mode="sum"), (SQUARE,), (WIDER,)),
}


@pytest.mark.parametrize("name", READS)
def test_bags_that_a_forward_makes_of_its_own_table_agree_with_their_gradients(name):
    read, example, other = READS[name]
    torch.manual_seed(0)
    model = Bags(read)
    made = torch2mlx.translate(model, example).module
    for inputs in (example, other):
        model.zero_grad()
        answer = model(*inputs)
        answer.square().sum().backward()
        given = [to_mlx(x) for x in inputs]
        np.testing.assert_allclose(np.array(made(*given)), answer.detach(), 1e-5, 1e-6)
        slopes = mlx.nn.value_and_grad(made, lambda *x: mx.sum(mx.square(made(*x))))(*given)[1]
        np.testing.assert_allclose(np.array(slopes["weight"]), model.weight.grad, 1e-5, 1e-6)


def test_gradients_by_how_often_a_row_is_used_are_refused_by_name():
    model = Bags(lambda w, i, o: F.embedding_bag(i, w, o, scale_grad_by_freq=True))
    with pytest.raises(UnsupportedOperatorError, match="how often a row is used"):
        torch2mlx.translate(model, FLAT)
