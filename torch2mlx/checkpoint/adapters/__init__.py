"""Adapters: low-rank updates of a model's weights, as PEFT and as mlx-lm keep them."""
