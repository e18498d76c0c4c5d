"""Several statements on one line, set apart: the rules of port read and replace whole lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst
import libcst.matchers as m

from torch2mlx.porting.scopes.passes import passed

#: Something that a rule could be about; `i = 0; j = 1` has none of it.
_BUSY = m.Call() | m.Attribute() | m.Subscript()
#: Methods of a training step, which is rewritten as a block of lines.
_OF_A_STEP = ("backward", "step", "zero_grad", "update", "minimize")
_STEPPING = m.Call(func=m.Attribute(attr=m.OneOf(*(m.Name(name) for name in _OF_A_STEP))))


def with_separate_lines(module: cst.Module) -> cst.Module:
    """The file with a line for each statement of `loss.backward(); optimizer.step()`, also behind
    the colon of `if last: optimizer.step()`; lines of plain names and numbers stay as they are."""
    made = passed(module, _Separate())
    assert isinstance(made, cst.Module)
    return made


class _Separate(cst.CSTTransformer):
    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        if not _apart(updated_node.body):
            return updated_node
        lines = _lines(updated_node.body, updated_node.trailing_whitespace)
        lines[0] = lines[0].with_changes(leading_lines=updated_node.leading_lines)
        return cst.FlattenSentinel(lines)

    def leave_SimpleStatementSuite(self, original_node: Any, updated_node: Any) -> Any:
        body = updated_node.body
        if not _apart(body) and not any(m.findall(part, _STEPPING) for part in body):
            return updated_node
        return cst.IndentedBlock(body=_lines(body, updated_node.trailing_whitespace))


def _apart(body: Sequence[Any]) -> bool:
    return len(body) > 1 and any(m.findall(part, _BUSY) for part in body)


def _lines(body: Sequence[Any], end: cst.TrailingWhitespace) -> list[Any]:
    """A line for each statement; a comment that ends the line stays at the last."""
    plain = [part.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for part in body]
    lines = [cst.SimpleStatementLine(body=[part]) for part in plain]
    return [*lines[:-1], lines[-1].with_changes(trailing_whitespace=end)]
