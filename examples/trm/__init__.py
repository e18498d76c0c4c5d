"""TinyRecursiveModels in MLX, end to end: puzzles, training, evaluation, checkpoints.

`in_torch` is the model in PyTorch; `in_mlx` is what `torch2mlx port examples/trm/in_torch` makes of
it, as it comes out. The rest is written for MLX.
"""
