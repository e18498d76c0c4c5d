"""The power iteration of a spectral norm, which torch makes in training mode alone."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node, Symbol


def in_training(lowering: Any, written: Any, new: Node) -> Node:
    """What is written to a tensor: of the vectors of a spectral norm, new ones in training mode
    and else those there are."""
    root = lowering.storage.root(written)
    specs = lowering.traced.program.graph_signature.inputs_to_buffers
    if specs.get(getattr(root, "name", "")) not in lowering.stored.iterated:
        return new
    old = lowering.storage.get(written)
    b: Builder = lowering.builder
    return b.call("builtin.choose", Symbol("self.training"), new, old)
