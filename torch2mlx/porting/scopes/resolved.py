"""Which binding each plain name of a file has: by the function that binds it, or the file."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import children, walk, words_of

#: The function that binds a name, None for the file, and the name.
Key = tuple[Any, str]
_PLACES: tuple[type, ...] = (
    cst.Assign,
    cst.AugAssign,
    cst.AnnAssign,
    cst.For,
    cst.CompFor,
    cst.AsName,
)
_PLACES += (cst.NamedExpr, cst.Del)
_DECLARED = (cst.Global, cst.Nonlocal)
#: Methods that keep what they are given.
KEEPING: tuple[str, ...] = ("append", "extend", "add", "insert", "setdefault", "update", "put")
KEEPING += ("register_buffer", "register_parameter", "set_", "appendleft", "add_param_group")


class Resolved:
    """`nodes`: each name -> its key; `around`: node -> what holds it; `bindings`: key -> the
    statements, functions and parameters that bind it."""

    def __init__(self, module: cst.Module) -> None:
        self.nodes: dict[Any, Key] = {}
        self.around: dict[Any, Any] = {}
        self.bindings: dict[Key, list[Any]] = {}
        self.functions: dict[str, list[Any]] = {}
        self._words, self._scan = words_of(module), Scanner()
        self._own: list[tuple[Any, set[str]]] = []
        self._visit(module)

    def key(self, node: Any) -> Key | None:
        """The binding of a name; None of what is none."""
        return self.nodes.get(node)

    def _resolve(self, name: str) -> Key:
        return next(((f, name) for f, own in reversed(self._own) if name in own), (None, name))

    def _bind(self, name: str, node: Any) -> None:
        self.bindings.setdefault(self._resolve(name), []).append(node)

    def _visit(self, node: Any) -> None:
        if isinstance(node, cst.FunctionDef):
            self._function(node)
            return
        if isinstance(node, cst.Name) and node not in self._words:
            self.nodes[node] = self._resolve(node.value)
        elif isinstance(node, (*_PLACES, cst.ClassDef, cst.Param)):
            for name in _bound(node):
                self._bind(name, node)
        for child in children(node):
            self.around[child] = node
            self._visit(child)

    def _function(self, node: cst.FunctionDef) -> None:
        self._bind(node.name.value, node)
        self.functions.setdefault(node.name.value, []).append(node)
        for part in (*node.decorators, *_defaults(node)):
            self.around[part] = node
            self._visit(part)
        own = {p.name.value for p in walk(node.params) if isinstance(p, cst.Param)}
        own |= self._scan.of(node.body).bound
        told = [p for p in walk(node.body) if isinstance(p, _DECLARED)]
        own -= {item.name.value for p in told for item in p.names}
        self._own.append((node, own))
        for name in own & {p.name.value for p in walk(node.params) if isinstance(p, cst.Param)}:
            self._bind(name, node.params)
        self.around[node.body] = node
        self._visit(node.body)
        self._own.pop()

    def only_reads(self, call: cst.Call, argument: Any) -> bool:
        """Whether a function of the file that is called computes with an argument, and neither
        keeps nor changes it."""
        held = self._called(call.func)
        if len(held) != 1 or argument.star or any(a.star for a in call.args):
            return False
        parameters = [p.name.value for p in held[0].params.params]
        place = list(call.args).index(argument)
        name = argument.keyword.value if argument.keyword is not None else ""
        if not name and place >= len(parameters):
            return False
        key = (held[0], name or parameters[place])
        if len(self.bindings.get(key, [])) != 1:
            return False
        return all(self._reads(n) for n, k in self.nodes.items() if k == key)

    def _called(self, func: Any) -> list[Any]:
        """The functions of the file that a name may be of, under another name too."""
        name, key = dotted(func), self.key(func)
        made = self.bindings.get(key, []) if key is not None else []
        if len(made) == 1 and isinstance(made[0], cst.Assign):
            name = dotted(made[0].value)
        return self.functions.get(name, [])

    def _reads(self, node: Any) -> bool:
        """Whether a name stands in an expression that computes something of it."""
        around = self.around.get(node)
        if isinstance(around, cst.Attribute):
            name = around.attr.value
            asked = name in ("grad", "data", "requires_grad", "set_")
            return not asked and (not name.endswith("_") or name.startswith("__"))
        if isinstance(around, cst.Arg):
            func = self.around[around].func
            return isinstance(func, cst.Attribute) and func.attr.value not in KEEPING
        if isinstance(around, cst.Assign):  # `W, b = params`
            return isinstance(around.targets[0].target, (cst.Tuple, cst.List))
        arithmetic = (cst.BinaryOperation, cst.UnaryOperation, cst.Subscript, cst.ComparisonTarget)
        return isinstance(around, (*arithmetic, cst.Comparison))


def _defaults(node: cst.FunctionDef) -> list[Any]:
    held = (p.default for p in walk(node.params) if isinstance(p, cst.Param))
    return [default for default in held if default is not None]


def _bound(node: Any) -> list[str]:
    """The names that a node itself binds."""
    if isinstance(node, (cst.ClassDef, cst.Param)):
        return [node.name.value]
    if isinstance(node, cst.Assign):
        waiting: list[Any] = [t.target for t in node.targets]
    else:
        waiting = [node.name if isinstance(node, cst.AsName) else node.target]
    found = []
    while waiting:
        part = waiting.pop()
        if isinstance(part, (cst.Tuple, cst.List)):
            waiting += [e.value for e in part.elements]
        elif isinstance(part, cst.Name):
            found.append(part.value)
    return found
