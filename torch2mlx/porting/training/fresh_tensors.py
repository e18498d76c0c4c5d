"""Names of a file that are given a new tensor which needs gradients, and what the tensor is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.resolved import Key, Resolved
from torch2mlx.porting.scopes.traversal import of_kinds, walk

_FLAG = "requires_grad"
_LISTS = (cst.List, cst.Tuple)
_HOLDING = (*_LISTS, cst.Dict)


class FreshTensors:
    """`found`: key -> the assignment and the value without its flag. `asked`: statements that set
    the flag of such tensors later, and of which. `held`: names in `found` that hold several."""

    def __init__(self, module: cst.Module, names: Names, resolved: Resolved) -> None:
        self._names, self._resolved = names, resolved
        self.found: dict[Key, tuple[Any, Any]] = {}
        self.asked: dict[Any, list[Key]] = {}
        self.held: dict[Key, bool] = {}  # names of several, and whether a tuple holds them
        self._makers: set[str] = set()
        self._makers = self._functions(module)
        self._firsts: dict[Key, Any] = {}
        self._listed: dict[Key, list[Key]] = {}
        for node in of_kinds(module, cst.Assign):
            self._assigned(node)
        for node in of_kinds(module, cst.SimpleStatementLine):
            key = resolved.key(flagged(node.body[0])) if len(node.body) == 1 else None
            if key in self.found:
                self.asked[node] = [key]
        for statement, keys in self._later(module):
            made = [k for k in keys if k in self._firsts and _is_new(self._firsts[k].value)]
            if made and len(made) == len(keys):
                self.asked[statement] = keys
                more = {k: (self._firsts[k], self._firsts[k].value) for k in made}
                self.found = {**more, **self.found}
        self._find_containers(module)

    def _assigned(self, node: cst.Assign) -> None:
        target: Any = node.targets[0].target
        key = self._resolved.key(target) if len(node.targets) == 1 else None
        if key is None:
            return
        self._firsts.setdefault(key, node)
        value = self.value(node.value)
        if value is not None and self._firsts[key] is node:
            self.found[key] = (node, value)
        listed: Any = node.value
        if isinstance(listed, _LISTS):
            held = [self._resolved.key(e.value) for e in listed.elements]
            self._listed[key] = [k for k in held if k is not None]

    def _find_containers(self, module: cst.Module) -> None:
        """Names that are given a dict or a list of new parameters, or what a function answers that
        makes one."""
        several = {f for f in of_kinds(module, cst.FunctionDef) if self._gives_several(f)}
        names = {f.name.value: self._is_tuple(f) for f in several}
        for key, node in self._firsts.items():
            value: Any = node.value
            called = isinstance(value, cst.Call) and dotted(value.func) in names
            made = isinstance(value, _HOLDING) and self._holds(value, None)
            if (called or made) and key not in self.found:
                self.found[key] = (node, value)
                called_for = names.get(dotted(value.func), False) if called else False
                self.held[key] = called_for or isinstance(value, cst.Tuple)

    def _gives_several(self, function: Any) -> bool:
        ends = [n.value for n in walk(function.body) if isinstance(n, cst.Return)]
        given = [self._display(end) for end in ends]
        return bool(ends) and all(one is not None and self._holds(one, function) for one in given)

    def _is_tuple(self, function: Any) -> bool:
        ends = [n.value for n in walk(function.body) if isinstance(n, cst.Return)]
        return any(isinstance(self._display(end), cst.Tuple) for end in ends)

    def _display(self, node: Any) -> Any:
        """The list or dict that a name was given, or that an expression is."""
        if isinstance(node, _HOLDING):
            return node
        key = self._resolved.key(node)
        made = self._firsts[key].value if key in self._firsts else None
        return made if isinstance(made, _HOLDING) else None

    def _holds(self, node: Any, function: Any) -> bool:
        """Whether a list or dict holds new parameters alone, under names of a function too."""
        values = [e.value for e in node.elements]
        keys = [self._resolved.key(v) for v in values]
        new = [self.value(v) is not None for v in values]
        named = [k is not None and function in k and k in self.found for k in keys]
        return bool(values) and all(map(any, zip(new, named, strict=True)))

    def _functions(self, module: cst.Module) -> set[str]:
        """Functions of the file that answer a new parameter."""
        found = set()
        for function in of_kinds(module, cst.FunctionDef):
            ends = [n for n in walk(function.body) if isinstance(n, cst.Return)]
            if ends and all(n.value is not None and self.value(n.value) is not None for n in ends):
                found.add(function.name.value)
        return found

    def value(self, node: Any) -> Any:
        """What a parameter starts from, where an expression makes one."""
        if not isinstance(node, cst.Call):
            return None
        if isinstance(node.func, cst.Name) and node.func.value in self._makers:
            return node
        if isinstance(node.func, cst.Attribute) and node.func.attr.value == f"{_FLAG}_":
            new = _is_true(node.args) and _is_new(node.func.value)
            return node.func.value if new else None
        full = self._names.of(node.func)
        if full in ("torch.nn.Parameter", "torch.nn.parameter.Parameter") and len(node.args) == 1:
            return node.args[0].value
        rest = [a for a in node.args if getattr(a.keyword, "value", "") != _FLAG]
        asked = [a for a in node.args if a not in rest]
        if not full.startswith("torch.") or len(asked) != 1 or not rest or not _is_true(asked):
            return None
        rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return node.with_changes(args=rest)

    def alone(self, node: Any) -> Any:
        """What `(w - lr * w.grad).detach().requires_grad_()` is a parameter of."""
        while isinstance(node, cst.Call):
            func: Any = node.func
            method = func.attr.value if isinstance(func, cst.Attribute) else ""
            inner = self.value(node)
            if inner is None and (method not in ("detach", "clone") or node.args):
                break
            node = inner if inner is not None else func.value
        return node

    def _later(self, module: cst.Module) -> Iterator[tuple[Any, list[Key]]]:
        """Statements of the file or of a function that set the flag, and of what."""
        blocks = [module.body]
        blocks += [f.body.body for f in of_kinds(module, cst.FunctionDef)]
        for statement in (s for block in blocks for s in block):
            if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
                key = self._resolved.key(flagged(statement.body[0]))
                if key is not None:
                    yield statement, [key]
            elif isinstance(statement, cst.For) and isinstance(statement.target, cst.Name):
                body: Any = statement.body.body
                inner = [flagged(s.body[0]) for s in body if _is_small(s)]
                name = statement.target.value
                if len(body) == 1 and inner and dotted(inner[0]) == name:
                    key = self._resolved.key(statement.iter)
                    items = statement.iter.elements if isinstance(statement.iter, _LISTS) else ()
                    held = [self._resolved.key(e.value) for e in items]
                    keys = self._listed.get(key, []) if key is not None else [k for k in held if k]
                    yield statement, keys


def _is_small(statement: Any) -> bool:
    return isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1


def flagged(small: Any) -> Any:
    """w of `w.requires_grad = True` and `w.requires_grad_()`."""
    if isinstance(small, cst.Assign) and isinstance(small.targets[0].target, cst.Attribute):
        target = small.targets[0].target
        true = isinstance(small.value, cst.Name) and small.value.value == "True"
        return target.value if target.attr.value == _FLAG and true else None
    call = small.value if isinstance(small, cst.Expr) else None
    if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
        return None
    flags = call.func.attr.value == f"{_FLAG}_" and _is_true(call.args)
    return call.func.value if flags else None


def _is_true(args: Any) -> bool:
    values = [a.value for a in args]
    return not values or (
        len(values) == 1 and isinstance(values[0], cst.Name) and values[0].value == "True"
    )


def _is_new(node: Any) -> bool:
    """Whether an expression makes a tensor, and is no name of another one's."""
    return isinstance(node, (cst.Call, cst.BinaryOperation, cst.UnaryOperation))
