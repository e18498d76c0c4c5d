"""Gradients of what a loss was made of, and of nothing else.

torch leaves the gradient of a parameter that a loss did not come from at None, and its optimizers
pass that parameter by: no moment fades, no weight decays. MLX gives zeros, with which they would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path

from torch2mlx.kit.stubs import custom_function


def value_and_grad(model: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """nn.value_and_grad, without the gradients of parameters that the value does not come from.

    What is left out has no place in the tree of gradients: `kit.optimizers` leave it as it is.
    Arrays in a list of arrays keep their zeros, as their places count.
    """

    def call(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        reached: set[str] = set()

        def marked(*given: Any, **named: Any) -> Any:
            held = model.trainable_parameters()
            model.update(tree_map_with_path(lambda path, x: _noting(path, reached)(x), held))
            try:
                return function(*given, **named)
            finally:
                model.update(held)

        value, gradients = nn.value_and_grad(model, marked)(*args, **kwargs)
        return value, _of_reached(gradients, reached, "")

    return call


def _noting(path: str, reached: set[str]) -> Callable[[mx.array], mx.array]:
    """An array as it is; a gradient that comes to it is noted by its path."""

    @custom_function
    def same(x: mx.array) -> mx.array:
        return x

    @same.vjp
    def _(primals: Any, cotangent: mx.array, output: Any) -> mx.array:
        reached.add(path)
        return cotangent

    return same


def _of_reached(tree: Any, reached: set[str], path: str) -> Any:
    """The part of a tree whose paths were reached."""
    head = f"{path}." if path else ""
    if isinstance(tree, list):
        return [_of_reached(item, reached, f"{head}{i}") for i, item in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    return {
        key: _of_reached(value, reached, f"{head}{key}")
        for key, value in tree.items()
        if not isinstance(value, mx.array) or f"{head}{key}" in reached
    }
