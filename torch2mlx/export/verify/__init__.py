"""A torch model and its MLX twin run on the same inputs, left as they were, and compared."""
