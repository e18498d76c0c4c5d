"""Two training scripts, one of torch and one of MLX, recorded step by step and compared."""
