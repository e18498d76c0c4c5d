"""Types of expressions, given those of names: a base of the data flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types import attributes as members
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.kinds import (
    BOOL,
    FLOAT,
    INT,
    NONE,
    STR,
    TENSOR,
    UNKNOWN,
    Type,
    element,
    join,
)
from torch2mlx.porting.types.usage import evidence

Env = dict[str, Type]


@dataclass
class Foreign:
    """Of names that are imported: kinds of classes, their fields, what calls give."""

    kinds: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Env] = field(default_factory=dict)
    returns: dict[str, Type] = field(default_factory=dict)


class Expressions:
    """`types` has a Type for every expression that was reached, by node."""

    def __init__(self, names: Names, answers: Mapping[str, Type]) -> None:
        self.names = names
        self.answers = answers  # types of names that the source does not tell, by ids of questions
        self.heard: set[str] = set()  # answers whose names the source has
        self.denied: dict[str, Type] = {}  # answers that it contradicts, with what it says
        self.unknown: dict[cst.CSTNode, str] = {}  # names of no known type -> function or class
        self.types: dict[cst.CSTNode, Type] = {}
        self.arguments: dict[str, Env] = {}  # of functions, by qualified name
        self.returns: dict[str, Type] = {}
        self.attributes: dict[str, Env] = {}  # of classes
        self.globals: Env = {}
        self.nodes: dict[str, Any] = {}  # functions by the same keys
        self.foreign = Foreign()  # of the names that are imported from files beside this one
        self._class = ""
        self._function = ""

    def _bind(self, target: Any, value: Type, env: Env) -> None:
        raise NotImplementedError

    def _told_of(self, place: str, name: str, known: Type) -> Type:
        """The type of a name of a function or class, which an answer may tell."""
        identifier = f"{place}.{name}" if place else name
        answer = self.answers.get(identifier)
        if answer is None:
            return known
        self.heard.add(identifier)
        if known.kind not in ("unknown", "none", answer.kind):
            self.denied[identifier] = known
        return answer

    def _answered(self, place: str, known: Env) -> Env:
        """Types of the names of a function, class or, without a `place`, file that were told."""
        head = f"{place}." if place else ""
        names = [a.removeprefix(head) for a in self.answers if a.startswith(head)]
        return {
            name: self.answers[head + name]
            for name in names
            if "." not in name and known.get(name, UNKNOWN).kind in ("unknown", "none")
        }

    def of(self, node: Any) -> Type:
        """The type of an expression; unknown for what was never reached."""
        return self.types.get(node, UNKNOWN)

    def is_module_class(self, name: str) -> bool:
        """Whether a class of the file is an nn.Module."""
        return self._derives(name, ("torch.nn.Module", "torch.nn.Sequential"))

    def is_function_class(self, name: str) -> bool:
        """Whether a class of the file is an autograd.Function."""
        return self._derives(name, ("torch.autograd.Function",))

    def full(self, node: Any) -> str:
        """The full name of an import; empty for what is known of files beside this one."""
        beside = isinstance(node, cst.Name) and (
            node.value in self.foreign.kinds or node.value in self.foreign.returns
        )
        return "" if beside else self.names.of(node)

    def is_class(self, name: str) -> bool:
        """Whether a name is a class of the file, or of one beside it."""
        return name in self.names.classes or name in self.foreign.kinds

    def _derives(self, name: str, bases: tuple[str, ...]) -> bool:
        if name in self.foreign.kinds:
            return bool(self.foreign.kinds[name] == "module" and "torch.nn.Module" in bases)
        node = self.names.classes.get(name)
        for base in node.bases if node is not None else ():
            full = self.names.of(base.value)
            if full in bases or (full.startswith("torch.nn.") and bases[0].startswith("torch.nn")):
                return True
            if dotted(base.value) != name and self._derives(dotted(base.value), bases):
                return True
        return False

    def _self_kind(self) -> str:
        if self.is_module_class(self._class):
            return "module"
        data = ("torch.utils.data.Dataset", "torch.utils.data.IterableDataset")
        return "dataset" if self._derives(self._class, data) else "object"

    def infer(self, node: Any, env: Env) -> Type:
        """The type of an expression, remembered; its parts are inferred too."""
        rule = getattr(self, f"_of_{type(node).__name__}", None)
        if rule is not None:
            found = rule(node, env)
        else:
            found = UNKNOWN
            for child in children(node):
                self.infer(child, env)
        self.types[node] = found
        return found

    def _of_Name(self, node: cst.Name, env: Env) -> Type:
        if node.value in ("True", "False"):
            return BOOL
        if node.value == "None":
            return NONE
        found = env.get(node.value) or self.globals.get(node.value)
        if found is None and self.is_class(node.value):
            return Type("class", name=node.value)
        known = node.value in self.names.functions or node.value in self.foreign.returns
        if found is None and known:
            return Type("function", name=node.value)
        if found is None or found.kind == "unknown":
            self.unknown[node] = self._function
        if self.answers:
            self._told_of(self._function, node.value, UNKNOWN)
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
        return Type("list", (self.infer(node.elt, self._comprehended(node, env)),))

    _of_GeneratorExp = _of_ListComp

    def _of_DictComp(self, node: Any, env: Env) -> Type:
        inner = self._comprehended(node, env)
        return Type("dict", (self.infer(node.key, inner), self.infer(node.value, inner)))

    def _of_Dict(self, node: Any, env: Env) -> Type:
        """A dict holds a type of values only where all of its literal's are of that."""
        pairs = [e for e in node.elements if isinstance(e, cst.DictElement)]
        keys = {self.infer(e.key, env) for e in pairs}
        values = {self.infer(e.value, env) for e in node.elements}
        if len(pairs) != len(node.elements) or len(keys) != 1 or len(values) != 1:
            return Type("dict")
        return Type("dict", (keys.pop(), values.pop()))

    def _comprehended(self, node: Any, env: Env) -> Env:
        """The names inside of a comprehension."""
        inner = dict(env)
        part = node.for_in
        while part is not None:
            self._bind(part.target, element(self.infer(part.iter, inner)), inner)
            for condition in part.ifs:
                self.infer(condition.test, inner)
            part = part.inner_for_in
        return inner

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
        own = [p.name.value for p in node.params.params]
        inner = {**env, **{name: self._told_of(self._function, name, UNKNOWN) for name in own}}
        known = evidence(node.body, self.names)
        inner.update({n: t for n, t in known.items() if n in inner})
        return Type("lambda", (self.infer(node.body, inner),))

    def _of_Subscript(self, node: Any, env: Env) -> Type:
        owner = self.infer(node.value, env)
        places = [e.slice for e in node.slice]
        for place in places:
            for child in children(place):
                self.infer(child, env)
        return members.subscript(owner, places)

    def _of_Attribute(self, node: Any, env: Env) -> Type:
        full = self.names.of(node)
        if full:
            return results.constant(full)
        owner = self.infer(node.value, env)
        if owner.name in self.attributes:
            found = self.attributes[owner.name].get(node.attr.value)
            if found is None or found.kind == "unknown":
                self.unknown[node] = owner.name
            self._told_of(owner.name, node.attr.value, UNKNOWN)
            if found is not None:
                return found
            if f"{owner.name}.{node.attr.value}" in self.arguments:
                return Type("function", name=f"{owner.name}.{node.attr.value}")
        return members.attribute(owner, node.attr.value)
