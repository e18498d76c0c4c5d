"""`getattr(nn, "ReLU")` is `nn.ReLU`: what is known before the program runs is written as it is,
and methods call their object `self`."""

from __future__ import annotations

import keyword
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.own_names import Renamed
from torch2mlx.porting.scopes.traversal import of_kinds, walk, words_of


class LiteralAttributes(cst.CSTTransformer):
    """Rewrites getattr of a literal name, or of one that an `if` around it tells, and what an
    import of torch stands for."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names
        self._told: list[tuple[str, list[str]]] = []  # names and what they may be here

    def visit_If_body(self, node: cst.If) -> None:
        name, values = _choices(node.test)
        changed = any(name in stores(statement) for statement in node.body.body)
        self._told.append(("" if changed else name, values))

    def leave_If_body(self, node: cst.If) -> None:
        self._told.pop()

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        func, given = original_node.func, updated_node.args
        if isinstance(func, cst.Call) and self._is_dynamic(func):
            return self._chosen(func, updated_node)
        if not self._is_dynamic(original_node) or not isinstance(given[1].value, cst.SimpleString):
            return updated_node
        word = str(given[1].value.evaluated_value)
        return _attribute(given[0].value, word) if _is_name(word) else updated_node

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> Any:
        """`setattr(conv, "weight", w)` is an assignment."""
        call = updated_node.value
        given = call.args if isinstance(call, cst.Call) else ()
        named = isinstance(call, cst.Call) and dotted(call.func) == "setattr"
        if not named or len(given) != 3 or not isinstance(given[1].value, cst.SimpleString):
            return updated_node
        word = str(given[1].value.evaluated_value)
        if not _is_name(word) or isinstance(given[0].value, cst.Call):
            return updated_node
        return cst.Assign([cst.AssignTarget(_attribute(given[0].value, word))], given[2].value)

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> Any:
        """Methods whose first parameter is not called `self` call it that."""
        body = [_with_self(statement) for statement in updated_node.body.body]
        if all(one is other for one, other in zip(body, updated_node.body.body, strict=True)):
            return updated_node
        return updated_node.with_changes(body=updated_node.body.with_changes(body=body))

    def _is_dynamic(self, node: cst.Call) -> bool:
        """Whether a call is a `getattr` of two arguments from an import of torch."""
        named = isinstance(node.func, cst.Name) and node.func.value == "getattr"
        if not named or len(node.args) != 2:
            return False
        return self._names.of(node.args[0].value).partition(".")[0] == "torch"

    def _chosen(self, getting: cst.Call, updated: cst.Call) -> Any:
        """`nn.LSTM(4) if kind == "LSTM" else nn.GRU(4)` for `getattr(nn, kind)(4)`."""
        name = dotted(getting.args[1].value)
        words = next((values for told, values in reversed(self._told) if told == name), [])
        if not name or not words or not all(_is_name(word) for word in words):
            return updated
        made = [
            updated.with_changes(func=_attribute(getting.args[0].value, word)) for word in words
        ]
        whole: Any = made[-1]
        for word, one in list(zip(words, made, strict=True))[-2::-1]:
            test = cst.Comparison(
                getting.args[1].value,
                [cst.ComparisonTarget(cst.Equal(), cst.SimpleString(repr(word)))],
            )
            whole = cst.IfExp(test, one, whole)
        return whole


def _with_self(node: Any) -> Any:
    """A method whose first parameter is `self`, where it has another name that can be that."""
    if not isinstance(node, cst.FunctionDef) or node.decorators or not node.params.params:
        return node
    first = node.params.params[0].name.value
    if first in ("self", "cls", "mcs") or node.name.value in ("__new__", "__init_subclass__"):
        return node
    used = {n.value for n in walk(node) if isinstance(n, cst.Name)}
    inner = {p.name.value for f in walk(node.body) for p in _parameters(f)}
    if "self" in used or first in inner or first in stores(node.body):
        return node
    return node.visit(Renamed({first: "self"}, words_of(node)))


def _parameters(node: Any) -> list[Any]:
    if not isinstance(node, (cst.FunctionDef, cst.Lambda)):
        return []
    return [part for part in walk(node.params) if isinstance(part, cst.Param)]


def needed(text: str, module: cst.Module) -> bool:
    """Whether a file has any of what is rewritten here."""
    if "getattr(" in text or "setattr(" in text:
        return True
    methods = (f for c in of_kinds(module, cst.ClassDef) for f in c.body.body)
    return any(_with_self(f) is not f for f in methods)


def _choices(test: Any) -> tuple[str, list[str]]:
    """A name and what it is where `name in ["a", "b"]` or `name == "a"` holds."""
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return "", []
    operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
    items: list[Any] = []
    if isinstance(operator, cst.In) and isinstance(right, (cst.List, cst.Tuple, cst.Set)):
        items = [element.value for element in right.elements]
    elif isinstance(operator, cst.Equal):
        items = [right]
    if not items or not all(isinstance(item, cst.SimpleString) for item in items):
        return "", []
    return dotted(test.left), [str(item.evaluated_value) for item in items]


def _is_name(word: Any) -> bool:
    return isinstance(word, str) and word.isidentifier() and not keyword.iskeyword(word)


def _attribute(owner: Any, word: str) -> cst.Attribute:
    return cst.Attribute(owner, cst.Name(word))
