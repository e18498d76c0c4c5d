"""Views that a function of the file changes in place: `move(self.rows[0])`, where `move` has
`row.add_(1)`. torch changes the tensor that the view is of; in MLX a view is an array of its own.

What functions change is followed from the change to their parameters, and from these to what calls
give them. A view of what is read again is refused, and `move(w.data)` becomes `move(w)`.

A view that a line ahead of a backward pass changes is refused here, too: the step that is made of
these lines computes the loss apart from lines that it does not see to be of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.reaching import returns
from torch2mlx.porting.scopes.traversal import is_backward, of_kinds, walk
from torch2mlx.porting.types.callers import Callers
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.sharing import Sharing
from torch2mlx.porting.types.statistics import MOVING, is_statistic, stays
from torch2mlx.porting.types.views import Views, attached, changed, changes_in_place

_WHY = "`{0}` is changed in place through a view, which MLX's arrays have not: give the function "
_WHY += "`{0}` itself, or assign what it returns"
_UNSEEN = "what is changed in place is not seen: name each tensor that is given"
_CONTAINERS = ("list", "tuple", "dict", "modules", "batch")
_ITEMS = ("list", "tuple", "zip", "enumerate", "reversed", "iter")
_DEEP = 8


class ChangedViews:
    """Finds what is refused, by statement, and the `.data` that is left out, by argument."""

    def __init__(self, module: cst.Module, types: Types) -> None:
        self._types = types
        self._callers = Callers(module, types)
        self._sharing = Sharing(module, types.names, types.of)
        self._views = Views(types.names, types.of)
        self.refused: dict[Any, str] = {}
        self.whole: dict[Any, Any] = {}  # arguments -> the tensors that they are over
        self._marked: set[tuple[Any, str, bool]] = set()
        self._waiting: list[tuple[Any, str, bool]] = []
        #: The last statement of each function, or of the file, that goes back through a loss.
        self._backward = self._last_backward(module)
        for call in of_kinds(module, cst.Call):
            self._of_call(call)
        for made in of_kinds(module, cst.AugAssign):
            self._changed(made.target, made)
        for target in of_kinds(module, cst.AssignTarget):
            if isinstance(target.target, cst.Subscript):
                self._changed(target.target, target)
        while self._waiting:
            self._called(*self._waiting.pop())

    # --- what a function changes

    def _of_call(self, call: cst.Call) -> None:
        given, full = list(call.args), self._types.names.of(call.func)
        partial = full == "functools.partial" and len(given) > 1
        if partial:
            full, given = self._types.names.of(given[0].value), given[1:]
        for argument in given:
            if argument.keyword is not None and argument.keyword.value == "out":
                self._part(argument.value)
        if full in MOVING and not stays(given, full):
            for i, argument in enumerate(given):
                # views that such a call itself is given are told by the rule for it
                if partial or argument.star or not self._told(argument.value):
                    self._statistic(argument, i, full, call)
        elif not full and changes_in_place(call):
            self._changed(changed(call), call)

    def _last_backward(self, module: cst.Module) -> dict[Any, int]:
        calls = list(filter(is_backward, of_kinds(module, cst.Call)))
        self._order = {node: i for i, node in enumerate(walk(module))} if calls else {}
        return {self._callers.scope(call): self._order[call] for call in calls}

    def _changed(self, place: Any, node: Any) -> None:
        """A place that a statement changes in place."""
        self._part(place)
        if self._order.get(node, 0) < self._backward.get(self._callers.scope(node), -1):
            statement, (name, _) = self._callers.statement(node), self._sharing.held(place)
            why = self._sharing.conflict(statement, name) if name else ""
            if why:
                self._refuse(node, why)

    def _told(self, node: Any) -> bool:
        """Whether an argument is a view itself, or a name that its function gives one."""
        held = self._callers.bindings(self._callers.scope(node)).found.get(dotted(node), [])
        plain = held if isinstance(node, cst.Name) else []
        values = (node, *(b.value for b in plain if b.value is not None and not b.item))
        return any(self._views.step(value)[1] is not None for value in values)

    def _statistic(self, argument: cst.Arg, place: int, full: str, call: Any) -> None:
        """An argument of a function that moves running statistics."""
        if argument.star:
            self._given(argument.value, True, call, 0)
        elif is_statistic(argument, place, full):
            self._given(argument.value, False, call, 0)

    def _part(self, place: Any) -> None:
        """A place that is changed in place: what it is a part of may be a parameter's."""
        while True:
            inner = self._views.step(place)[1]
            if inner is None and isinstance(place, cst.Subscript):
                inner = place.value
            if inner is None:
                break
            place = inner
        if isinstance(place, cst.Name):
            self._mark_name(place, False, 0)

    def _mark_name(self, node: cst.Name, item: bool, deep: int) -> None:
        """Marks the parameters that a name may stand for."""
        held = self._callers.bindings(self._callers.scope(node))
        for binding in held.reaching(node.value, node) if deep < _DEEP else ():
            if isinstance(binding.value, cst.Name):
                self._mark_name(binding.value, item or binding.item, deep + 1)
        if not held.surely(node.value, node):
            self._mark(node, item)

    def _mark(self, node: cst.Name, item: bool) -> None:
        scope = self._callers.scope(node)
        function = isinstance(scope, cst.FunctionDef)
        key = (scope, node.value, item)
        if function and node.value in _names(scope) and key not in self._marked:
            self._marked.add(key)
            self._waiting.append(key)

    # --- what calls give it

    def _called(self, function: Any, name: str, item: bool) -> None:
        for call in self._callers.calls_of(function):
            for value, starred in self._callers.arguments(function, name, call):
                if name in _stars(function):  # what is given one by one are its items
                    self._given(value, starred, call, 0)
                else:
                    self._given(value, item or starred, call, 0)

    def _given(self, node: Any, item: bool, call: Any, deep: int) -> None:
        """Looks at an expression that a call has changed in place, or the items of it."""
        if deep > _DEEP:
            return
        whole = attached(node)
        if whole is not node and not item and not self._viewed(whole):
            if deep:
                self._view(whole, call)
                return
            self.whole[node] = whole
        node = whole
        if isinstance(node, cst.Name):
            self._name(node, item, call, deep)
        elif self._viewed(node) and not item:
            self._view(self._views.step(node)[1], call)
        elif isinstance(node, cst.Subscript) and not item:
            self._given(node.value, True, call, deep + 1)
        elif item and (self._tensor(node) or self._viewed(node)):
            self._view(node, call)
        else:
            listed = isinstance(node, (cst.List, cst.Tuple))
            for part, of_items in self._parts(node, item):
                self._given(part, of_items, call, deep if listed else deep + 1)

    def _name(self, node: cst.Name, item: bool, call: Any, deep: int) -> None:
        held = self._callers.bindings(self._callers.scope(node))
        for binding in held.reaching(node.value, node):
            if binding.value is not None:
                self._given(binding.value, item or binding.item, call, deep + 1)
        if not held.surely(node.value, node):
            if self._callers.of_lambda(node) and not item:
                self._refuse(call, _UNSEEN)
            elif item and self._types.of(node).tensor:
                self._view(node, call)
            else:
                self._mark(node, item)

    def _viewed(self, node: Any) -> bool:
        """Whether an expression is a view of a tensor, and no item of a container."""
        step, inner = self._views.step(node)
        if inner is None or step in _CASTS:
            return False
        return step != "[]" or self._types.of(inner).kind not in _CONTAINERS

    def _tensor(self, node: Any) -> bool:
        """Whether an expression is a tensor, by what attributes of its name are given too."""
        given = self._callers.assigned(node.attr.value) if isinstance(node, cst.Attribute) else ()
        return any(self._types.of(each).tensor for each in (node, *given))

    def _view(self, base: Any, call: Any) -> None:
        while self._views.step(base)[1] is not None:
            base = self._views.step(base)[1]
        statement, name = self._callers.statement(call), dotted(base)
        near = self._callers.scope(base) is self._callers.scope(call)
        if name and (not near or self._sharing.outlives(statement, name)):
            self._refuse(call, _WHY.format(name))

    def _refuse(self, call: Any, why: str) -> None:
        self.refused.setdefault(self._callers.statement(call), why)

    def _parts(self, node: Any, item: bool) -> Iterator[tuple[Any, bool]]:
        """What an expression may stand for, and whether the items of that are meant."""
        if isinstance(node, cst.IfExp):
            yield from ((part, item) for part in (node.body, node.orelse))
        elif isinstance(node, (cst.List, cst.Tuple, cst.Dict)):
            starred = (cst.StarredElement, cst.StarredDictElement)
            yield from ((e.value, isinstance(e, starred)) for e in node.elements)
        elif isinstance(node, (cst.ListComp, cst.GeneratorExp)) and item:
            yield node.elt, False
        elif isinstance(node, cst.Attribute):
            yield from ((value, item) for value in self._callers.assigned(node.attr.value))
        elif isinstance(node, cst.Call) and dotted(node.func) in _ITEMS and item:
            yield from ((argument.value, True) for argument in node.args)
        elif isinstance(node, cst.Call):
            for function in self._callers.called(node):
                yield from ((value, item) for value in returns(function))


#: Steps that make another tensor, but where nothing is to be done.
_CASTS: tuple[str, ...] = ("float", "double", "half", "bfloat16", "long", "int", "to", "type")
_CASTS += ("type_as", "cpu", "cuda", "numpy", "data")


def _names(function: Any) -> set[str]:
    held = function.params
    found = {p.name.value for p in (*held.posonly_params, *held.params, *held.kwonly_params)}
    return found | _stars(function)


def _stars(function: Any) -> set[str]:
    stars = (function.params.star_arg, function.params.star_kwarg)
    return {s.name.value for s in stars if isinstance(s, cst.Param)}


class _Whole(cst.CSTTransformer):
    def __init__(self, whole: dict[Any, Any]) -> None:
        super().__init__()
        self._whole = whole

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        whole = self._whole.get(original_node.value)
        return updated_node if whole is None else updated_node.with_changes(value=whole)

    def leave_Element(self, original_node: cst.Element, updated_node: cst.Element) -> cst.Element:
        whole = self._whole.get(original_node.value)
        return updated_node if whole is None else updated_node.with_changes(value=whole)


def with_views_refused(module: cst.Module, types: Types, report: Report) -> cst.Module:
    """The file, in which no function changes what it is given `.data` of; views that functions
    change are refused."""
    found = ChangedViews(module, types)
    for statement, why in found.refused.items():
        report.refuse(statement, why, code=Code.UNCLEAR)
    if not found.whole:
        return module
    made: cst.Module = passed(module, _Whole(found.whole))
    return made
