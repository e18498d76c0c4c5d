"""Every operator of the exported program becomes calls of MLX functions."""
