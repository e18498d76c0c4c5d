"""Walking a program once and putting other nodes in the place of some."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node, Program, changed, learn, operands, replace

#: Gets a node whose operands are already the new ones; gives what stands for it, or None to keep
#: it.
Rule = Callable[["Rewriter", Node], Any]


class Rewriter:
    """New nodes are made by `builder`, in the scope of the node they replace."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.builder = Builder()
        self._new: dict[Node, Any] = {}
        #: how many times each node of the old program is read
        self.reads: dict[Node, int] = {}
        self.old: dict[Node, Node] = {}
        for node in program.nodes:
            for read in operands(node):
                self.reads[read] = self.reads.get(read, 0) + 1
        for node in _outputs(program.outputs):
            self.reads[node] = self.reads.get(node, 0) + 1

    def run(self, rule: Rule) -> Program:
        """The program with the rule applied to every node, in order."""
        b = self.builder
        for node in self._program.nodes:
            now = node
            if any(self._new.get(read, read) is not read for read in operands(node)):
                now = changed(node, replace(node.args, self.new), replace(node.kwargs, self.new))
            b.scope, b.line = node.scope, node.line
            self.old[now] = node
            found = self._ruled(rule, now)
            if found is None:
                b.nodes.append(now)
                found = now
            elif isinstance(found, Node) and found is not now:
                _inherit(found, node)
            self._new[node] = found
        outputs = with_outputs(self._program.outputs, self.new)
        baked = self._program.baked | b.baked
        return dataclasses.replace(
            self._program, nodes=tuple(b.nodes), outputs=outputs, baked=baked
        )

    def _ruled(self, rule: Rule, node: Node) -> Any:
        mark = len(self.builder.nodes)
        try:
            return rule(self, node)
        except Refuse:  # the file would be right for one length alone
            del self.builder.nodes[mark:]
            return None

    def new(self, node: Node) -> Any:
        """What stands for a node of the old program."""
        return self._new.get(node, node)

    def single(self, node: Node) -> bool:
        """Whether a new node's value is read once only."""
        return self.reads.get(self.old.get(node, node), 0) <= 1


def _inherit(new: Node, old: Node) -> None:
    """What was known of the old node is known of the one in its place."""
    if new.dims is None and old.dims is not None and new.is_array and new.shape == old.shape:
        learn(new, dims=old.dims)
    if not new.origin and old.origin:
        learn(new, origin=old.origin)
    if not new.name and old.name and new.scope == old.scope:
        learn(new, name=old.name)


def _outputs(value: Any) -> list[Node]:
    if isinstance(value, Node):
        return [value]
    if isinstance(value, dict):
        return [n for v in value.values() for n in _outputs(v)]
    return [n for v in value for n in _outputs(v)] if isinstance(value, (list, tuple)) else []


def with_outputs(value: Any, change: Callable[[Node], Any]) -> Any:
    """The structure of results with its nodes changed."""
    if isinstance(value, Node):
        return change(value)
    if isinstance(value, dict):
        return {key: with_outputs(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(with_outputs(item, change) for item in value)
    return value
