"""Where the values of expressions come from: parameters that layers have, tensors that are made.

`w = enc.weight` and `def shared(self): return self.enc.weight` give the parameter of a layer, and
`nn.Parameter(torch.zeros(3))` a new one. What is not followed is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.reaching import Binding, bound_within, returns
from torch2mlx.porting.scopes.traversal import code, of_kinds
from torch2mlx.porting.training.overlaps import Step, Steps
from torch2mlx.porting.types.attributes import is_weight
from torch2mlx.porting.types.callers import Callers
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.views import FIELDS, Views

PARAMETER = "torch.nn.Parameter"
#: Kinds of values that hold no tensors.
_PLAIN = frozenset(
    [
        *("int", "float", "bool", "str", "none", "size", "dtype", "device", "complex"),
        *("optimizer", "module", "modules", "dataset", "loader"),
    ]
)
_DEEP = 9
#: Methods that give the tensor itself, where it has the dtype.
_SAME = ("requires_grad_", "to", "cuda", "cpu", "float", "double", "half", "type", "int", "long")
#: Functions and methods that hand on what they are given, or its items.
_RELAYING = frozenset(
    [
        *("list", "tuple", "next", "iter", "reversed", "zip", "enumerate", "dict", "sorted"),
        *("filter", "OrderedDict", "collections.OrderedDict", "chain", "itertools.chain"),
    ]
)
#: Functions and methods that give all of a tensor, in its own order.
_WHOLE = frozenset(
    [
        *(*_SAME, "detach", "contiguous", "numpy", "from_numpy", "as_tensor", "asarray"),
        *("bfloat16", "type_as", "positive", "ascontiguousarray", "asanyarray"),
    ]
)
#: Functions of numpy that may give views of their first argument.
_OF_NUMPY = frozenset(
    [
        *("asarray", "ascontiguousarray", "asanyarray", "transpose", "reshape", "ravel"),
        *("squeeze", "expand_dims", "swapaxes", "moveaxis", "rollaxis", "atleast_1d", "flip"),
        *("atleast_2d", "atleast_3d", "broadcast_to", "split", "array_split", "hsplit", "vsplit"),
        *("dsplit", "diagonal", "real", "imag", "rot90", "fliplr", "flipud"),
    ]
)
_PICKING = ("get", "pop", "popitem", "setdefault", "__getitem__")
_OF_CONTAINERS = ("get", "pop", "values", "items", "copy", "popitem", "setdefault", "__getitem__")
#: Methods of modules that give their parameters.
GIVING = ("parameters", "named_parameters", "state_dict", "get_parameter")
_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)


@dataclass(frozen=True)
class Origin:
    """Where a value comes from. `kind`: "weight", what a module has at `node`; "new", what `node`
    makes, which is a parameter or not; "plain", no tensor; "given" by who calls a function; or
    "unknown". `view`: it is another tensor over the same numbers. `at`: the text of an item of
    something, "" of a whole. `through`: the calls that led to it, and loops that renew it.
    `returned`: the calls of which each makes a new one. `steps`: what it is a part by."""

    kind: str
    node: Any = None
    parameter: bool = False
    view: bool = False
    at: str = ""
    through: tuple[Any, ...] = ()
    returned: tuple[Any, ...] = ()
    steps: Steps = ()


_PLAIN_ORIGIN, _UNKNOWN, _GIVEN = Origin("plain"), Origin("unknown"), Origin("given")
Found = frozenset[Origin]
_NOTHING: Found = frozenset()


class Origins:
    """Follows values through the functions of a file."""

    def __init__(self, types: Types, callers: Callers) -> None:
        self._types, self._callers = types, callers
        self._views = Views(types.names, types.of)
        self._asked: set[tuple[Any, tuple[Any, ...]]] = set()
        self.own = _own_parameters(callers.module, types)

    # --- following

    def of(self, node: Any, through: tuple[Any, ...] = ()) -> Found:
        """Where the value of an expression comes from; nothing of an empty container."""
        key = (node, through)
        if len(through) > _DEEP:
            return frozenset([_UNKNOWN])
        if key in self._asked:
            return _NOTHING
        self._asked.add(key)
        try:
            return frozenset(self._of(node, through))
        finally:
            self._asked.discard(key)

    def _of(self, node: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        rule = getattr(self, f"_of_{type(node).__name__}", None)
        known = self._types.of(node)
        chosen = (cst.IfExp, cst.BooleanOperation, cst.NamedExpr)
        followed = known.kind == "none" or isinstance(node, chosen)
        if known.kind in _PLAIN and not followed:
            yield _PLAIN_ORIGIN
        elif rule is not None:
            yield from rule(node, through)
        elif isinstance(node, _COMPREHENSIONS):
            made = node.value if isinstance(node, cst.DictComp) else node.elt
            yield from _stepped(self.of(made, through), Step("collected", node))
        elif isinstance(node, (cst.List, cst.Tuple, cst.Set, cst.Dict)):
            for element in node.elements:
                yield from _stepped(self.of(element.value, through), Step("listed", element))
        elif isinstance(node, (cst.BaseNumber, cst.BaseString, cst.Comparison, cst.Lambda)):
            yield _PLAIN_ORIGIN
        else:
            yield replace(_UNKNOWN, node=node, through=through)

    def _of_IfExp(self, node: cst.IfExp, through: tuple[Any, ...]) -> Iterator[Origin]:
        yield from self.of(node.body, through)
        yield from self.of(node.orelse, through)

    def _of_BooleanOperation(self, node: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        yield from self.of(node.left, through)
        yield from self.of(node.right, through)

    def _of_NamedExpr(self, node: cst.NamedExpr, through: tuple[Any, ...]) -> Iterator[Origin]:
        yield from self.of(node.value, through)

    def _of_StarredElement(self, node: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        yield from self.of(node.value, through)

    def _of_UnaryOperation(self, node: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        yield Origin("new", node, through=through)

    def _of_BinaryOperation(self, node: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        """New, but for lists that are joined or repeated."""
        kinds = {self._types.of(part).kind for part in (node.left, node.right)}
        if kinds & {"list", "tuple"} or isinstance(node.left, (cst.List, cst.Tuple)):
            for part in (node.left, node.right):
                repeated = isinstance(node.operator, cst.Multiply)
                found = self.of(part, through)
                yield from _stepped(found, Step("repeated", node)) if repeated else found
        else:
            yield Origin("new", node, through=through)

    # names

    def _of_Name(self, node: cst.Name, through: tuple[Any, ...]) -> Iterator[Origin]:
        if node.value in ("None", "True", "False"):
            yield _PLAIN_ORIGIN
            return
        scope = self._callers.scope(node)
        yield from self._named(node, scope, through)

    def _named(self, node: cst.Name, scope: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        name, held = node.value, self._callers.bindings(scope)
        inner = bound_within(held, node)
        if inner is not None:
            loop, over = inner
            step = Step("each", loop)
            again = (*through, loop)
            yield from self._items(over, node, again, step) if over is not None else [_GIVEN]
            return
        found = held.reaching(name, node)
        for binding in found:
            yield from self._bound(binding, node, through)
        if found:
            return
        if isinstance(scope, cst.FunctionDef):
            parameter = next((p for p in _parameters(scope) if p.name.value == name), None)
            if parameter is not None:
                yield from self._given(scope, parameter, through)
            else:
                around = self._callers.scope(scope)
                yield from self._outer(name, around, through)
        else:
            yield replace(_UNKNOWN, node=None)

    def _outer(self, name: str, scope: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        """The value of a name of the surroundings."""
        found = self._callers.bindings(scope).found.get(name, [])
        for binding in found:
            yield from self._bound(binding, None, through)
        if not found:
            yield _UNKNOWN

    def _bound(self, binding: Binding, node: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        if binding.value is None or isinstance(binding.value, (cst.FunctionDef, cst.ClassDef)):
            yield _UNKNOWN
        elif not binding.item:
            yield from self.of(binding.value, through)
        else:
            renewed = isinstance(binding.statement, cst.For)
            again = (*through, binding.statement) if renewed else through
            kind = "each" if renewed else "pick"
            step = Step(kind, binding.statement, None if renewed else binding.place)
            yield from self._items(binding.value, node, again, step)

    def _items(
        self, over: Any, node: Any, through: tuple[Any, ...], step: Step
    ) -> Iterator[Origin]:
        """Items of what an expression gives."""
        text = code(node) if node is not None else "?"
        rows = (Step("rows"),) if self._is_array(over) else ()
        for origin in self.of(over, through):
            tensor = origin.kind == "new" and self._types.of(over).tensor
            steps = (*origin.steps, *rows, step)
            yield replace(origin, at=text, view=origin.view or tensor, steps=steps)

    def _is_array(self, node: Any) -> bool:
        return self._types.of(node).kind in ("tensor", "numpy")

    def _given(self, scope: Any, parameter: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        """What the calls of a function give a parameter; of the call that led here, that."""
        led = [c for c in through if isinstance(c, cst.Call) and self._is_call(c, scope)]
        callers = led[-1:] or self._callers.calls_of(scope)
        if parameter.name.value in ("self", "cls"):
            yield _GIVEN
        elif not callers:
            yield replace(_GIVEN, node=parameter)
        for call in callers:
            value = self._callers.argument(scope, parameter.name.value, call)
            if value is None:
                value = parameter.default
            if value is None:
                yield _GIVEN
            else:
                before = tuple(c for c in through if c is not call)
                yield from self.of(value, (*before, call))

    def _is_call(self, call: cst.Call, function: Any) -> bool:
        return any(call is other for other in self._callers.calls_of(function))

    # attributes and items

    def _of_Attribute(self, node: cst.Attribute, through: tuple[Any, ...]) -> Iterator[Origin]:
        name, owner = node.attr.value, self._types.of(node.value)
        if name in FIELDS and owner.kind in ("tensor", "numpy", "unknown"):
            found = _viewed(self.of(node.value, through))
            yield from found if name == "data" else _stepped(found, Step("view", node))
        elif self.is_parameter(node):
            yield Origin("weight", node, parameter=True, through=through)
        else:
            yield from self._attribute(node, through)

    def is_parameter(self, node: cst.Attribute) -> bool:
        """Whether an attribute is a parameter of a module, or may be one by its name."""
        name, owner = node.attr.value, self._types.of(node.value)
        if owner.kind not in ("module", "unknown") or self._types.names.of(node):
            return False
        plain = dotted(node.value).rpartition(".")[2] in ("args", "config", "cfg", "opt", "hparams")
        if plain and owner.kind == "unknown":
            return False
        return name in ("weight", "bias") or is_weight(name) or name in self.own

    def _attribute(self, node: cst.Attribute, through: tuple[Any, ...]) -> Iterator[Origin]:
        """What the file gives attributes of a name, and what its properties of it give."""
        name, found = node.attr.value, False
        for function in self._callers.properties(name):
            found = True
            for value in returns(function):
                yield from self.of(value, (*through, node))
        for value in self._callers.assigned(name):
            found = True
            yield from self.of(value, through)
        if not found:
            yield Origin("unknown", node, through=through)

    def _of_Subscript(self, node: cst.Subscript, through: tuple[Any, ...]) -> Iterator[Origin]:
        owner, index = node.value, node.slice[0].slice
        if self._types.of(owner).kind in ("tensor", "numpy"):
            if not self._views.basic(node):
                yield Origin("new", node)
            item = code(node) if _number(index) is not None and len(node.slice) == 1 else ""
            found = self.of(owner, through) if self._views.basic(node) else ()
            for origin in _stepped(found, Step("view", node)):
                yield replace(origin, view=True, at=origin.at or item)
            return
        whole = self._whole(owner)
        picked = _picked(whole, index)
        if picked is not None:
            found = self.of(picked, through)
            named = isinstance(whole, cst.Dict)
            yield from (replace(o, at=code(node)) for o in found) if named else found
            return
        for origin in _stepped(self.of(owner, through), Step("pick", node)):
            yield replace(origin, at=code(node))

    def _whole(self, node: Any) -> Any:
        """The expression that a name was given, where there is one."""
        if not isinstance(node, cst.Name):
            return node
        found = self._callers.bindings(self._callers.scope(node)).reaching(node.value, node)
        return found[0].value if len(found) == 1 and not found[0].item else node

    # calls

    def _of_Call(self, node: cst.Call, through: tuple[Any, ...]) -> Iterator[Origin]:
        full, func = self._types.names.of(node.func), node.func
        given = [a.value for a in node.args]
        if full == PARAMETER:
            yield Origin("new", node, parameter=True, through=through)
        elif full == "copy.deepcopy" or dotted(func) == "deepcopy":
            yield Origin("new", node, through=through)
        elif full.startswith(("torch.", "numpy.")):
            yield from self._of_torch(node, through)
        elif dotted(func) in _RELAYING:
            for value in given:
                found = self.of(value, through)
                yield from _stepped(found, Step("rows")) if self._is_array(value) else found
        elif dotted(func) == "getattr" and len(given) > 1:
            yield from self._asked_for(node, through)
        elif isinstance(func, cst.Attribute) and self._is_method(func):
            yield from self._of_method(node, func, through)
        else:
            yield from self._of_own(node, through)

    def _asked_for(self, node: cst.Call, through: tuple[Any, ...]) -> Iterator[Origin]:
        """`getattr(layer, name)`: a parameter, of what is a layer of torch's."""
        owner = self._types.of(node.args[0].value)
        layer = owner.kind == "module" and owner.name.startswith("torch.nn.")
        kind = "weight" if layer and owner.name != "torch.nn.Sequential" else "unknown"
        yield Origin(kind, node, parameter=layer, at=code(node), through=through)

    def _of_torch(self, node: cst.Call, through: tuple[Any, ...]) -> Iterator[Origin]:
        name, inner = self._views.step(node)
        full = self._types.names.of(node.func)
        if full.startswith("numpy.") and node.args:
            name = full.rpartition(".")[2]
            inner = node.args[0].value if name in _OF_NUMPY else None
        if inner is None:
            yield Origin("new", node, through=through)
            return
        found = _viewed(self.of(inner, through))
        yield from found if name in _WHOLE else _stepped(found, Step("view", node))

    def _is_method(self, func: cst.Attribute) -> bool:
        """Whether a method is of tensors, containers or modules, and not of a class of the file."""
        name = func.attr.value
        return not self._callers.named(name) or name in (*GIVING, "clone", "detach")

    def _of_method(self, node: Any, func: Any, through: tuple[Any, ...]) -> Iterator[Origin]:
        name, owner = func.attr.value, self._types.of(func.value)
        if name in GIVING and owner.kind in ("module", "modules", "unknown"):
            yield Origin("weight", node, True, name == "state_dict", code(node), through)
            return
        _, inner = self._views.step(node)
        in_place = name.endswith("_") and not name.endswith("__")
        if inner is not None or in_place:
            whole = name in _WHOLE or in_place
            found = self.of(func.value, through)
            for origin in found if whole else _stepped(found, Step("view", node)):
                yield origin if name in _SAME or in_place else replace(origin, view=True)
        elif name in _OF_CONTAINERS and not self._is_array(func.value):
            picks = name in _PICKING
            for origin in self.of(func.value, through):
                steps = (*origin.steps, Step("pick", node)) if picks else origin.steps
                yield replace(origin, at=code(node), steps=steps)
        elif owner.tensor or name in ("clone", "repeat", "tolist", "item"):
            yield Origin("new", node, through=through)
        else:
            yield Origin("unknown", node, through=through)

    def _of_own(self, node: cst.Call, through: tuple[Any, ...]) -> Iterator[Origin]:
        """What a function of the file gives."""
        functions = self._callers.called(node)
        if self._types.of(node).kind in ("module", "modules") or not functions:
            yield Origin("unknown", node, through=through)
            return
        for function in functions:
            for value in returns(function):
                for origin in self.of(value, (*through, node)):
                    yield self._returned(origin, function, node)

    def _returned(self, origin: Origin, function: Any, call: cst.Call) -> Origin:
        """What a call gives: made in it, or made before."""
        inside = origin.node is not None and self._callers.scope(origin.node) is function
        if not inside and not origin.returned:
            return origin
        return replace(origin, returned=(*origin.returned, call))


def _viewed(found: Iterable[Origin]) -> Iterator[Origin]:
    return (replace(origin, view=True) for origin in found)


def _stepped(found: Iterable[Origin], step: Step) -> Iterator[Origin]:
    return (replace(origin, steps=(*origin.steps, step)) for origin in found)


def _own_parameters(module: cst.Module, types: Types) -> frozenset[str]:
    """Names of the parameters that classes of the file have of their own."""
    found = set()
    for made in of_kinds(module, cst.Assign):
        if isinstance(made.value, cst.Call) and types.names.of(made.value.func) == PARAMETER:
            for target in made.targets:
                if isinstance(target.target, cst.Attribute):
                    found.add(target.target.attr.value)
    for call in of_kinds(module, cst.Call):
        func = call.func
        named = isinstance(func, cst.Attribute) and func.attr.value == "register_parameter"
        first = call.args[0].value if named and call.args else None
        if isinstance(first, cst.SimpleString):
            found.add(str(first.evaluated_value))
    return frozenset(found - {"data"})


def _parameters(function: Any) -> list[Any]:
    held = function.params
    return [*held.posonly_params, *held.params, *held.kwonly_params]


def _picked(node: Any, index: Any) -> Any:
    """What an index picks of a list or dict that is written out; None of others."""
    if isinstance(node, (cst.Tuple, cst.List)) and not _starred(node):
        place, count = _number(index), len(node.elements)
        if place is None or not -count <= place < count:
            return None
        return node.elements[place].value
    key = getattr(index, "value", None)
    if isinstance(node, cst.Dict) and isinstance(key, cst.SimpleString):
        pairs = [(getattr(e, "key", None), e.value) for e in node.elements]
        if all(isinstance(name, cst.SimpleString) for name, _ in pairs):
            return next((v for n, v in reversed(pairs) if code(n) == code(key)), None)
    return None


def _starred(node: Any) -> bool:
    return any(isinstance(e, cst.StarredElement) for e in node.elements)


def _number(index: Any) -> int | None:
    at = index.value if isinstance(index, cst.Index) else None
    if isinstance(at, cst.Integer):
        return int(at.value)
    if isinstance(at, cst.UnaryOperation) and isinstance(at.expression, cst.Integer):
        return -int(at.expression.value) if isinstance(at.operator, cst.Minus) else None
    return None
