"""Strings in the expressions of an f-string: before Python 3.12 they need the other quotes."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Place, leaving

_OTHER = {'"': "'", "'": '"'}


def requoted(node: cst.FormattedString) -> cst.FormattedString:
    """The f-string without a string in it that would end it; the same where there is none."""
    quote = node.quote
    if len(quote) > 1 or not any(_has(part, quote) for part in node.parts):
        return node
    parts = [p.visit(_Requoted(quote)) if _has(p, quote) else p for p in node.parts]
    return node.with_changes(parts=parts)


def _has(part: Any, quote: str) -> bool:
    expression = isinstance(part, cst.FormattedStringExpression)
    return expression and quote in cst.Module([]).code_for_node(part)


class _Requoted(cst.CSTTransformer):
    def __init__(self, quote: str) -> None:
        super().__init__()
        self._quote = quote

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.SimpleString:
        inner, other = updated_node.raw_value, _OTHER[self._quote]
        if updated_node.quote != self._quote or other in inner or "\\" in inner:
            return updated_node  # where neither quote will do, the check of the whole file tells
        return updated_node.with_changes(value=f"{updated_node.prefix}{other}{inner}{other}")


@leaving(cst.FormattedString)
def _formatted_string(
    at: Place, original: cst.FormattedString, updated: cst.FormattedString
) -> cst.FormattedString:
    return requoted(updated)
