"""Rewriting PyTorch source as MLX source: names, types, rules by family."""
