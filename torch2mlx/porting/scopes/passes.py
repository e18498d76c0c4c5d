"""Passes over a file: a transformer of libcst sees the kinds of nodes that it has rules for.

`module.visit(rules)` copies a whole tree, spaces too, for rules that are about a few statements.
Here what holds none of their kinds stays as it is, the same nodes.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import fields
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import children, everything

#: Spaces and punctuation.
LAYOUT = frozenset(
    [
        *(cst.SimpleWhitespace, cst.TrailingWhitespace, cst.EmptyLine, cst.Comma, cst.Newline),
        *(cst.ParenthesizedWhitespace, cst.LeftParen, cst.RightParen, cst.AssignEqual, cst.Dot),
    ]
)
#: What holds statements.
_BLOCKS = frozenset(
    [
        *(cst.Module, cst.IndentedBlock, cst.FunctionDef, cst.ClassDef, cst.If, cst.Else, cst.For),
        *(cst.While, cst.With, cst.Try, cst.TryStar, cst.ExceptHandler, cst.ExceptStarHandler),
        *(cst.Finally, cst.Match, cst.MatchCase),
    ]
)
_STATEMENTS = _BLOCKS | {cst.SimpleStatementLine, cst.SimpleStatementSuite}


def passed(module: cst.Module, rules: cst.CSTTransformer) -> Any:
    """The file as the rules make it, the same tree where they change nothing. No node stands at two
    places of it, as after a copy."""
    made = visited(module, rules)
    nodes = everything(made)
    if made is module or len(set(nodes)) == len(nodes):
        return made
    return made.visit(_Apart(made, {n for n, count in Counter(nodes).items() if count > 1}))


def visited(module: cst.Module, rules: cst.CSTTransformer) -> Any:
    """The file as the rules make it, for the last pass: parts may stand at several places."""
    kinds = _kinds(rules)
    if kinds is None:
        return module.visit(rules)
    shown = _Pass(rules, kinds)
    made = module.visit(shown)
    return made if shown.changed else module


def printed(module: cst.Module, texts: dict[Any, str]) -> str:
    """The source of a file; `texts` keeps that of its statements, for trees that share them."""
    if not module.has_trailing_newline:
        return module.code
    parts = (*module.header, *module.body, *module.footer)
    for part in parts:
        if part not in texts:
            texts[part] = module.code_for_node(part)
    return "".join(texts[part] for part in parts) or module.code


def _kinds(rules: cst.CSTTransformer) -> frozenset[Any] | None:
    """The kinds of nodes that have a rule; None where one is about a field of a node."""
    named = [name for name in vars(type(rules)) if name.startswith(("visit_", "leave_"))]
    found = [getattr(cst, name.partition("_")[2], None) for name in named]
    return None if None in found else frozenset(found)


def _same(one: Any, other: Any) -> bool:
    """Whether two nodes have the very same parts."""
    if one is other or type(one) is not type(other):
        return one is other
    pairs = ((getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return all(a is b or _listed(a, b) for a, b in pairs)


def _listed(one: Any, other: Any) -> bool:
    both = isinstance(one, (list, tuple)) and isinstance(other, (list, tuple))
    return both and len(one) == len(other) and all(map(operator.is_, one, other))


class _Apart(cst.CSTTransformer):
    """Copies nodes that stand at several places, but for the first."""

    def __init__(self, module: cst.Module, repeated: set[Any]) -> None:
        super().__init__()
        self._repeated, self._seen = repeated, set[Any]()
        self._around: set[Any] = set()  # what holds some of them
        self._holds(module)

    def _holds(self, node: Any) -> bool:
        inside = [self._holds(child) for child in children(node)]
        if node in self._repeated or any(inside):
            self._around.add(node)
        return node in self._around

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node in self._around and node not in self._seen

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        if original_node not in self._repeated:
            return updated_node
        if original_node in self._seen:
            return original_node.deep_clone()
        self._seen.add(original_node)
        return updated_node


class _Pass(cst.CSTTransformer):
    """Shows rules their kinds of nodes, and goes where those may be."""

    def __init__(self, rules: cst.CSTTransformer, kinds: frozenset[Any]) -> None:
        super().__init__()
        self._rules, self._kinds = rules, kinds
        self._shallow = kinds <= _STATEMENTS
        self.changed = False  # whether a rule made another node of one

    def on_visit(self, node: cst.CSTNode) -> bool:
        kind = type(node)
        inside = kind in _BLOCKS if self._shallow else kind not in LAYOUT
        return (kind not in self._kinds or self._rules.on_visit(node)) and inside

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        if type(original_node) not in self._kinds:
            return updated_node
        made = self._rules.on_leave(original_node, updated_node)
        self.changed = self.changed or not _same(made, updated_node)
        return made

    def on_visit_attribute(self, node: cst.CSTNode, attribute: str) -> None:
        """Nothing: it is called for every field of every node."""

    def on_leave_attribute(self, original_node: cst.CSTNode, attribute: str) -> None:
        """Nothing, as before."""
