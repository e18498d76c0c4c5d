"""ctc_loss: values and gradients of every reduction and form of targets, and what is refused."""

import itertools

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from tests.export.alike import mlx_gradients, torch_gradients
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.kit.ctc import ctc_loss

STEPS, BATCH, CLASSES = 7, 3, 5
TARGETS = torch.tensor(
    [[1, 1, 1], [2, 4, 1], [3, 0, 0]]
)  # what lies behind a row's end is not read
FORMS = {
    "full": (TARGETS[:2].repeat(2, 1)[:3], torch.tensor([7, 7, 7]), torch.tensor([3, 3, 3])),
    "lists": (TARGETS, [7, 6, 2], [3, 2, 1]),
    "shorter": (TARGETS, torch.tensor([7, 5, 2]), torch.tensor([3, 2, 1])),
    "in one row": (
        torch.tensor([1, 1, 2, 4, 1, 3]),
        torch.tensor([7, 7, 6]),
        torch.tensor([2, 3, 1]),
    ),
    "no labels": (TARGETS, torch.tensor([7, 7, 7]), torch.tensor([0, 3, 0])),
    "no steps": (TARGETS, torch.tensor([0, 7, 0]), torch.tensor([0, 3, 1])),
    "too few steps": (TARGETS, torch.tensor([4, 2, 1]), torch.tensor([3, 3, 1])),
}
OPTIONS = list(itertools.product(("none", "mean", "sum"), (False, True)))


def given(value):
    return mx.array(value.numpy()) if isinstance(value, torch.Tensor) else value


def weighted(loss, like):
    return (
        loss * like(1, 2, max(loss.size if isinstance(loss, mx.array) else loss.numel(), 1))
    ).sum()


def compare(logits, *args, **options):
    x = logits.clone().requires_grad_()
    expected = F.ctc_loss(x.log_softmax(-1), *args, **options)
    weighted(expected, torch.linspace).backward()

    def loss(x):
        x = x - mx.logsumexp(x, axis=-1, keepdims=True)
        return ctc_loss(x, *map(given, args), **options)

    found = loss(mx.array(logits.numpy()))
    slopes = mx.grad(lambda x: weighted(loss(x), mx.linspace))(mx.array(logits.numpy()))
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(np.array(found), expected.detach(), 1e-5, 1e-5)
    np.testing.assert_allclose(np.array(slopes), x.grad, 1e-4, 1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_losses_and_gradients_are_torchs(form):
    torch.manual_seed(0)
    for reduction, zero_infinity in OPTIONS:
        logits = torch.randn(STEPS, BATCH, CLASSES)
        compare(logits, *FORMS[form], reduction=reduction, zero_infinity=zero_infinity)


def test_one_sequence_without_a_batch_and_another_blank():
    torch.manual_seed(0)
    for reduction, zero_infinity in OPTIONS:
        options = {"reduction": reduction, "zero_infinity": zero_infinity}
        compare(torch.randn(5, 4), torch.tensor([1, 2]), (5,), (2,), **options)
        args = (torch.tensor([[0, 2], [1, 0]]), [5, 4], [2, 2])
        compare(torch.randn(5, 2, 4), *args, blank=3, **options)


REFUSED = {
    "more steps than there are": ((TARGETS, [8, 7, 7], [3, 3, 1]), "input lengths are"),
    "more labels than there are": ((TARGETS, [7, 7, 7], [4, 3, 1]), "target lengths are"),
    "a row too few": ((TARGETS[:2], [7, 7, 7], [3, 3, 1]), "targets of 2 sequences for 3"),
    "a length too few": ((TARGETS, [7, 7], [3, 3, 1]), "2 input lengths for 3 sequences"),
    "labels beyond the sum": (
        (TARGETS[0], [7, 7, 7], [1, 1, 0]),
        "3 targets, the lengths add up to 2",
    ),
    "the blank as a label": ((TARGETS, [7, 7, 7], [3, 3, 2]), "is 0, the blank"),
    "no such class": ((TARGETS + 3, [7, 7, 7], [3, 3, 1]), "none of 5 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_refuses_or_reads_beyond_its_memory_for_is_refused(case):
    args, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        ctc_loss(mx.zeros((STEPS, BATCH, CLASSES)), *map(given, args))


class Recognizer(nn.Module):
    """A layer and a function, with lengths as an array and as a list."""

    def __init__(self):
        super().__init__()
        self.head, self.loss = nn.Linear(4, CLASSES), nn.CTCLoss(zero_infinity=True)

    def forward(self, x, targets, steps, labels):
        logs = self.head(x).log_softmax(-1)
        listed = F.ctc_loss(logs[:, :2], targets[:2], [logs.shape[0]] * 2, [1, 1], reduction="sum")
        return self.loss(logs, targets, steps, labels), listed


def test_a_model_that_computes_its_own_loss_is_translated():
    torch.manual_seed(0)
    model = Recognizer()
    labels = (TARGETS, torch.tensor([7, 6, 5]), torch.tensor([3, 3, 1]))
    made = torch2mlx.translate(model, (torch.randn(7, 3, 4), *labels)).module
    for length in (7, 11):
        args = (torch.randn(length, 3, 4), *labels)
        for a, b in zip(made(*map(to_mlx, args)), model(*args), strict=True):
            np.testing.assert_allclose(np.array(a), b.detach(), 1e-5, 1e-5)
        expected = torch_gradients(model, args)
        for name, slope in mlx_gradients(made, args).items():
            np.testing.assert_allclose(slope, dict(flat(expected))[name], 1e-4, 1e-4)


def flat(tree):
    from mlx.utils import tree_flatten

    return tree_flatten(tree)
