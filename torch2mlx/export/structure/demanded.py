"""Demands of a forward on values, as statements of a method."""

from __future__ import annotations

from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.render import Renderer, literal

#: Comparisons of whole numbers, and what is so where they are not.
_CONTRARY = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


def demanded(node: Node, renderer: Renderer) -> list[str]:
    """The statements of a demand on values: an assertion, or the error that the model raises."""
    condition, wanted, kind, told = node.args
    if kind == "AssertionError":
        test = renderer.argument(condition)
        test = test if wanted else f"not {test}"
        return [f"assert {test}, {literal(told)}" if told else f"assert {test}"]
    return [f"if {_failing(condition, wanted, renderer)}:", f"    raise {kind}({literal(told)})"]


def _failing(condition: Node, wanted: bool, renderer: Renderer) -> str:
    """The test that is true where a demand is not met."""
    name = condition.op.removeprefix("operator.")
    values = [getattr(part, "value", part) for part in condition.args]
    if wanted and name in _CONTRARY and all(isinstance(value, int) for value in values):
        return renderer.expression(Node(f"operator.{_CONTRARY[name]}", condition.args))[0]
    return f"not {renderer.argument(condition)}" if wanted else renderer.argument(condition)
