"""Functions of MLX whose types MLX's own stubs leave out: stubs.pyi has them."""

import mlx.core as mx
from mlx import utils

custom_function = mx.custom_function
split = mx.split
tree_flatten = utils.tree_flatten
