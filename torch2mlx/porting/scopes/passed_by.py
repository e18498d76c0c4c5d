"""Whether a forward, in some steps, passes by a module that its class has.

A branch that not every call takes, an expert that no row was sent to, a layer that is dropped: in
torch its parameters then have no gradient, and optimizers leave them alone in such a step, where a
gradient of zero would have moments fade and weights decay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, children, may_leave, walk

#: Layers of torch.nn that have parameters, by how their names begin.
_WITH_PARAMETERS: tuple[str, ...] = (
    "Linear",
    "Bilinear",
    "Lazy",
    "Conv",
    "BatchNorm",
    "LayerNorm",
    "GroupNorm",
)
_WITH_PARAMETERS += ("InstanceNorm", "RMSNorm", "SyncBatchNorm", "Embedding", "LSTM", "GRU", "RNN")
_WITH_PARAMETERS += ("Multihead", "Transformer", "Sequential", "Module", "Parameter", "PReLU")


def may_pass_by(classes: Iterable[cst.ClassDef], names: Names) -> bool:
    """Whether the forward of one of these classes, in some steps, passes by a module."""
    return any(_passes_by(node, names) for node in classes)


def _passes_by(node: cst.ClassDef, names: Names) -> bool:
    methods = {f.name.value: f for f in node.body.body if isinstance(f, cst.FunctionDef)}
    if "forward" not in methods or "__init__" not in methods:
        return False
    held = set(_held(methods["__init__"], names))
    ways = _Ways(held, methods)
    ways.method("forward", True)
    return bool(ways.sometimes - ways.always)


def _held(init: cst.FunctionDef, names: Names) -> Iterator[str]:
    """Attributes that a constructor sets to what may have parameters."""
    for part in walk(init):
        for target in part.targets if isinstance(part, cst.Assign) else ():
            for name, value in _pairs(target.target, part.value):
                if name.startswith("self.") and _has_parameters(value, names):
                    yield name[5:]


def _pairs(target: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Names and what they are given, those of tuples one by one."""
    several = isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple)
    if several and len(target.elements) == len(value.elements):
        for one, other in zip(target.elements, value.elements, strict=True):
            yield from _pairs(one.value, other.value)
    else:
        yield dotted(target), value


def _has_parameters(value: Any, names: Names) -> bool:
    """Whether a call may make a module with parameters: of torch's, or of a class known here."""
    if not isinstance(value, cst.Call):
        return False
    full = names.of(value.func)
    kind = (full or dotted(value.func)).rpartition(".")[2]
    if not full:
        return kind[:1].isupper()
    return full.startswith("torch.nn.") and kind.startswith(_WITH_PARAMETERS)


class _Ways:
    """Which attributes every way through a forward reads, and which only some."""

    def __init__(self, held: set[str], methods: dict[str, cst.FunctionDef]) -> None:
        self.held, self.methods = held, methods
        self.always: set[str] = set()
        self.sometimes: set[str] = set()
        self._items: dict[str, str] = {}  # names of a loop -> the list that it goes through
        self._seen: set[tuple[str, bool]] = set()

    def method(self, name: str, surely: bool) -> None:
        """What a method reads; `surely`: every way calls it."""
        if name in self.methods and (name, surely) not in self._seen:
            self._seen.add((name, surely))
            self._block(self.methods[name].body, surely)

    def _block(self, body: Any, surely: bool) -> bool:
        """Whether every way goes to the end of a block."""
        for statement in getattr(body, "body", ()):
            surely = self._statement(statement, surely) and surely
        return surely

    def _statement(self, node: Any, surely: bool) -> bool:
        if isinstance(node, cst.If):
            return self._branches(node, surely)
        if isinstance(node, cst.For):
            self._loop(node, surely)
            return surely
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._block(node.body, False)
            return surely
        inner = [part for part in children(node) if isinstance(part, cst.BaseSuite)]
        for part in children(node):
            if part not in inner:
                self._read(part, surely)
        for block in inner:
            surely = self._block(block, surely) and surely
        return surely

    def _branches(self, node: Any, surely: bool) -> bool:
        """Both branches of an `if`: what both read is read surely; a way may leave here."""
        self._read(node.test, surely)
        settled = surely and _is_settled(node.test)
        bodies = [node.body, *([node.orelse] if node.orelse is not None else [])]
        found = []
        for body in bodies:
            always, self.always = self.always, set()
            if isinstance(body, cst.If):
                self._branches(body, surely)
            else:
                self._block(body.body if isinstance(body, cst.Else) else body, surely)
            found.append(self.always)
            self.always = always
        both = set.intersection(*found) if len(found) > 1 else set()
        self.always |= set().union(*found) if settled else both
        self.sometimes |= set().union(*found)
        return settled or not any(map(may_leave, bodies))

    def _loop(self, node: cst.For, surely: bool) -> None:
        lists = {n for n in _attributes(node.iter) if n in self.held}
        if not lists or not isinstance(node.iter, (cst.Attribute, cst.Call)):
            self._read(node.iter, surely)
            self._block(node.body, surely and not _draws(node.iter))
            return
        targets = [t.value for t in walk(node.target) if isinstance(t, cst.Name)]
        self._items |= {name: next(iter(lists)) for name in targets[-1:]}
        self._block(node.body, surely)

    def _read(self, node: Any, surely: bool) -> None:
        if isinstance(node, cst.IfExp):
            self._read(node.test, surely)
            settled = surely and _is_settled(node.test)
            self._read(node.body, settled)
            self._read(node.orelse, settled)
            return
        found = None
        if isinstance(node, cst.Attribute) and dotted(node).startswith("self."):
            found = dotted(node).split(".")[1]
        elif isinstance(node, cst.Name):
            found = self._items.get(node.value)
        if isinstance(node, cst.Call) and dotted(node.func).startswith("self."):
            self.method(dotted(node.func)[5:], surely)
        if found in self.held:
            (self.always if surely else self.sometimes).add(str(found))
        for part in children(node):
            self._read(part, surely)


def _attributes(node: Any) -> Iterator[str]:
    for part in walk(node):
        if isinstance(part, cst.Attribute) and dotted(part).startswith("self."):
            yield dotted(part).split(".")[1]


def _is_settled(test: Any) -> bool:
    """Whether a condition is of the module alone: the same in all steps."""
    if isinstance(test, cst.Attribute):
        return dotted(test).startswith("self.")
    if isinstance(test, (cst.Integer, cst.SimpleString)):
        return True
    if isinstance(test, cst.Name):
        return test.value in ("None", "True", "False", "isinstance", "hasattr", "len", "self")
    if isinstance(test, (cst.Call, cst.Comparison, cst.BooleanOperation, cst.UnaryOperation)):
        signs = (cst.BaseBooleanOp, cst.BaseUnaryOp)
        return all(_is_settled(p) for p in children(test) if not isinstance(p, signs))
    if isinstance(test, (cst.Arg, cst.ComparisonTarget)):
        return _is_settled(test.value if isinstance(test, cst.Arg) else test.comparator)
    return False


def _draws(node: Any) -> bool:
    """Whether an expression draws a number: a loop over it may have no rounds."""
    return any("rand" in dotted(call.func) for call in calls(node))
