"""Children that differ between instances of a class: each block of a list has one of its own, and
a block whose results nobody reads is called all the same."""

import pytest

from tests.support import need

need("torch", "mlx.core")

import torch
from torch import nn

import torch2mlx


class Attention(nn.Module):
    """Which is one program or another, so that the file has two classes of it."""

    def __init__(self, causal):
        super().__init__()
        self.project, self.causal = nn.Linear(8, 8), causal

    def forward(self, x):
        y = self.project(x)
        return y.cumsum(1) if self.causal else torch.tanh(y).flip(1)


class Block(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.attention, self.norm = Attention(causal), nn.LayerNorm(8)

    def forward(self, x):
        return x + self.attention(self.norm(x))


class Encoder(nn.Module):
    def __init__(self, causal, count):
        super().__init__()
        self.blocks = nn.ModuleList(Block(causal) for _ in range(count))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Two(nn.Module):
    """Two towers of one class."""

    def __init__(self, count):
        super().__init__()
        self.text, self.image = Encoder(True, count), Encoder(False, count)

    def forward(self, x):
        return self.text(x), self.image(x)


@pytest.mark.parametrize("count", [2, 3])
def test_blocks_of_a_list_share_no_child(count):
    torch.manual_seed(0)
    model, args = Two(count).eval(), (torch.randn(2, 5, 8),)
    made = torch2mlx.translate(model, args)
    assert torch2mlx.verify(model, made, args, gradients=True).ok
    first, second = (made.module.text.blocks[i].attention for i in (0, 1))
    assert first is not second and first.project is not second.project


class Output(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dense, self.dropout = nn.Linear(width, width), nn.Dropout(0.1)

    def forward(self, x, y):
        return self.dropout(self.dense(x)) + y


class Pair(nn.Module):
    """A block of two streams."""

    def __init__(self):
        super().__init__()
        self.left, self.right = Output(6), Output(4)

    def forward(self, x, y):
        return self.left(x, x * 2), self.right(y, x[..., :4])


class Streams(nn.Module):
    """The last block's second stream is computed, and read by nobody."""

    def __init__(self, count):
        super().__init__()
        self.blocks = nn.ModuleList(Pair() for _ in range(count))

    def forward(self, x, y):
        for block in self.blocks:
            x, y = block(x + y.sum(-1, keepdim=True), y)
        return x


@pytest.mark.parametrize("count", [2, 4])
def test_a_block_whose_result_nobody_reads_is_made_as_the_others(count):
    torch.manual_seed(0)
    model, args = Streams(count).eval(), (torch.randn(3, 6), torch.randn(3, 4))
    made = torch2mlx.translate(model, args)
    assert torch2mlx.verify(model, made, args).ok
    assert made.source.count("class Output") == 1
