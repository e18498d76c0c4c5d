"""Expressions of a forward, followed as values: which are tensors, and where one is read.

Nothing is run. Names, attributes and calls are followed through the live model: `self.scale` is
what the module holds, `self.block(x)` is that block's forward, a helper is read where it stands.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch2mlx.analysis.calling import Calls
from torch2mlx.analysis.values import (
    HOST,
    MASK,
    READ,
    STATIC,
    TENSOR,
    TRACING,
    UNKNOWN,
    Value,
    element,
    join,
    listed,
    of_object,
)

_SAME_TENSOR = ("T", "mT", "H", "mH", "real", "imag", "grad", "data", "values", "indices")
_COMPARED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class Expressions(Calls):
    """Evaluates expressions. Statements are in flow.py, calls in calling.py."""

    if TYPE_CHECKING:  # of the class in flow.py, which knows the paths through a body

        def test(self, condition: ast.expr, node: Any) -> Value: ...

        def assume(self, condition: ast.expr, holds: bool) -> None: ...

        def scoped(
            self, generators: Sequence[ast.comprehension]
        ) -> AbstractContextManager[None]: ...

    def value(self, node: ast.expr | None) -> Value:
        """What an expression may be; reads of tensors on the way become facts."""
        if node is None:
            return HOST
        if not self.run.spend():
            return UNKNOWN
        method = getattr(self, f"_{type(node).__name__}", None)
        return method(node) if method else self._children(node)

    def _children(self, node: ast.expr) -> Value:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return UNKNOWN

    def _Constant(self, node: ast.Constant) -> Value:
        return of_object(node.value) if node.value is not ... else HOST

    def _JoinedStr(self, node: ast.JoinedStr) -> Value:
        self._children(node)
        return HOST

    def _FormattedValue(self, node: ast.FormattedValue) -> Value:
        self.value(node.value)
        return HOST

    def _Name(self, node: ast.Name) -> Value:
        found = self.env.get(node.id)
        if found is not None:
            return found
        if node.id in self.function.scope:
            return of_object(self.function.scope[node.id])
        return UNKNOWN

    def _Attribute(self, node: ast.Attribute) -> Value:
        key = ast.unparse(node)
        if key in self.env:
            return self.env[key]
        return self.attribute(self.value(node.value), node.attr)

    def attribute(self, base: Value, name: str) -> Value:
        """What an attribute of a value is."""
        if base.kind == "module":
            return self._of_module(base, name)
        if base.kind == "object":
            found = inspect.getattr_static(base.held, name, None)
            found = getattr(base.held, name, None) if isinstance(base.held, _OPEN) else found
            return UNKNOWN if found is None or isinstance(found, property) else of_object(found)
        if base.is_tensor and name in _SAME_TENSOR:
            return TENSOR
        if name in STATIC and name not in ("size", "type", "dim"):
            return HOST
        return Value("method", (base,), name=name)

    def _of_module(self, base: Value, name: str) -> Value:
        module = base.held
        for table in ("_parameters", "_buffers", "_modules", "__dict__"):
            held = vars(module).get(table, {}) if table != "__dict__" else vars(module)
            if name in held:
                return of_object(held[name])
        if name in vars(module).get("_modules", {}).get("parametrizations", ()):
            return TENSOR
        found = inspect.getattr_static(type(module), name, None)
        if isinstance(found, property):
            return self.call_function(found.fget, base, [], {}) if found.fget else UNKNOWN
        if inspect.isfunction(found):
            return Value("method", (base,), held=found, name=name)
        if isinstance(found, (staticmethod, classmethod)):
            return Value("object", held=found.__func__, name=f"{id(found)}")
        return UNKNOWN if found is None else of_object(found)

    def _Subscript(self, node: ast.Subscript) -> Value:
        base, at = self.value(node.value), node.slice
        index = self._index(at)
        if base.is_tensor:
            if "mask" in (index.kind, *(i.kind for i in index.items)) and _loads(node):
                self.fact("data_shape", node, ast.unparse(node))
            return Value(base.kind)
        if base.kind == "module" and isinstance(at, ast.Constant):
            return self.child(base, at.value)
        if base.kind in ("list", "tuple", "module") and index.is_tensor:
            self.fact("host_read", node, f"{ast.unparse(at)} as an index of a list")
        if isinstance(at, ast.Slice):
            return listed(element(base)) if base.kind in ("list", "tuple") else base
        if base.kind == "tuple" and isinstance(at, ast.Constant) and isinstance(at.value, int):
            return base.items[at.value] if -len(base.items) <= at.value < len(base.items) else HOST
        if base.kind == "module":
            return join(map(of_object, vars(base.held).get("_modules", {}).values()))
        return element(base)

    def _index(self, at: ast.expr) -> Value:
        """An index; bounds of slices that are tensors are read on the host."""
        if isinstance(at, ast.Tuple):
            return Value("tuple", tuple(self._index(part) for part in at.elts))
        if not isinstance(at, ast.Slice):
            return self.value(at)
        for bound in (at.lower, at.upper, at.step):
            if bound is not None and self.value(bound).is_tensor:
                self.fact("host_read", bound, f"{ast.unparse(bound)} as a bound of a slice")
        return HOST

    def child(self, base: Value, key: Any) -> Value:
        """A child of a ModuleList, Sequential or ModuleDict."""
        children = vars(base.held).get("_modules", {})
        if isinstance(key, int) and key < 0:
            key += len(children)
        return of_object(children[str(key)]) if str(key) in children else UNKNOWN

    def _Tuple(self, node: ast.Tuple | ast.List) -> Value:
        if any(isinstance(part, ast.Starred) for part in node.elts):
            return listed(join(self.value(part) for part in node.elts))
        return Value("tuple", tuple(self.value(part) for part in node.elts))

    _List = _Tuple

    def _Set(self, node: ast.Set) -> Value:
        return listed(join([self.value(part) for part in node.elts]))

    def _Dict(self, node: ast.Dict) -> Value:
        for key in node.keys:
            if key is not None:
                self.value(key)
        return listed(join([self.value(part) for part in node.values]))

    def _Starred(self, node: ast.Starred) -> Value:
        return element(self.value(node.value))

    def _NamedExpr(self, node: ast.NamedExpr) -> Value:
        self.env[node.target.id] = value = self.value(node.value)
        return value

    def _Lambda(self, node: ast.Lambda) -> Value:
        return Value("lambda", held=(node, self.env), name=f"{id(node)}")

    def _Await(self, node: ast.Await) -> Value:
        return self.value(node.value)

    def _BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Mod) and isinstance(left.held, str):
            return HOST
        if left.kind in ("tuple", "list") or right.kind in ("tuple", "list"):
            sides = [v for v in (left, right) if v.kind in ("tuple", "list")]
            if not (left.is_tensor or right.is_tensor):
                return listed(join(element(side) for side in sides))
        return self.combined(left, right, isinstance(node.op, (ast.BitAnd, ast.BitOr, ast.BitXor)))

    def combined(self, left: Value, right: Value, bitwise: bool = False) -> Value:
        """What arithmetic of two values gives."""
        if left.is_tensor or right.is_tensor:
            masks = bitwise and "mask" in (left.kind, right.kind)
            return MASK if masks else TENSOR
        if "read" in (left.kind, right.kind):
            return READ
        return HOST if left.kind == right.kind == "host" else UNKNOWN

    def _UnaryOp(self, node: ast.UnaryOp) -> Value:
        value = self.value(node.operand)
        if not isinstance(node.op, ast.Not):
            return value if value.is_tensor or value.kind == "read" else Value(value.kind)
        if value.is_tensor:
            self.fact("host_read", node, ast.unparse(node))
        return READ if value.depends else HOST

    def _Compare(self, node: ast.Compare) -> Value:
        values = [self.value(part) for part in (node.left, *node.comparators)]
        if all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            return HOST
        if any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            return self._membership(node, values)
        constants = [n.value for n in (node.left, *node.comparators) if isinstance(n, ast.Constant)]
        if any(constant is None or isinstance(constant, str) for constant in constants):
            return HOST  # of another type than a tensor: False, whatever its values
        if len(values) > 2 and any(v.is_tensor for v in values):
            self.fact("data_branch", node, ast.unparse(node))
            return READ
        if any(v.is_tensor for v in values):
            return MASK
        return READ if any(v.kind == "read" for v in values) else HOST

    def _membership(self, node: ast.Compare, values: list[Value]) -> Value:
        """`x in values`: of a tensor a search through its values."""
        among = values[-1].kind in ("list", "tuple") and element(values[-1]) != UNKNOWN
        if values[-1].is_tensor or (values[0].is_tensor and among):
            self.fact("host_read", node, ast.unparse(node))
            return READ
        return READ if any(v.kind == "read" for v in values) else HOST

    def _BoolOp(self, node: ast.BoolOp) -> Value:
        """`a and b`, as a value: all but the last are asked whether they are true."""
        before, given = dict(self.env), []
        for part in node.values[:-1]:
            given.append(self.value(part))
            if given[-1].depends:
                self.fact("data_branch", node, ast.unparse(node))
            self.assume(part, isinstance(node.op, ast.And))
        given.append(self.value(node.values[-1]))
        self.env = before
        return TRACING if any(v.kind == "tracing" for v in given) else join(given)

    def _IfExp(self, node: ast.IfExp) -> Value:
        self.test(node.test, node)
        before, found = dict(self.env), []
        for part, holds in ((node.body, True), (node.orelse, False)):
            self.env = dict(before)
            self.assume(node.test, holds)
            found.append(self.value(part))
        self.env = before
        return join(found)

    def _ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        with self.scoped(node.generators):
            return listed(self.value(node.elt))

    _SetComp = _GeneratorExp = _ListComp

    def _DictComp(self, node: ast.DictComp) -> Value:
        with self.scoped(node.generators):
            self.value(node.key)
            return listed(self.value(node.value))

    def _Yield(self, node: ast.Yield) -> Value:
        self.returned.append(listed(self.value(node.value)))
        return UNKNOWN


def _loads(node: ast.Subscript) -> bool:
    return isinstance(node.ctx, ast.Load)


_OPEN = (type, type(inspect))
__all__ = ["Expressions"]
