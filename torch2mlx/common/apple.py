"""What no Apple GPU runs, found in Python source that calls MLX: places, and what to do there.

verify runs on the CPU, where all of it works. MLX's Metal backend has no float64, and no kernels
for the decompositions of mx.linalg; both raise as soon as they meet the GPU's stream, which is the
default on a Mac. Nothing is run here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: The rule that these places are told under.
RULE = "T2M115"
#: Functions of mx.linalg that refuse a stream of the GPU ("not yet supported on the GPU").
_FACTORS = ("svd", "qr", "eigh", "eigvalsh", "eig", "eigvals", "cholesky", "lu", "lu_factor")
_SOLVERS = ("inv", "tri_inv", "cholesky_inv", "pinv", "solve", "solve_triangular", "det", "slogdet")
CPU_LINALG = frozenset((*_FACTORS, *_SOLVERS))
_WIDE = "no Apple GPU has float64: use mx.float32, or run this under mx.stream(mx.cpu)"


@dataclass(frozen=True)
class Place:
    """A line of the source, what stands there, and what to do about it."""

    line: int
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{RULE} line {self.line}, {self.what}: {self.advice}"


def places(source: str) -> tuple[Place, ...]:
    """Every place that no Apple GPU runs, in order, one for each line and name.

    Nothing is found where the CPU is asked for: by `stream=`, within `with mx.stream(mx.cpu)`, or
    in a file that calls `mx.set_default_device(mx.cpu)`. The source has to parse (SyntaxError).
    """
    tree = ast.parse(source)
    names = _names(tree)
    looked = _Looked(names)
    looked.visit(tree)
    return () if looked.pinned else tuple(dict.fromkeys(sorted(looked.found, key=_order)))


def _order(place: Place) -> tuple[int, str]:
    return place.line, place.what


def _names(tree: ast.Module) -> dict[str, str]:
    """What names of imports stand for: `mx` -> mlx.core, `inv` -> mlx.core.linalg.inv."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                found[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


class _Looked(ast.NodeVisitor):
    def __init__(self, names: dict[str, str]) -> None:
        self.names, self.pinned = names, False
        self.found: list[Any] = []

    def dotted(self, node: ast.expr) -> str:
        """The full name of an expression, "" for what has none."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.names:
            return ""
        return ".".join([self.names[node.id], *reversed(parts)])

    def visit_With(self, node: ast.With) -> None:
        if any(self._to_cpu(item.context_expr) for item in node.items):
            return
        self.generic_visit(node)

    def _to_cpu(self, node: ast.expr) -> bool:
        return (
            isinstance(node, ast.Call)
            and self.dotted(node.func) in ("mlx.core.stream", "mlx.core.set_default_device")
            and any(self.dotted(part) == "mlx.core.cpu" for part in node.args)
        )

    def visit_Compare(self, node: ast.Compare) -> None:
        """`x.dtype == mx.float64` asks for a dtype, and makes nothing of it."""
        sides = (node.left, *node.comparators)
        for side in sides:
            if not all(self.dotted(part) == "mlx.core.float64" for part in _items(side)):
                self.visit(side)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if self.dotted(node) == "mlx.core.float64":
            self.found.append(Place(node.lineno, ast.unparse(node), _WIDE))
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = self.dotted(node.func)
        if name == "mlx.core.set_default_device" and self._to_cpu(node):
            self.pinned = True
        elif name.startswith("mlx.core.linalg.") and not _streamed(node):
            self._linalg(node, name.rpartition(".")[2])
        self.generic_visit(node)

    def _linalg(self, node: ast.Call, name: str) -> None:
        if name in CPU_LINALG or (name == "norm" and _by_singular_values(node)):
            shown = ast.unparse(node.func)
            advice = "MLX has this on the CPU alone: pass stream=mx.cpu"
            self.found.append(Place(node.lineno, shown, advice))


def _items(node: ast.expr) -> Iterator[ast.expr]:
    yield from node.elts if isinstance(node, (ast.Tuple, ast.List)) else (node,)


def _streamed(node: ast.Call) -> bool:
    return any(keyword.arg in ("stream", None) for keyword in node.keywords)


def _by_singular_values(node: ast.Call) -> bool:
    """Whether a norm is one of matrices that MLX computes from singular values."""
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    given = dict(zip(("a", "ord", "axis"), node.args, strict=False)) | named
    order, axis = given.get("ord"), given.get("axis")
    if isinstance(order, ast.Constant) and order.value == "nuc":
        return True
    matrices = isinstance(axis, (ast.Tuple, ast.List)) and len(axis.elts) == 2
    return matrices and order is not None and ast.unparse(order) in ("2", "-2", "2.0", "-2.0")
