"""From an exported PyTorch program to the source of an MLX module."""
