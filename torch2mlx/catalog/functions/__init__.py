"""Torch functions and tensor methods as data: what MLX calls them, and where meanings differ."""
