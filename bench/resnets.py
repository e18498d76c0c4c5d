"""ResNet-50 twice: as people write it in PyTorch, and by hand in MLX, channels last."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as mnn
import torch
from torch import nn

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut: (B, C, H, W) -> (B, 4 * width, H', W')."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """(B, 3, H, W) -> (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        blocks, channels = [], 64
        for width, count, stride in STAGES:
            for i in range(count):
                blocks.append(Bottleneck(channels, width, stride if i == 0 else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(self.blocks(x)), 1))


class HandBottleneck(mnn.Module):
    """The block, (B, H, W, C) -> (B, H', W', 4 * width)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = mnn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = mnn.BatchNorm(width)
        self.conv2 = mnn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = mnn.BatchNorm(width)
        self.conv3 = mnn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = mnn.BatchNorm(4 * width)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = mnn.Sequential(
                mnn.Conv2d(channels, 4 * width, 1, stride, bias=False), mnn.BatchNorm(4 * width)
            )

    def __call__(self, x: mx.array) -> mx.array:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = mnn.relu(self.bn1(self.conv1(x)))
        x = mnn.relu(self.bn2(self.conv2(x)))
        return mnn.relu(self.bn3(self.conv3(x)) + shortcut)


class HandResNet50(mnn.Module):
    """(B, H, W, 3) -> (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = mnn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = mnn.BatchNorm(64)
        self.maxpool = mnn.MaxPool2d(3, 2, padding=1)
        blocks: list[Any] = []
        channels = 64
        for width, count, stride in STAGES:
            for i in range(count):
                blocks.append(HandBottleneck(channels, width, stride if i == 0 else 1))
                channels = 4 * width
        self.blocks = mnn.Sequential(*blocks)
        self.fc = mnn.Linear(channels, 1000)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.maxpool(mnn.relu(self.bn1(self.conv1(x))))
        return self.fc(mx.mean(self.blocks(x), axis=(1, 2)))
