"""Images of digits, (N, 1, 8, 8), to the logits of ten classes."""

import torch
from torch import nn


class Block(nn.Module):
    """A convolution with its norm, and a way around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same shape."""
        return x + torch.relu(self.norm(self.conv(x)))


class Classifier(nn.Module):
    """(N, 1, H, W) to (N, classes)."""

    def __init__(self, channels: int = 8, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.head = nn.Linear(channels, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of images."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))
