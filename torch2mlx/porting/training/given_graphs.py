"""Arguments of a function's step that their callers computed with modules that are trained.

def step(out, y):                           for x, y in data:
    loss = criterion(generator(out), y)         step(model(x), y)
    loss.backward()
    optimizer.step()

torch's graph leads through `out` to the model. MLX differentiates the function, to which `out` is a
constant: the model would not be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.reaching import Binding, Bindings, returns
from torch2mlx.porting.scopes.traversal import calls, children, code, of_kinds, walk
from torch2mlx.porting.types.callers import Callers
from torch2mlx.porting.types.known import Types

GIVEN = (
    "`{0}` comes from a call of `{1}`, which is trained, outside of this function: MLX takes the "
    "gradient of a function, in which it is a constant; call `{1}` in this function"
)
#: What gives numbers without what they were computed from.
_CUT = frozenset(
    [
        *("detach", "item", "data", "numpy", "tolist", "shape", "size", "dtype", "device"),
        *("argmax", "argmin", "argsort", "indices", "sample", "multinomial", "sign", "long", "int"),
        *("bool", "eq", "gt", "lt", "ge", "le", "ne", "nonzero", "step", "reset"),
    ]
)
_PAIRS = ("max", "min", "sort", "topk", "median", "mode")
_ADDING = ("append", "extend", "insert", "appendleft", "add")
_UNRECORDED = ("no_grad", "inference_mode")
_DEEP = 5


class GivenGraphs:
    """Answers for the functions of a file."""

    def __init__(
        self, module: cst.Module, types: Types, trained: Mapping[str, Sequence[str]]
    ) -> None:
        self._types, self._trained = types, trained
        self._callers = Callers(module, types)
        self._added: dict[str, list[Any]] = {}  # names of containers -> what is added to them
        for call in of_kinds(module, cst.Call):
            func = call.func
            if isinstance(func, cst.Attribute) and func.attr.value in _ADDING and call.args:
                self._added.setdefault(dotted(func.value), []).append(call.args[-1].value)
        self._asked: set[Any] = set()

    def why(self, function: Any, statements: Sequence[Any], scan: Scanner) -> str:
        """Why a function cannot take the gradient of statements: they read what it does not give
        itself, parameters, attributes and names of the file; "" where it can."""
        if not isinstance(function, cst.FunctionDef):
            return ""
        stored = {n for s in statements for n in scan.stores(s)}
        own = {n for s in statements for n in scan.loads(s) if n.startswith("self.")} - stored
        read = {dotted(p) for s in statements for p in _kept(s, lambda _: [])}
        names = (scan.exposed(statements) | own) & read
        for name in sorted(names):
            self._asked = set()
            given = self._before(function, name, statements)
            used = next((u for value in given if (u := self._computed(value))), "")
            if used:
                return GIVEN.format(name, used)
        return ""

    def _before(self, function: Any, name: str, statements: Sequence[Any]) -> Iterator[Any]:
        """What a name may have been given where statements of a function begin."""
        held = self._callers.bindings(function)
        inside = {part for statement in statements for part in walk(statement)}
        first = min((held.order.get(s, 0) for s in statements), default=0)
        before = (b for b in held.found.get(name, []) if held.order[b.statement] < first)
        found = [b for b in before if b.statement not in inside]
        if name in {p.name.value for p in function.params.params}:
            yield from (b.value for b in found if isinstance(b.value, cst.BaseExpression))
        own = function.body.body if isinstance(function.body, cst.IndentedBlock) else ()
        if not any(b.statement in own for b in found):
            yield from self._given(function, name)

    def _given(self, function: Any, name: str) -> Iterator[Any]:
        """What a name that a function reads may have been given."""
        owner, _, last = name.partition(".")
        if owner == "self" and last and "." not in last:
            yield from self._callers.assigned(last)
            yield from self._added.get(name, ())
        elif name in {p.name.value for p in function.params.params}:
            for call in self._callers.calls_of(function):
                value = self._callers.argument(function, name, call)
                yield from [a.value for a in call.args if a.star] if value is None else [value]
        elif not last and name not in self._callers.bindings(function).found:
            around = self._callers.scope(function)
            found = self._callers.bindings(around).found.get(name, [])
            yield from (b.value for b in found if isinstance(b.value, cst.BaseExpression))
            yield from self._added.get(name, ()) if found else ()

    def _computed(self, value: Any) -> str:
        """The trained module that an expression was computed with; "" where there is none."""
        if value in self._asked or len(self._asked) > 200 or self._unrecorded(value):
            return ""
        self._asked.add(value)
        for part in _kept(value, self._own):
            inner: list[Any] = []
            if isinstance(part, cst.Call):
                module = self._types.of(part.func).kind == "module" and dotted(part.func)
                if module and self._is_trained(part.func, _DEEP):
                    return module
                inner = [v for f in self._own(part) for v in returns(f) if not _calls(v, f)]
            elif isinstance(part, cst.Name):
                inner = self._values(part)
            found = next((used for v in inner if (used := self._computed(v))), "")
            if found:
                return found
        return ""

    def _own(self, call: cst.Call) -> list[Any]:
        """The functions of the file that a call may be of, whose results say what it gives."""
        module = self._types.of(call.func).kind in ("module", "class")
        return [] if module else self._callers.called(call)

    def _values(self, name: cst.Name) -> list[Any]:
        """What a name may have been given where it stands."""
        scope = self._callers.scope(name)
        held = _reaching(self._callers.bindings(scope), name)
        found = [b.value for b in held if isinstance(b.value, cst.BaseExpression)]
        if not held and isinstance(scope, cst.FunctionDef):
            return list(self._given(scope, name.value))
        inside = (v for v in self._added.get(name.value, ()) if self._callers.scope(v) is scope)
        return [*found, *inside]

    def _unrecorded(self, value: Any) -> bool:
        """Whether an expression stands where no graph is recorded."""
        scope = self._callers.scope(value)
        marks = [code(d) for d in getattr(scope, "decorators", ())]
        held = self._callers.bindings(scope)
        node = value
        while node is not None:
            if isinstance(node, cst.With):
                marks += [code(item.item) for item in node.items]
            node = held.parents.get(node)
        return any(word in mark for mark in marks for word in _UNRECORDED)

    def _is_trained(self, func: Any, depth: int) -> bool:
        """Whether some optimizer of the file trains a module, as its name says here or where it is
        given by."""
        known = {name for modules in self._trained.values() for name in modules}
        if not isinstance(func, cst.Name):
            last = dotted(func).rpartition(".")[2]
            held = self._callers.assigned(last) if depth else []
            held = [value for value in held if isinstance(value, cst.Name)]
            named = any(name.rpartition(".")[2] == last for name in known)
            return named or any(self._is_trained(value, depth - 1) for value in held)
        if func.value in known or not depth:
            return func.value in known
        scope = self._callers.scope(func)
        parameters = scope.params.params if isinstance(scope, cst.FunctionDef) else ()
        if func.value not in {p.name.value for p in parameters}:
            return False
        found = [
            self._callers.argument(scope, func.value, c) for c in self._callers.calls_of(scope)
        ]
        return any(v is not None and self._is_trained(v, depth - 1) for v in found)


def _reaching(bindings: Bindings, name: cst.Name) -> list[Binding]:
    """The bindings of a name that may hold where it stands: none of an earlier turn of a loop in
    which the name is surely bound before."""
    held, at = bindings.reaching(name.value, name), bindings.statement(name)
    if at is None:
        return held
    before = [b for b in held if bindings.order[b.statement] < bindings.order[at]]
    around = bindings.loops(name)
    sure = (b.statement for b in before if bindings.leads(b.statement, at))
    return before if any(bindings.loops(s) >= around for s in sure) else held


def _calls(value: Any, function: Any) -> bool:
    """Whether what a function gives is what it gives of other arguments."""
    name = function.name.value if isinstance(function, cst.FunctionDef) else ""
    return any(dotted(call.func) == name for call in calls(value))


def _kept(value: Any, own: Callable[[cst.Call], list[Any]]) -> Iterator[Any]:
    """The parts of an expression, but for those whose graph is cut off, and what functions of the
    file are given."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        func = node.func if isinstance(node, cst.Call) else node
        if isinstance(func, cst.Attribute) and func.attr.value in _CUT:
            continue
        if isinstance(node, (cst.Comparison, cst.Lambda)) or _is_places(node):
            continue
        yield node
        if not (isinstance(node, cst.Call) and own(node)):
            waiting += children(node)


def _is_places(node: Any) -> bool:
    """Whether an expression is the places that `x.max(1)[1]` gives beside the values."""
    if not isinstance(node, cst.Subscript) or not isinstance(node.value, cst.Call):
        return False
    index = getattr(node.slice[0].slice, "value", None)
    return isinstance(index, cst.Integer) and index.value == "1" and _last(node.value) in _PAIRS


def _last(call: cst.Call) -> str:
    return dotted(call.func).rpartition(".")[2] or (
        call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
    )
