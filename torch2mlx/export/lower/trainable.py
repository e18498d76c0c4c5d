"""Which values a gradient goes through."""

from __future__ import annotations

from torch2mlx.export.ir.nodes import Node, operands
from torch2mlx.export.lower.parameters import Stored


class Trainable:
    """Answers for nodes as they are made; what was found is remembered."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._known: dict[Node, bool] = {}

    def __call__(self, node: object) -> bool:
        """Whether a node is made of weights that are trained, or of floating-point inputs."""
        waiting = [node] if isinstance(node, Node) else []
        while waiting:
            now = waiting[-1]
            found = self._known.get(now)
            if found is None:
                found = self._at_once(now)
            if found is None:
                open_ = [n for n in operands(now) if n not in self._known]
                if open_:
                    waiting += open_
                    continue
                found = any(self._known[n] for n in operands(now))
            self._known[now] = found
            waiting.pop()
        return isinstance(node, Node) and self._known[node]

    def _at_once(self, node: Node) -> bool | None:
        """What the node alone tells; None when its operands decide."""
        if node.is_array and "float" not in node.dtype and "complex" not in node.dtype:
            return False
        if node.op == "param":
            return node.args[0] in self._stored.trained
        if node.op in ("input", "layer"):
            return True
        return False if node.op in ("mx.stop_gradient", "constant", "module") else None
