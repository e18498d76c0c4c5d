"""Types by data flow: annotations, constructors, calls, and what only tensors can do.

Functions are run over three times, so that what a call passes is known inside the function, and
what a function answers is known where it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.calling import Calls
from torch2mlx.porting.types.expressions import Env, Foreign
from torch2mlx.porting.types.kinds import NONE, TENSOR, UNKNOWN, Type, element, join
from torch2mlx.porting.types.usage import evidence

_ROUNDS = 3


class Inference(Calls):
    """Runs over the statements of a file."""

    def __init__(
        self,
        module: cst.Module,
        names: Names,
        beside: Foreign | None = None,
        answers: Mapping[str, Type] = MappingProxyType({}),
    ) -> None:
        super().__init__(names, answers)
        self.foreign = beside or Foreign()
        self.returns.update(self.foreign.returns)
        self.attributes.update(self.foreign.attributes)
        self._told: dict[cst.CSTNode, dict[str, Type]] = {}
        self.globals.update(self._answered("", self.globals))
        for _ in range(_ROUNDS):
            self._block(module.body, self.globals)

    def _block(self, body: Any, env: Env) -> None:
        for statement in body:
            self._statement(statement, env)

    def _statement(self, node: Any, env: Env) -> None:
        rule = getattr(self, f"_do_{type(node).__name__}", None)
        if rule is not None:
            rule(node, env)
            return
        for child in children(node):
            if isinstance(child, cst.BaseExpression):
                self.infer(child, env)
            else:
                self._statement(child, env)

    def _do_FunctionDef(self, node: cst.FunctionDef, env: Env) -> None:
        key = f"{self._class}.{node.name.value}" if self._class else node.name.value
        key = f"{self._function}/{node.name.value}" if self._function else key
        self.nodes[key] = node
        known = self.arguments.setdefault(key, {})
        inner: Env = dict(env) if not self._class or self._function else dict(self.globals)
        parameters = [*node.params.posonly_params, *node.params.params, *node.params.kwonly_params]
        for i, parameter in enumerate(parameters):
            name = parameter.name.value
            given = self._annotated(parameter.annotation)
            if parameter.default is not None:
                given = join(given, self.infer(parameter.default, env))
            if i == 0 and self._class and name in ("self", "cls"):
                given = Type(self._self_kind(), name=self._class)
            inner[name] = self._told_of(key, name, join(given, known.get(name)))
            own = self.is_module_class(self._class) or self.is_function_class(self._class)
            if node.name.value in ("forward", "backward") and own and i:
                plain = parameter.default is None and parameter.annotation is None
                taken = inner[name].kind in ("unknown", "none") and plain
                inner[name] = TENSOR if taken else inner[name]
        before, self._function = self._function, key
        outer_class = self._class
        inner.update(self._answered(key, inner))
        self._evidence(node, inner)
        self._block(node.body.body, inner)
        self._function, self._class = before, outer_class
        env[node.name.value] = Type("function", name=key)

    def _evidence(self, node: cst.FunctionDef, env: Env) -> None:
        """Parameters on which something is called that only a tensor has, or a module."""
        if node not in self._told:
            self._told[node] = evidence(node.body, self.names)
        for name, kind in self._told[node].items():
            if env.get(name, UNKNOWN).kind in ("unknown", "none"):
                env[name] = kind

    def _do_ClassDef(self, node: cst.ClassDef, env: Env) -> None:
        before, self._class = self._class, node.name.value
        held = self.attributes.setdefault(node.name.value, {})
        held.update(self._answered(node.name.value, held))
        self._block(node.body.body, dict(env))
        self._class = before

    def _do_Assign(self, node: cst.Assign, env: Env) -> None:
        value = self.infer(node.value, env)
        for target in node.targets:
            self._bind(target.target, value, env)

    def _do_AnnAssign(self, node: cst.AnnAssign, env: Env) -> None:
        given = self._annotated(node.annotation)
        value = self.infer(node.value, env) if node.value is not None else UNKNOWN
        found = value if value.kind not in ("unknown", "none") else given
        self._bind(node.target, found, env)
        if self._class and not self._function and isinstance(node.target, cst.Name):
            fields = self.attributes.setdefault(self._class, {})  # of a dataclass
            fields[node.target.value] = join(fields.get(node.target.value), given)

    def _do_AugAssign(self, node: cst.AugAssign, env: Env) -> None:
        value = join(self.infer(node.target, env), self.infer(node.value, env))
        self._bind(node.target, value, env)

    def _do_For(self, node: cst.For, env: Env) -> None:
        self._bind(node.target, element(self.infer(node.iter, env)), env)
        self._block(node.body.body, env)
        if node.orelse is not None:
            self._block(node.orelse.body.body, env)

    def _do_With(self, node: cst.With, env: Env) -> None:
        for item in node.items:
            value = self.infer(item.item, env)
            if item.asname is not None:
                self._bind(item.asname.name, value, env)
        self._block(node.body.body, env)

    def _do_Return(self, node: cst.Return, env: Env) -> None:
        value = self.infer(node.value, env) if node.value is not None else NONE
        self.returns[self._function] = join(self.returns.get(self._function), value)

    def _bind(self, target: Any, value: Type, env: Env) -> None:
        if isinstance(target, (cst.Tuple, cst.List)):
            for i, part in enumerate(target.elements):
                known = value.kind == "tuple" and i < len(value.items)
                self._bind(part.value, value.items[i] if known else _unpacked(value), env)
            return
        name = dotted(target)
        if isinstance(target, cst.Attribute):
            self.infer(target.value, env)
            owner = self.of(target.value)
            if owner.name in self.attributes and owner.kind in ("module", "object", "dataset"):
                held = self.attributes[owner.name]
                held[target.attr.value] = join(held.get(target.attr.value), value)
                self.types[target] = held[target.attr.value]
                return
        elif isinstance(target, cst.Subscript):
            self.infer(target, env)
            self._store_item(target, value, env)
            return
        if name:
            env[name] = value if value.kind != "unknown" else env.get(name, UNKNOWN)
            self.types[target] = env[name]

    def _store_item(self, target: cst.Subscript, value: Type, env: Env) -> None:
        """`held[key] = value` tells what a dict that started empty holds."""
        owner, name = self.of(target.value), dotted(target.value)
        place = target.slice[0].slice if len(target.slice) == 1 else None
        if owner.kind != "dict" or not name or not isinstance(place, cst.Index):
            return
        pair = (self.of(place.value), value)
        grown = Type("dict", pair if owner.items in ((), pair) else (UNKNOWN, UNKNOWN))
        if isinstance(target.value, cst.Attribute):
            held = self.attributes.get(self.of(target.value.value).name, {})
            if target.value.attr.value in held:
                held[target.value.attr.value] = grown
        elif name in env:
            env[name] = grown

    def _annotated(self, annotation: cst.Annotation | None) -> Type:
        return UNKNOWN if annotation is None else self._of_annotation(annotation.annotation)

    def _of_annotation(self, node: Any) -> Type:
        """The type that an annotation says: a class of the file, of torch, or of Python."""
        if isinstance(node, cst.SimpleString):  # a forward reference
            return self._class_type(str(node.evaluated_value))
        if isinstance(node, cst.Subscript):
            return self._of_generic(node)
        name = self.full(node) or dotted(node)
        known = self._class_type(name)
        return known if known.kind != "unknown" else results.ANNOTATED.get(name, UNKNOWN)

    def _class_type(self, name: str) -> Type:
        if not self.is_class(name):
            return UNKNOWN
        return Type("module" if self.is_module_class(name) else "object", name=name)

    def _of_generic(self, node: cst.Subscript) -> Type:
        """Dict[str, Tensor], Tuple[Tensor, Tensor], List[Tensor], Optional[Tensor]."""
        name = (self.names.of(node.value) or dotted(node.value)).rpartition(".")[2].lower()
        held = [e.slice.value for e in node.slice if isinstance(e.slice, cst.Index)]
        items = tuple(self._of_annotation(item) for item in held)
        if name == "optional" and items:
            return items[0]
        if name in ("dict", "mapping") and len(items) == 2:
            return Type("dict", items)
        if name == "tuple" and not any(isinstance(item, cst.Ellipsis) for item in held):
            return Type("tuple", items)
        if name in ("list", "sequence", "iterable") and len(items) == 1:
            return Type("list", items if items[0].kind != "unknown" else ())
        return results.ANNOTATED.get(name, UNKNOWN)


def _unpacked(value: Type) -> Type:
    if value.kind == "batch":
        return TENSOR
    return element(value) if value.kind in ("tensor", "list", "size") else UNKNOWN
