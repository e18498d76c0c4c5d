"""Expressions whose values hold the weights of a model themselves, no copies of them.

`list(model.parameters())`, `model.state_dict()`, `model.fc.weight`, `[p for p in ps if p.ndim > 1]`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, of_kinds, walk
from torch2mlx.porting.types.attributes import is_weight
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.views import FIELDS

#: Methods of modules that give weights.
GIVING = (
    *("parameters", "named_parameters", "state_dict", "buffers", "named_buffers"),
    *("get_parameter", "get_buffer"),
)
#: Methods whose results hold what they are called on, and those of dicts.
_PASSING = frozenset(
    [
        *("detach", "view", "reshape", "flatten", "t", "squeeze", "unsqueeze", "view_as"),
        *("cpu", "cuda", "to", "float", "numpy", "contiguous", "requires_grad_"),
        *("items", "values", "copy", "get", "pop"),
    ]
)
#: Functions that hand on what they are given, or its items.
_RELAYING = frozenset(
    [
        *("list", "tuple", "dict", "iter", "reversed", "sorted", "filter", "zip", "enumerate"),
        *(
            "partial",
            "functools.partial",
            "next",
            "OrderedDict",
            "collections.OrderedDict",
            "chain",
            "itertools.chain",
        ),
    ]
)
#: Attributes that layers change.
_NAMED = ("weight", "bias", "running_mean", "running_var")
_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp)
Known = Callable[[str], bool]


class Holding:
    """What expressions of a file hold."""

    def __init__(self, module: cst.Module, types: Types) -> None:
        self._types, self._names = types, types.names
        self._own = _own_parameters(module, types.names)
        self.giving: set[str] = set()  # functions of the file that return weights

    def holds(self, node: Any, known: Known) -> bool:
        """Whether an expression's value holds weights; `known`: whether a dotted name's does."""
        if isinstance(node, (cst.Name, cst.Attribute)) and known(dotted(node)):
            return True
        if isinstance(node, cst.Attribute):
            if node.attr.value in FIELDS:
                return self.holds(node.value, known)
            return self._is_weight(node)
        if isinstance(node, cst.Call):
            return self._call(node, known)
        if isinstance(node, cst.Subscript):
            return self.holds(node.value, known)
        if isinstance(node, (cst.List, cst.Tuple, cst.Set, cst.Dict)):
            return any(self.holds(e.value, known) for e in node.elements)
        if isinstance(node, (*_COMPREHENSIONS, cst.DictComp)):
            return self._comprehension(node, known)
        if isinstance(node, cst.IfExp):
            return self.holds(node.body, known) or self.holds(node.orelse, known)
        both = isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add)
        if both and _listed(node.left) and _listed(node.right):
            return self.holds(node.left, known) or self.holds(node.right, known)
        return False

    def _call(self, node: cst.Call, known: Known) -> bool:
        func, given = node.func, [a.value for a in node.args]
        if dotted(func) in _RELAYING:
            return any(self.holds(value, known) for value in given)
        if isinstance(func, cst.Name) and func.value in self.giving:
            return True
        if not isinstance(func, cst.Attribute):
            return False
        if func.attr.value in GIVING and self._types.of(func.value).kind != "optimizer":
            return "opt" not in dotted(func.value).lower()
        return func.attr.value in _PASSING and self.holds(func.value, known)

    def _comprehension(self, node: Any, known: Known) -> bool:
        over = node.for_in
        if not self.holds(over.iter, known):
            return False
        inner = set(self.given(over.target, over.iter, known))
        made = node.value if isinstance(node, cst.DictComp) else node.elt
        return self.holds(made, lambda name: name in inner or known(name))

    def given(self, target: Any, over: Any, known: Known) -> Iterator[str]:
        """The names that a loop gives weights: of pairs of a name or number and a weight, that."""
        parts = [e.value for e in getattr(target, "elements", ())]
        func = over.func if isinstance(over, cst.Call) else None
        name = dotted(func) or getattr(getattr(func, "attr", None), "value", "")
        if name in ("list", "sorted", "reversed", "tuple") and over.args:
            yield from self.given(target, over.args[0].value, known)
        elif name == "zip" and len(parts) == len(over.args):
            for part, argument in zip(parts, over.args, strict=True):
                yield from self.given(part, argument.value, known)
        elif name == "enumerate" and len(parts) == 2:
            yield from self.given(parts[1], over.args[0].value, known)
        elif name.rpartition(".")[2] in ("named_parameters", "items") and len(parts) == 2:
            yield from names_in(parts[1]) if self.holds(over, known) else ()
        elif self.holds(over, known):
            yield from names_in(target)

    def _is_weight(self, node: cst.Attribute) -> bool:
        name, owner = node.attr.value, self._types.of(node.value)
        if name in _NAMED or is_weight(name):
            return owner.kind in ("module", "unknown") and dotted(node.value) != "self"
        return owner.kind == "module" and (owner.name, name) in self._own


def names_in(target: Any) -> Iterator[str]:
    """The plain names that a target binds."""
    if isinstance(target, cst.Name):
        yield target.value
    for element in getattr(target, "elements", ()):
        yield from names_in(element.value)


def _listed(node: Any) -> bool:
    """Whether an operand of `+` is a list, or of what makes one: sums of tensors are new."""
    kinds = (cst.List, cst.ListComp)
    return isinstance(node, kinds) or (isinstance(node, cst.Call) and dotted(node.func) == "list")


def _own_parameters(module: cst.Module, names: Names) -> set[tuple[str, str]]:
    """(class, attribute) of the parameters that classes of the file have of their own."""
    found = set()
    for kind in of_kinds(module, cst.ClassDef):
        for call in calls(kind):
            if names.of(call.func) == "torch.nn.Parameter":
                found.add(call)
    owned = set()
    for kind in of_kinds(module, cst.ClassDef) if found else ():
        for node in _assigned(kind):
            if isinstance(node.value, cst.Call) and node.value in found:
                head, _, attribute = dotted(node.targets[0].target).rpartition(".")
                if head == "self":
                    owned.add((kind.name.value, attribute))
    return owned


def _assigned(kind: cst.ClassDef) -> Iterator[Any]:
    return (node for node in walk(kind) if isinstance(node, cst.Assign))
