"""Calls that write what all processes have to an argument, as statements that say so.

dist.all_reduce(loss)                  loss.copy_(kit.distributed.all_reduce(loss))
dist.all_gather(parts, x)       ->     kit.distributed.all_gather(parts, x)
work = dist.broadcast(x, 0, async_op=True)   x.copy_(kit.distributed.broadcast(x, 0))
                                             work = kit.distributed.Work()

What is ported after this knows `copy_`: who else has the tensor, and what a view would lose. A list
that is filled has to be made in the function, of tensors that nothing else holds.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.catalog.processes import Shared, find_shared
from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.import_table import Names, collect
from torch2mlx.porting.scopes.traversal import code, walk
from torch2mlx.porting.training.steps_rewritten import KIT

_PLACES = (cst.Name, cst.Attribute, cst.Subscript)
_MAKERS = ("zeros", "ones", "empty", "full", "rand", "randn", "tensor")
_FRESH = {f"torch.{name}{like}" for name in _MAKERS for like in ("", "_like")}
_METHODS = ("clone", "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor")
_LISTS = (
    "the list that it fills: make it in this function, of torch.empty_like(...) or the like, so "
    "that nothing else holds its tensors"
)
_ARGUMENT = "it writes to its argument: give that a name"


class WithoutCollectives(cst.CSTTransformer):
    """Rewrites the statements of one file."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._names, self._report = Names(), report
        self._around: list[Any] = []  # functions being walked, and the file

    def visit_Module(self, node: cst.Module) -> None:
        self._names = collect(node)
        self._around.append(node)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._around.append(node)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._around.pop()
        return updated_node

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        if len(original_node.body) != 1:
            return updated_node
        only = original_node.body[0]
        call = getattr(only, "value", None)
        target = _single_target(only)
        if isinstance(only, cst.Expr):
            call = _waited(call)
        elif target is None:
            return updated_node
        if not isinstance(call, cst.Call):
            return updated_node
        entry = find_shared(self._names.of(call.func))
        if entry is None or not entry.mlx or not (entry.writes or entry.fills):
            return updated_node
        made = self._made(entry, call, original_node)
        if made is None:
            return updated_node
        self._report.change(original_node, entry.name, entry.note or "over mx.distributed, at once")
        lines = [made]
        if target is not None:
            lines.append(f"{target} = {KIT}.distributed.Work()")
        return self._lines(lines, updated_node)

    def _lines(self, texts: list[str], old: Any) -> Any:
        """Statements in the place of one."""
        made = [cst.parse_statement(f"{text}\n") for text in texts]
        made[0] = made[0].with_changes(leading_lines=old.leading_lines)
        made[-1] = made[-1].with_changes(trailing_whitespace=old.trailing_whitespace)
        return made[0] if len(made) == 1 else cst.FlattenSentinel(made)

    def _made(self, entry: Shared, call: cst.Call, statement: Any) -> str | None:
        """The statement in the call's place; None where it is refused."""
        given = _by_name(entry, call)
        if given is None:
            return None  # which is said where expressions are rewritten
        kept = [a for a in call.args if not _named(a, entry.dropped)]
        places = {name: i for i, name in enumerate(entry.arguments)}
        kept = [a for i, a in enumerate(kept) if a.keyword or i != places.get("async_op", -1)]
        kept = [a.with_changes(comma=cst.MaybeSentinel.DEFAULT) for a in kept]
        text = ", ".join(code(a).strip() for a in kept)
        text = f"{KIT}.{entry.mlx.removeprefix('kit.')}({text})"
        if entry.fills:
            if self._fills_fresh(given.get(entry.fills)):
                return text
            self._report.refuse(statement, _LISTS, entry.name)
            return None
        place = given.get(entry.writes)
        if not isinstance(place, _PLACES):
            self._report.refuse(statement, _ARGUMENT, entry.name)
            return None
        return f"{code(place)}.copy_({text})"

    def _fills_fresh(self, node: Any) -> bool:
        """Whether a list is made here, of tensors that nothing else has."""
        if node is None or _is_none(node):
            return True
        if isinstance(node, cst.IfExp):
            return self._fills_fresh(node.body) and self._fills_fresh(node.orelse)
        if not isinstance(node, cst.Name):
            return self._is_fresh_list(node)
        values = [
            part.value
            for part in walk(self._around[-1])
            if isinstance(part, (cst.Assign, cst.AnnAssign)) and _stores(part, node.value)
        ]
        return bool(values) and all(_is_none(v) or self._is_fresh_list(v) for v in values)

    def _is_fresh_list(self, node: Any) -> bool:
        if isinstance(node, cst.IfExp):
            return self._is_fresh_list(node.body) and self._fills_fresh(node.orelse)
        if isinstance(node, cst.ListComp):
            return self._is_fresh(node.elt)
        if isinstance(node, cst.List):
            return all(self._is_fresh(e.value) for e in node.elements)
        return False

    def _is_fresh(self, node: Any) -> bool:
        if not isinstance(node, cst.Call):
            return False
        if self._names.of(node.func) in _FRESH:
            return True
        if not isinstance(node.func, cst.Attribute):
            return False
        method = node.func.attr.value
        moved = method in ("to", "cuda", "cpu")
        return method in _METHODS or (moved and self._is_fresh(node.func.value))


def _named(argument: cst.Arg, names: tuple[str, ...]) -> bool:
    return argument.keyword is not None and argument.keyword.value in names


def _is_none(node: Any) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"


def _stores(node: Any, name: str) -> bool:
    targets = node.targets if isinstance(node, cst.Assign) else [node]
    return any(isinstance(t.target, cst.Name) and t.target.value == name for t in targets)


def _single_target(node: Any) -> str | None:
    """The name that a statement assigns, where it is one."""
    if isinstance(node, cst.Assign) and len(node.targets) == 1:
        return code(node.targets[0].target)
    return None


def _waited(node: Any) -> Any:
    """The call of `call.wait()`, else the call itself."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        inner = node.func.value
        if node.func.attr.value == "wait" and isinstance(inner, cst.Call):
            return inner
    return node


def _by_name(entry: Shared, call: cst.Call) -> dict[str, Any] | None:
    """Arguments of a call by their names; None where they are not all written out."""
    given = {}
    for i, argument in enumerate(call.args):
        if argument.star or (argument.keyword is None and i >= len(entry.arguments)):
            return None
        name = argument.keyword.value if argument.keyword is not None else entry.arguments[i]
        given[name] = argument.value
    return given
