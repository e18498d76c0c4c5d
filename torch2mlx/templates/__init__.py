"""Building blocks in idiomatic MLX, each with a loader from its torch counterpart."""

import torch2mlx.common.needs_mlx  # noqa: F401
from torch2mlx.templates.cnn import ConvBlock, ConvStack
from torch2mlx.templates.mlp import MLP
from torch2mlx.templates.transformer import TransformerBlock

__all__ = ["MLP", "ConvBlock", "ConvStack", "TransformerBlock"]
