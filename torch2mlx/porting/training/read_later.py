"""Tensors that a parameter is made over, and that are read behind its training.

start = torch.zeros(3)
net.bias.data = start
train(net)
print(start)        in torch the trained numbers, in MLX those of before
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import children, walk
from torch2mlx.porting.types.callers import Callers, last

#: What of a tensor training does not change.
_STEADY = ("shape", "size", "dtype", "device", "dim", "ndim", "numel", "requires_grad")
_DEEP = 3


class ReadLater:
    """Answers for the functions of a file."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    def name(self, made: Any) -> str:
        """The name of a tensor that is read behind a training of its function; "" of others.
        `made`: the expression that makes it."""
        scope = self._callers.scope(made)
        held = self._callers.bindings(scope)
        for name, bindings in held.found.items():
            if "." in name or not any(b.value is made and not b.item for b in bindings):
                continue
            order = [s for s in held.order if self._trains(s, _DEEP)]
            inner = [s for s in order if not isinstance(s, (cst.FunctionDef, cst.ClassDef))]
            begun = next(b.statement for b in bindings if b.value is made)
            behind = [s for s in inner if held.leads(begun, s) and s is not begun]
            if behind and self._reads(held, name, behind[0], begun):
                return name
        return ""

    def _reads(self, held: Any, name: str, training: Any, begun: Any) -> bool:
        """Whether statements read a name's first value behind the first that trains, or in it."""
        for node in (n for n in held.parents if isinstance(n, cst.Name) and n.value == name):
            parent = held.parents[node]
            steady = isinstance(parent, cst.Attribute) and parent.attr.value in _STEADY
            part = isinstance(parent, cst.Attribute) and parent.attr is node
            keyword = isinstance(parent, cst.Arg) and parent.keyword is node
            target = isinstance(parent, cst.AssignTarget)
            if steady or part or keyword or target:
                continue
            line = held.statement(node)
            reached = [b.statement for b in held.reaching(name, node)]
            if begun in reached and held.order[line] >= held.order[training]:
                return True
        return False

    def _trains(self, node: Any, depth: int) -> bool:
        """Whether a statement steps an optimizer or takes gradients, itself or in a function of
        the file that it calls."""
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return False
        for call in (p for p in walk(node) if isinstance(p, cst.Call)):
            name = last(call.func)
            if name in ("step", "backward") and isinstance(call.func, cst.Attribute):
                return True
            bodies = (f.body for f in self._callers.named(name)) if depth else ()
            if any(self._trains(part, depth - 1) for body in bodies for part in children(body)):
                return True
        return False
