"""One file in MLX: the rules of all kinds of nodes, from the innermost outwards."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules import (  # noqa: F401 (they register rules)
    calls,
    definitions,
    format_strings,
    names,
    numpy_operands,
    optional_attributes,
    statements,
    subscripts,
)
from torch2mlx.porting.rules.apply_layout import turned
from torch2mlx.porting.rules.place import ENTERING, LEAVING, Context, Place
from torch2mlx.porting.scopes.passes import LAYOUT

_STATEMENTS = (
    *(cst.SimpleStatementLine, cst.If, cst.For, cst.While, cst.With, cst.Try),
    *(cst.FunctionDef, cst.ClassDef),
)


class Rewriter(cst.CSTTransformer):
    """Rewrites one file: libcst walks over it and asks for the rule of each node."""

    def __init__(self, file: Context) -> None:
        super().__init__()
        self._at = Place(file, rewrite=lambda node: node.visit(self))

    def on_visit(self, node: cst.CSTNode) -> bool:
        kind, inside = type(node), True
        if kind in LAYOUT:
            return False
        if kind in _STATEMENTS:
            self._at.current = node
        for rule in ENTERING.get(kind, ()):
            inside = rule(self._at, node) is not False and inside
        return inside

    def on_visit_attribute(self, node: cst.CSTNode, attribute: str) -> None:
        """Nothing is asked about single fields: this is called for every one of them."""

    def on_leave_attribute(self, original_node: cst.CSTNode, attribute: str) -> None:
        """Nothing, as before."""

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        rule, made = LEAVING.get(type(original_node)), updated_node
        if rule is not None:
            try:
                made = rule(self._at, original_node, updated_node)
            except (AttributeError, IndexError, ValueError, cst.ParserSyntaxError) as problem:
                self._at.refuse(original_node, f"a form that is not known here ({problem})")
        if isinstance(original_node, cst.BaseExpression):
            made = turned(self._at, original_node, updated_node, made)
        reasons = self._at.trouble.pop(original_node, None)
        if reasons and isinstance(made, _STATEMENTS):
            lines = [_comment(f"torch2mlx: not ported: {reason}") for reason in reasons]
            made = made.with_changes(leading_lines=[*made.leading_lines, *lines])
        return made


def _comment(text: str) -> cst.EmptyLine:
    return cst.EmptyLine(comment=cst.Comment(f"# {' '.join(text.split())}"))
