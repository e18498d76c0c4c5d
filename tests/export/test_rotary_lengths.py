"""Rotary embeddings at lengths that a model computes from the length of its input."""

import pytest

from tests.support import need

torch, mlx = need("torch", "mlx.core")

import torch2mlx


class Subsampled(torch.nn.Module):
    """Positions of every fourth frame: none at all for inputs shorter than four."""

    def __init__(self):
        super().__init__()
        self.register_buffer("inverse", 1.0 / 100 ** (torch.arange(0, 8, 2).float() / 8))

    def forward(self, frames):
        x = frames[:, : frames.shape[1] // 4][:, None]
        angles = torch.arange(x.shape[2]).float()[:, None] * self.inverse
        angles = torch.cat((angles, angles), -1)
        rotated = torch.cat((-x[..., 4:], x[..., :4]), -1)
        return x * angles.cos() + rotated * angles.sin()


@pytest.mark.parametrize("length", [8, 13, 24])
def test_positions_of_a_shortened_input_are_rotated_at_every_length(length):
    model = Subsampled()
    made = torch2mlx.translate(model, torch.randn(2, 16, 8))
    assert torch2mlx.verify(model, made, torch.randn(3, length, 8)).ok
