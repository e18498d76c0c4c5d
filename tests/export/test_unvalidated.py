"""Distributions within a forward: the checks of their arguments keep none from being traced."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import distributions as D
from torch import nn

import torch2mlx
from tests.export.alike import assert_alike


class Head(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.head = head

    def forward(self, x):
        return self.head(self.fc(x))


def mixture(x):
    parts = D.Independent(D.Normal(x[..., None], x[..., None].exp()), 1)
    return D.MixtureSameFamily(D.Categorical(logits=x), parts).log_prob(x[:, :1])


HEADS = {
    "normal": lambda x: D.Normal(x, x.exp()).log_prob(x.detach() + 1),
    "categorical": lambda x: (D.Categorical(logits=x).entropy(), D.Categorical(logits=x).probs),
    "bernoulli": lambda x: D.Bernoulli(logits=x).log_prob((x > 0).float()),
    "divergence": lambda x: D.kl_divergence(D.Normal(x, x.exp()), D.Normal(0.0, 1.0)),
    "mixture": mixture,
    "laplace": lambda x: D.Laplace(x, 1 + x.square()).log_prob(x * 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_distributions_are_translated(name):
    before = D.Distribution._validate_args
    assert_alike(Head(HEADS[name]), (torch.randn(3, 4),), (torch.randn(5, 4),))
    assert D.Distribution._validate_args is before


def test_checks_that_the_model_asks_for_are_those_of_the_file():
    head = Head(lambda x: D.Normal(x, x.exp(), validate_args=True).log_prob(x))
    assert_alike(head, (torch.randn(3, 4),), (torch.randn(5, 4),))
    made = torch2mlx.translate(head, (torch.randn(3, 4),))
    for bad in (torch.full((2, 4), torch.nan), torch.full((2, 4), 1e6)):
        for side in (head, made):
            with pytest.raises(ValueError, match="to satisfy the constraint"):
                side(bad)
