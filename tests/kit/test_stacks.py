"""Stacks of transformer layers take torch's masks under torch's names."""

import numpy as np
import pytest

from tests.porting.compare import executed, give_weights
from tests.support import need

need("torch", "mlx", "libcst", "safetensors")

import mlx.core as mx
import torch

import torch2mlx

SOURCE = """
import torch
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        other = nn.TransformerDecoderLayer(8, 2, 16, 0.0)
        self.decoder = nn.TransformerDecoder(other, 2)

    def forward(self, x, mask):
        memory = self.encoder(x, mask=mask, is_causal=True)
        memory = memory + self.encoder.layers[0](x, src_mask=mask, is_causal=True)
        return self.decoder(x, memory, tgt_mask=mask, tgt_is_causal=True)

torch.manual_seed(0)
model = Net()
"""


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # torch's, of speed
@pytest.mark.parametrize(("steps", "batch"), [(3, 2), (5, 1)])
def test_masks_by_their_names(steps, batch, tmp_path):
    made = torch2mlx.port(SOURCE)
    assert made.ok, made.unsupported
    theirs, ours = executed(SOURCE, "stacks"), executed(made.source, "stacks_mlx")
    give_weights(ours.model, theirs.model, tmp_path)
    x = torch.randn(steps, batch, 8)
    mask = torch.triu(torch.full((steps, steps), float("-inf")), 1)
    expected = theirs.model(x, mask).detach().numpy()
    found = ours.model(mx.array(x.numpy()), mx.array(mask.numpy()))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mask_that_is_said_to_be_causal_is(batch_first):
    """torch attends causally then, whatever the mask has, unless there is padding."""
    torch.manual_seed(0)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 3] = mask[2, 1] = True
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first).train()
    x = torch.randn((3, 4, 8) if batch_first else (4, 3, 8))
    ours = torch2mlx.registry.build(layer)
    for said in (False, True):
        expected = layer(x, mask, is_causal=said).detach().numpy()
        found = ours(mx.array(x.numpy()), mx.array(mask.numpy()), is_causal=said)
        assert np.allclose(expected, np.array(found), atol=1e-5)
