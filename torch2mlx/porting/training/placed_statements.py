"""Statements in the place of others, with the comments of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst


def parse(text: str) -> Any:
    """A statement from source."""
    return cst.parse_statement(text)


def under(comments: list[Any], statements: list[Any]) -> list[Any]:
    """Statements with more comments above the first."""
    if not comments or not statements or not hasattr(statements[0], "leading_lines"):
        return statements
    first = statements[0]
    lines = [*comments, *first.leading_lines]
    return [first.with_changes(leading_lines=lines), *statements[1:]]


def below(text: str, statement: Any) -> Any:
    """A statement from source, under the comments of the one that it replaces."""
    above = parse(text).with_changes(leading_lines=statement.leading_lines)
    return beside(above, statement)


def beside(made: Any, statement: Any) -> Any:
    """A statement with the comment that stands at the end of the line that it replaces."""
    return made.with_changes(trailing_whitespace=statement.trailing_whitespace)


def told(statement: Any, reasons: Sequence[str]) -> Any:
    """A statement that stays, under comments that say why."""
    if not reasons or not hasattr(statement, "leading_lines"):
        return statement
    lines = [cst.EmptyLine(comment=cst.Comment(f"# torch2mlx: not ported: {r}")) for r in reasons]
    return statement.with_changes(leading_lines=[*statement.leading_lines, *lines])


def again(statement: Any, repeated: str) -> Any:
    """A statement of a function, under `with` where it has run before."""
    if not repeated:
        return statement
    made = parse(f"with {repeated}:\n    pass\n")
    return made.with_changes(body=made.body.with_changes(body=[statement]))
