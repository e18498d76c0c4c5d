"""Functions of MLX with the types that its stubs leave out; they are MLX's own at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import mlx.core as mx

if TYPE_CHECKING:
    Given = ParamSpec("Given")
    Result = TypeVar("Result")
    Rule = TypeVar("Rule", bound=Callable[..., Any])

    class custom_function(Generic[Given, Result]):
        """mlx.core.custom_function: calls give what the function gives."""

        def __init__(self, function: Callable[Given, Result]) -> None: ...
        def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Result: ...
        def vjp(self, rule: Rule) -> Rule: ...

    def split(x: mx.array, parts: int | list[int], axis: int = 0) -> list[mx.array]:
        """mlx.core.split."""

    def tree_flatten(tree: Any) -> list[tuple[str, Any]]:
        """mlx.utils.tree_flatten without a destination: dotted names and leaves."""

else:
    from mlx.utils import tree_flatten

    custom_function, split = mx.custom_function, mx.split

__all__ = ["custom_function", "split", "tree_flatten"]
