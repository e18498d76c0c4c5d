"""The file without what it demands of values, which cannot be asked of arrays that are never
made."""

from __future__ import annotations

import ast


def without_demands(source: str) -> str:
    """A program without its assertions, and without branches that are errors alone."""
    return ast.unparse(_Without().visit(ast.parse(source)))


class _Without(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.copy_location(ast.Pass(), node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if len(node.body) == 1 and isinstance(node.body[0], ast.Raise) and not node.orelse:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)
