"""Forty training programs in PyTorch, and a score for what ports them to MLX."""
