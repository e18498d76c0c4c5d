"""Numbers and arrays of numpy before a tensor: `np.sqrt(d) * x`.

numpy's operators take an array of MLX for an array of their own, and answer one of numpy: what
follows is outside of the gradient. So the left side becomes an array of MLX, or a number of Python.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Place, leaving
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.types.kinds import Type

_DIVIDING = (cst.Modulo, cst.Divide, cst.FloorDivide)


@leaving(cst.BinaryOperation)
def _binary_operation(at: Place, original: Any, updated: Any) -> Any:
    """A binary operation whose sides are both for MLX's operators."""
    if isinstance(original.operator, _DIVIDING) and _counts_devices(at, original.right):
        return updated.with_changes(right=cst.Integer("1"))
    left, right = at.type_of(original.left), at.type_of(original.right)
    if left.kind == "numpy" and right.tensor:
        return updated.with_changes(left=_of_mlx(updated.left, left))
    if left.tensor and right.kind == "numpy" and isinstance(original.operator, cst.MatrixMultiply):
        return updated.with_changes(right=_of_mlx(updated.right, right))
    return updated


def of_comparison(at: Place, original: Any, updated: Any) -> Any:
    """A comparison whose first side is for MLX's operators."""
    left, right = at.type_of(original.left), at.type_of(original.comparisons[0].comparator)
    if left.kind == "numpy" and right.tensor:
        return updated.with_changes(left=_of_mlx(updated.left, left))
    return updated


def _counts_devices(at: Place, node: Any) -> bool:
    """Whether an expression is the number of GPUs: none of CUDA's, and nothing is divided by it."""
    called = node.func if isinstance(node, cst.Call) else None
    return called is not None and at.file.names.of(called) == "torch.cuda.device_count"


def _of_mlx(node: Any, held: Type) -> Any:
    """A number stays one: an array would decide the dtype of the result."""
    bare = code(node.with_changes(lpar=[], rpar=[]))
    return expression(f"{'float' if held.name == 'number' else 'mx.array'}({bare})")
