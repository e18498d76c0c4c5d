"""Layers with options that MLX's lack: analyze says of each what translate makes of it."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
import torch.nn.functional as F
from torch import nn

from torch2mlx import analyze, translate
from torch2mlx.errors import TranslationError

IDS, ROWS = torch.tensor([[1, 2, 3], [0, 4, 1]]), torch.randn(3, 4)


def distance(a, b):
    return (a - b).abs().sum(-1)


LAYERS = {
    "max_norm": (lambda: nn.Embedding(5, 4, max_norm=1.0), (IDS,)),
    "max_norm of a bag": (lambda: nn.EmbeddingBag(5, 4, max_norm=1.0), (IDS,)),
    "counted gradients": (lambda: nn.Embedding(5, 4, scale_grad_by_freq=True), (IDS,)),
    "an activation": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, activation=F.silu, batch_first=True),
        (torch.randn(2, 3, 4),),
    ),
    "a distance": (
        lambda: nn.TripletMarginWithDistanceLoss(distance_function=distance),
        (ROWS, ROWS.flip(0), ROWS * 2),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_analyze_says_what_translate_makes_of_a_layer_without_a_twin(name):
    make, args = LAYERS[name]
    layer = make().eval()
    told = {finding.rule for finding in analyze(nn.Sequential(layer)).findings}
    try:
        assert translate(layer, args).compared == "equal"
    except TranslationError:
        assert "T2M010" in told and "T2M014" not in told
    else:
        assert "T2M014" in told and "T2M010" not in told
