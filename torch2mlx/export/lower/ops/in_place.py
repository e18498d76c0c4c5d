"""What changes the shape of a tensor in place and has no form beside that one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers


@lowers("aten::resize")
def resize(b: Builder, self: Node, size: Sequence[Any], **_: Any) -> Node:
    """The first numbers of the memory in another shape; more than there are have no value."""
    if not b.source.args[0].meta["val"].is_contiguous():
        raise Refuse("of a tensor whose numbers do not lie in their order in memory")
    if any(isinstance(length, Node) for length in size):
        return b.reshape(self, tuple(size))
    wanted = math.prod(size)
    if wanted > self.value.size:
        raise Refuse(
            f"to {tuple(size)}, which is more than the tensor holds: new items have no value"
        )
    if wanted == self.value.size:
        return b.reshape(self, tuple(size))
    return b.reshape(b.index(b.call("method.reshape", self, -1), slice(None, wanted)), tuple(size))


@lowers("aten::resize_as")
def resize_as(b: Builder, self: Node, the_template: Node, **_: Any) -> Node:
    """The first numbers of the memory in the shape of another tensor."""
    return resize(b, self, b.dims(the_template))
