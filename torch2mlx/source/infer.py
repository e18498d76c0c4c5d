"""Types of expressions by data flow: annotations, constructors, calls, and what only tensors can do.

Functions are run over three times, so that what a call passes is known inside the function, and
what a function answers is known where it is called.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.source import results
from torch2mlx.source.kinds import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    STR,
    TENSOR,
    TENSOR_ONLY,
    UNKNOWN,
    Type,
    element,
    join,
)
from torch2mlx.source.names import Names, dotted
from torch2mlx.source.walk import calls, children

Env = dict[str, Type]
_ROUNDS = 3


class Inference:
    """`types` has a Type for every expression that was reached, by identity of the node."""

    def __init__(self, module: cst.Module, names: Names) -> None:
        self.names = names
        self.types: dict[int, Type] = {}
        self.arguments: dict[str, Env] = {}  # of functions, by qualified name
        self.returns: dict[str, Type] = {}
        self.attributes: dict[str, Env] = {}  # of classes
        self.globals: Env = {}
        self.nodes: dict[str, Any] = {}  # functions by the same keys
        self._told: dict[int, dict[str, Type]] = {}
        self._class = ""
        self._function = ""
        for _ in range(_ROUNDS):
            self._block(module.body, self.globals)

    def of(self, node: Any) -> Type:
        """The type of an expression; unknown for what was never reached."""
        return self.types.get(id(node), UNKNOWN)

    def is_module_class(self, name: str) -> bool:
        """Whether a class of the file is an nn.Module."""
        return self._derives(name, ("torch.nn.Module", "torch.nn.Sequential"))

    def _derives(self, name: str, bases: tuple[str, ...]) -> bool:
        node = self.names.classes.get(name)
        for base in node.bases if node is not None else ():
            full = self.names.of(base.value)
            if full in bases or (full.startswith("torch.nn.") and bases[0].startswith("torch.nn")):
                return True
            if dotted(base.value) != name and self._derives(dotted(base.value), bases):
                return True
        return False

    # statements

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
            inner[name] = join(given, known.get(name))
            if node.name.value == "forward" and self.is_module_class(self._class) and i:
                taken = inner[name].kind in ("unknown", "none") and parameter.default is None
                inner[name] = TENSOR if taken else inner[name]
        before, self._function = self._function, key
        outer_class = self._class
        self._evidence(node, inner)
        self._block(node.body.body, inner)
        self._function, self._class = before, outer_class
        env[node.name.value] = Type("function", name=key)

    def _self_kind(self) -> str:
        if self.is_module_class(self._class):
            return "module"
        data = ("torch.utils.data.Dataset", "torch.utils.data.IterableDataset")
        return "dataset" if self._derives(self._class, data) else "object"

    def _evidence(self, node: cst.FunctionDef, env: Env) -> None:
        """Parameters on which something is called that only a tensor has, or a module."""
        if id(node) not in self._told:
            self._told[id(node)] = evidence(node.body, self.names)
        for name, kind in self._told[id(node)].items():
            if env.get(name, UNKNOWN).kind in ("unknown", "none"):
                env[name] = kind

    def _do_ClassDef(self, node: cst.ClassDef, env: Env) -> None:
        before, self._class = self._class, node.name.value
        self.attributes.setdefault(node.name.value, {})
        self._block(node.body.body, dict(env))
        self._class = before

    def _do_Assign(self, node: cst.Assign, env: Env) -> None:
        value = self.infer(node.value, env)
        for target in node.targets:
            self._bind(target.target, value, env)

    def _do_AnnAssign(self, node: cst.AnnAssign, env: Env) -> None:
        given = self._annotated(node.annotation)
        value = self.infer(node.value, env) if node.value is not None else UNKNOWN
        self._bind(node.target, value if value.kind != "unknown" else given, env)

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
                self.types[id(target)] = held[target.attr.value]
                return
        elif isinstance(target, cst.Subscript):
            self.infer(target, env)
            return
        if name:
            env[name] = value if value.kind != "unknown" else env.get(name, UNKNOWN)
            self.types[id(target)] = env[name]

    def _annotated(self, annotation: cst.Annotation | None) -> Type:
        if annotation is None:
            return UNKNOWN
        node = annotation.annotation
        if isinstance(node, cst.Subscript):
            node = node.value
        name = self.names.of(node) or dotted(node)
        if name in self.names.classes and self.is_module_class(name):
            return Type("module", name=name)
        return results.ANNOTATED.get(name, UNKNOWN)

    # expressions

    def infer(self, node: Any, env: Env) -> Type:
        """The type of an expression, remembered; its parts are inferred too."""
        rule = getattr(self, f"_of_{type(node).__name__}", None)
        if rule is not None:
            found = rule(node, env)
        else:
            found = UNKNOWN
            for child in children(node):
                self.infer(child, env)
        self.types[id(node)] = found
        return found

    def _of_Name(self, node: cst.Name, env: Env) -> Type:
        if node.value in ("True", "False"):
            return BOOL
        if node.value == "None":
            return NONE
        found = env.get(node.value) or self.globals.get(node.value)
        if found is None and node.value in self.names.classes:
            return Type("class", name=node.value)
        if found is None and node.value in self.names.functions:
            return Type("function", name=node.value)
        return found or UNKNOWN

    def _of_Integer(self, node: Any, env: Env) -> Type:
        return INT

    def _of_Float(self, node: Any, env: Env) -> Type:
        return FLOAT

    def _of_SimpleString(self, node: Any, env: Env) -> Type:
        return STR

    def _of_FormattedString(self, node: Any, env: Env) -> Type:
        for part in node.parts:
            if isinstance(part, cst.FormattedStringExpression):
                self.infer(part.expression, env)
        return STR

    def _of_Tuple(self, node: cst.Tuple, env: Env) -> Type:
        return Type("tuple", tuple(self.infer(e.value, env) for e in node.elements))

    def _of_List(self, node: cst.List, env: Env) -> Type:
        found = UNKNOWN
        for item in node.elements:
            found = join(found, self.infer(item.value, env))
        return Type("list", (found,))

    def _of_ListComp(self, node: Any, env: Env) -> Type:
        inner = dict(env)
        part = node.for_in
        while part is not None:
            self._bind(part.target, element(self.infer(part.iter, inner)), inner)
            for condition in part.ifs:
                self.infer(condition.test, inner)
            part = part.inner_for_in
        return Type("list", (self.infer(node.elt, inner),))

    _of_GeneratorExp = _of_ListComp

    def _of_UnaryOperation(self, node: Any, env: Env) -> Type:
        found = self.infer(node.expression, env)
        return BOOL if isinstance(node.operator, cst.Not) else found

    def _of_BinaryOperation(self, node: Any, env: Env) -> Type:
        left, right = self.infer(node.left, env), self.infer(node.right, env)
        if left.tensor or right.tensor:
            return TENSOR
        if isinstance(node.operator, cst.Divide) and {left.kind, right.kind} <= {"int", "float"}:
            return FLOAT
        return join(left, right) if "unknown" not in (left.kind, right.kind) else UNKNOWN

    def _of_Comparison(self, node: Any, env: Env) -> Type:
        left = self.infer(node.left, env)
        others = [self.infer(c.comparator, env) for c in node.comparisons]
        plain = (cst.Is, cst.IsNot, cst.In, cst.NotIn)
        if any(isinstance(c.operator, plain) for c in node.comparisons):
            return BOOL
        return Type("tensor", name="bool") if any(t.tensor for t in (left, *others)) else BOOL

    def _of_BooleanOperation(self, node: Any, env: Env) -> Type:
        return join(self.infer(node.left, env), self.infer(node.right, env))

    def _of_IfExp(self, node: Any, env: Env) -> Type:
        self.infer(node.test, env)
        return join(self.infer(node.body, env), self.infer(node.orelse, env))

    def _of_Lambda(self, node: Any, env: Env) -> Type:
        inner = {**env, **{p.name.value: UNKNOWN for p in node.params.params}}
        known = evidence(node.body, self.names)
        inner.update({n: t for n, t in known.items() if n in inner})
        return Type("lambda", (self.infer(node.body, inner),))

    def _of_Subscript(self, node: Any, env: Env) -> Type:
        owner = self.infer(node.value, env)
        places = [e.slice for e in node.slice]
        for place in places:
            for child in children(place):
                self.infer(child, env)
        return results.subscript(owner, places)

    def _of_Attribute(self, node: Any, env: Env) -> Type:
        full = self.names.of(node)
        if full:
            return results.constant(full)
        owner = self.infer(node.value, env)
        if owner.name in self.attributes:
            found = self.attributes[owner.name].get(node.attr.value)
            if found is not None:
                return found
            if f"{owner.name}.{node.attr.value}" in self.arguments:
                return Type("function", name=f"{owner.name}.{node.attr.value}")
        return results.attribute(owner, node.attr.value)

    def _of_Call(self, node: Any, env: Env) -> Type:
        given = [self.infer(a.value, env) for a in node.args]
        full = self.names.of(node.func)
        if full:
            return results.called(full, node, given)
        if isinstance(node.func, cst.Call) and dotted(node.func.func).endswith(".value_and_grad"):
            self.infer(node.func, env)
            made = self.infer(node.func.args[1].value, env)
            self._pass(made.name, node, given)
            return Type("tuple", (self.returns.get(made.name, UNKNOWN), UNKNOWN))
        called = self.infer(node.func, env)
        own = self._of_own(node, called, given, env)
        if own is not None:
            return own
        if isinstance(node.func, cst.Attribute):
            return results.method(self.of(node.func.value), node.func.attr.value, node, given)
        return results.builtin(dotted(node.func), given)

    def _of_own(self, node: Any, called: Type, given: list[Type], env: Env) -> Type | None:
        """Calls of the file's own functions, classes and modules, and of torch's layers."""
        if called.kind == "function":
            self._pass(called.name, node, given)
            return self.returns.get(called.name, UNKNOWN)
        if called.kind == "class":
            self._pass(f"{called.name}.__init__", node, given)
            before, self._class = self._class, called.name
            kind = self._self_kind()
            self._class = before
            return Type(kind, name=called.name)
        if called.kind == "module" and called.name in self.names.classes:
            self._pass(f"{called.name}.forward", node, given)
            return self.returns.get(f"{called.name}.forward", UNKNOWN)
        if called.kind == "module":
            self._takes_tensors(node, env)
            return results.layer(called.name) if called.name else self._any_module()
        return called.items[0] if called.kind == "lambda" and called.items else None

    def _takes_tensors(self, node: Any, env: Env) -> None:
        """Names that a module is called with are tensors, where nothing else is known."""
        for argument in node.args:
            if isinstance(argument.value, cst.Name) and self.of(argument.value).kind == "unknown":
                name = argument.value.value
                env[name] = TENSOR
                known = self.arguments.get(self._function, {})
                self.arguments.setdefault(self._function, known).setdefault(name, TENSOR)

    def _any_module(self) -> Type:
        """What a module of an unknown class gives: what all classes of the file do, if they
        agree."""
        known = [n for n in self.names.classes if self.is_module_class(n)]
        found = {self.returns.get(f"{name}.forward", UNKNOWN) for name in known}
        return found.pop() if len(found) == 1 else UNKNOWN

    def _pass(self, key: str, node: Any, given: list[Type]) -> None:
        """What a call tells of a function's arguments."""
        function = self.nodes.get(key) or self.names.functions.get(key) or self._method(key)
        if function is None:
            return
        names = [p.name.value for p in function.params.params]
        names = names[1:] if "." in key and names[:1] in (["self"], ["cls"]) else names
        known = self.arguments.setdefault(key, {})
        for i, (argument, kind) in enumerate(zip(node.args, given, strict=True)):
            name = argument.keyword.value if argument.keyword is not None else None
            if name is None and i < len(names) and not argument.star:
                name = names[i]
            if name is not None and kind.kind != "unknown":
                known[name] = join(known.get(name), kind)

    def _method(self, key: str) -> Any:
        owner, _, name = key.rpartition(".")
        body = self.names.classes[owner].body.body if owner in self.names.classes else ()
        return next(
            (n for n in body if isinstance(n, cst.FunctionDef) and n.name.value == name), None
        )


def _unpacked(value: Type) -> Type:
    if value.kind == "batch":
        return TENSOR
    return element(value) if value.kind in ("tensor", "list", "size") else UNKNOWN


def viewed(node: cst.Call) -> bool:
    """x.view(2, -1), x.size(0), x.flatten(1): arrays of numpy take no such arguments."""
    name = node.func.attr.value  # type: ignore[union-attr]
    if name == "size":
        return True
    numbers = (cst.Integer, cst.UnaryOperation)
    return name in ("view", "flatten") and any(isinstance(a.value, numbers) for a in node.args)


def evidence(node: Any, names: Names) -> dict[str, Type]:
    """Plain names on which something is called that tells what they are."""
    found: dict[str, Type] = {}
    for call in calls(node):
        func = call.func
        owner = func.value if isinstance(func, cst.Attribute) else None
        if isinstance(owner, cst.Name) and owner.value not in names.imports:
            kind = _told(call, func.attr.value, owner.value)
            if kind is not None:
                found.setdefault(owner.value, kind)
        elif call.args and isinstance(call.args[0].value, cst.Name):
            full = names.of(func)
            if full.startswith("torch.") and results.takes_tensor(full):
                found.setdefault(call.args[0].value.value, TENSOR)
    return found


def _told(call: cst.Call, method: str, name: str) -> Type | None:
    """What something is that a method is called on."""
    if method in TENSOR_ONLY or viewed(call):
        return TENSOR
    if method in ("parameters", "named_parameters", "load_state_dict"):
        return Type("module")
    return Type("optimizer") if method in ("zero_grad", "step") and "opt" in name else None
