"""Weights and options of layers as torch has them: `conv.weight` in torch's layout,
`lstm.bias_hh_l0` under torch's name, `fc.in_features` at all.

MLX keeps some weights otherwise (see torch2mlx.kit.weights) and few options (see
torch2mlx.kit.options). What reads or sets one of these becomes a call that does, before anything
else is rewritten, so that all that follows sees a tensor of torch's layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

from torch2mlx.catalog.layers.turned import OPTIONS, SIZES, TURNED
from torch2mlx.porting.report import Report
from torch2mlx.porting.rules.buffers import is_computed
from torch2mlx.porting.rules.no_grad import STOPPING
from torch2mlx.porting.rules.text import expression
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import of_kinds
from torch2mlx.porting.types.attributes import is_weight
from torch2mlx.porting.types.kinds import Type
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.views import changes_in_place, is_data, without_data

_LAYERS = "torch.nn."
#: What asks for a parameter itself, not for its numbers.
_OF_PARAMETERS = ("requires_grad", "grad", "requires_grad_", "register_hook", "retain_grad")
#: Functions of torch.nn.init that treat every item alike, and those that do not.
_ITEMWISE = ("normal_", "uniform_", "constant_", "zeros_", "ones_", "trunc_normal_")
_BY_LAYOUT = (
    *("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_"),
    *("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal", "eye_"),
)
_INIT = "torch.nn.init."
#: Methods in place that do.
_ITEMWISE_METHODS = ("normal_", "uniform_", "fill_", "zero_")
#: Methods in place that give an array what they are told, and nothing of what it was.
_GIVEN = {"fill_": None, "copy_": None, "zero_": "0"}


class LayerWeights(cst.CSTTransformer):
    """Rewrites them, where the types of a file tell that a layer has them."""

    def __init__(self, types: Types, report: Report) -> None:
        super().__init__()
        self._types, self._report = types, report
        self._as_they_are: set[cst.CSTNode] = set()
        self._targets: set[cst.CSTNode] = set()
        self._statement: cst.SimpleStatementLine | None = None  # whose line reports say
        self._functions: list[str] = []
        self._no_grads = 0  # that the place is in

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        self._targets.add(node.target)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._targets.add(node.target)

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self._statement = node

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        self._statement = None
        return updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._functions.append(node.name.value)

    def visit_With(self, node: cst.With) -> None:
        self._no_grads += self._stops(node)

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> cst.With:
        self._no_grads -= self._stops(original_node)
        return updated_node

    def _stops(self, node: cst.With) -> int:
        """How many of the contexts of a `with` stop gradients."""
        calls = [item.item.func for item in node.items if isinstance(item.item, cst.Call)]
        return sum(self._types.names.of(func) in STOPPING for func in calls)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._functions.pop()
        return updated_node

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if node.attr.value in _OF_PARAMETERS:
            self._as_they_are.add(node.value)

    def visit_Del(self, node: cst.Del) -> None:
        """`del layer.weight` is of the array that MLX's layer has under this name, or of none."""
        several = node.target.elements if isinstance(node.target, (cst.Tuple, cst.List)) else ()
        for target in (node.target, *(each.value for each in several)):
            self._as_they_are.add(target)
            if isinstance(target, cst.Attribute) and is_weight(target.attr.value):
                why = f"del of {target.attr.value}, which has another name in MLX"
                self._report.refuse(self._statement or node, why)

    def visit_Comparison(self, node: cst.Comparison) -> None:
        if any(isinstance(c.operator, (cst.Is, cst.IsNot)) for c in node.comparisons):
            self._as_they_are.add(node.left)

    def visit_Assign(self, node: cst.Assign) -> None:
        """`a.weight = b.weight` ties the two, which is left to what does that."""
        target, value = node.targets[0].target, node.value
        both = isinstance(target, cst.Attribute) and isinstance(value, cst.Attribute)
        if both and len(node.targets) == 1 and _last(target) == _last(value):
            self._as_they_are |= {target, value}

    def visit_Expr(self, node: cst.Expr) -> None:
        """What starts every item alike may see MLX's layout."""
        call: Any = node.value
        if not isinstance(call, cst.Call):
            return
        full = self._types.names.of(call.func)
        place: Any = without_data(call.args[0].value if call.args else None)
        alike = full.startswith(_INIT) and full.removeprefix(_INIT) in _ITEMWISE
        func: Any = call.func
        if not full and changes_in_place(call) and func.attr.value in _ITEMWISE_METHODS:
            alike, place = True, without_data(func.value)
        if alike and _last(place) == "weight":
            self._as_they_are.add(place)

    # --- reading ---

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        if original_node in self._as_they_are:
            return updated_node
        name = original_node.attr.value
        if name in _ALL and original_node not in self._targets:
            return _function(_ALL[name], updated_node.value)
        if self._is_turned(original_node):
            self._note(original_node, "in torch's layout, under torch's name")
            return _call("weights.get", updated_node.value, name)
        if self._is_option(original_node):
            size = SIZES.get(self._layer(self._types.of(original_node.value)), {}).get(name)
            if size is not None and original_node not in self._targets:
                weight = cst.Attribute(updated_node.value, cst.Name("weight"))
                return cst.Subscript(cst.Attribute(weight, cst.Name("shape")), _index(size))
            return _call("options.of", updated_node.value, name)
        return updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        """`getattr(lstm, name)` of a layer whose weights have other names in MLX."""
        func, given = original_node.func, original_node.args
        if self._resets(original_node):
            owner: Any = updated_node.func
            return _plain(f"{KIT}.{_RESETS[owner.attr.value][0]}", [cst.Arg(owner.value)])
        if isinstance(func, cst.Name) and func.value == "hasattr" and _asked(given) in _RESETS:
            return _plain(f"{KIT}.{_RESETS[_asked(given)][1]}", [updated_node.args[0]])
        if isinstance(func, cst.Name) and func.value in _ASKING and self._asks_option(given):
            return _plain(f"{KIT}.{_ASKING[func.value]}", list(updated_node.args))
        named = isinstance(func, cst.Name) and func.value == "getattr" and len(given) == 2
        if not named or self._layer(self._types.of(given[0].value)) not in _WITH_OTHERS:
            return updated_node
        return _plain(f"{KIT}.weights.get", list(updated_node.args))

    def _asks_option(self, given: Sequence[cst.Arg]) -> bool:
        """Whether `hasattr(layer, "name")` or `getattr` asks for an option of a layer."""
        name = _asked(given)
        kind = self._types.of(given[0].value).kind if name in _ALL_OPTIONS else ""
        return kind == "module" or (kind == "unknown" and name in _OF_LAYERS_ALONE)

    def _resets(self, call: cst.Call) -> bool:
        """Whether a call starts the weights or statistics of a layer of torch's anew, or may."""
        func = call.func
        if not isinstance(func, cst.Attribute) or func.attr.value not in _RESETS or call.args:
            return False
        own = self._types.of(func.value).name in self._types.names.classes
        plain = isinstance(func.value, cst.Name) and func.value.value == "self"
        return not own and not plain and not isinstance(func.value, cst.Call)

    def _note(self, node: cst.Attribute, why: str) -> None:
        self._report.change(self._statement or node, node.attr.value, why)

    def _is_turned(self, node: Any) -> bool:
        """Whether an expression is a weight that MLX has otherwise."""
        if not isinstance(node, cst.Attribute):
            return False
        name, owner = node.attr.value, self._types.of(node.value)
        if name != "weight" and not is_weight(name):
            return False
        kind = self._layer(owner)
        if kind:
            return name in TURNED.get(kind, ()) or (is_weight(name) and kind in _WITH_OTHERS)
        if owner.name or owner.kind not in ("module", "unknown"):
            return False
        held = self._held(node.value)
        return not held or any(name in TURNED.get(self._layer(kind), ()) for kind in held)

    def _held(self, node: Any) -> list[Type]:
        """What the file's classes have as the attribute that an expression reads of something;
        none where it is no attribute, or some class has something that is no known module."""
        name = _last(node)
        found = [held[name] for held in self._types.attributes.values() if name in held]
        known = all(kind.kind == "module" and kind.name for kind in found)
        return found if name and known else []

    def _layer(self, owner: Type) -> str:
        """The layer of torch.nn that an expression is, or is a subclass of; "" of others."""
        name, seen = owner.name if owner.kind == "module" else "", set()
        while name and name not in seen and not name.startswith(_LAYERS):
            seen.add(name)
            node = self._types.names.classes.get(name)
            bases = node.bases if node is not None else ()
            name = next(filter(None, (self._base(base.value) for base in bases)), "")
        return name.removeprefix(_LAYERS) if name.startswith(_LAYERS) else ""

    def _base(self, node: Any) -> str:
        full = self._types.names.of(node)
        return full or (node.value if isinstance(node, cst.Name) else "")

    def _is_option(self, node: cst.Attribute) -> bool:
        name, owner = node.attr.value, self._types.of(node.value)
        kind = self._layer(owner)
        if kind:
            own = self._types.attributes.get(owner.name, {})
            return name in OPTIONS.get(kind, ()) and name not in own
        unnamed = owner.kind == "module" and not owner.name and name in _ALL_OPTIONS
        return unnamed and not any(name in held for held in self._types.attributes.values())

    # --- setting ---

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        targets = [_target(target.target) for target in updated_node.targets]
        if not any(targets) and not _unpacks(updated_node):
            return updated_node
        if len(targets) > 1 or targets[0] is None:
            why = "weights of layers are set one by one: a statement for each"
            self._report.refuse(self._statement or original_node, why)
            return original_node
        value, old = original_node.value, original_node.targets[0].target
        given = self._types.of(value).tensor and is_computed(value, self._types.names)
        return self._set(targets[0], old, updated_node, updated_node, given and not is_data(old))

    def _set(
        self, found: tuple[cst.Call, bool], old: Any, node: Any, made: Any, given: bool = False
    ) -> Any:
        """A statement that gives a weight, or places of it, the value of an assignment; `given`:
        it surely is no parameter, so that in torch only a module's plain attribute takes it."""
        call, parts = found
        if parts:
            self._check_parts(old)
            return made.with_changes(
                targets=[cst.AssignTarget(_with_items(made.targets[0].target))]
            )
        if not is_weight(_name(call)) and _name(call) != "weight":
            return cst.Expr(_put("options.put", call, node.value))
        value = self._kept(call, old, node.value)
        return cst.Expr(_put("training.give" if given else "weights.put", call, value))

    def _check_parts(self, node: Any) -> None:
        """Refuses parts of a weight that a forward pass sets, whose gradient would be lost."""
        if self._functions[-1:] == ["forward"]:
            why = "a part of a weight is set within a forward pass: set the whole weight"
            self._report.refuse(self._statement or node, why)

    def _kept(self, call: cst.Call, old: Any, value: Any) -> Any:
        """A value that a forward pass gives a weight past autograd, with the weight's gradient."""
        if self._functions[-1:] != ["forward"] or not (is_data(old) or self._no_grads):
            return value
        return _function("training.overwritten", call, value)

    def leave_AugAssign(self, original_node: cst.AugAssign, updated_node: cst.AugAssign) -> Any:
        found = _target(updated_node.target)
        if found is None:
            return updated_node
        call, parts = found
        if parts:
            self._check_parts(original_node)
            return updated_node.with_changes(target=_with_items(updated_node.target))
        operator = _OPERATORS[type(updated_node.operator)]
        value: Any = cst.BinaryOperation(call, operator, _bracketed(updated_node.value))
        made = cst.Assign([cst.AssignTarget(updated_node.target)], value)
        return self._set(found, original_node.target, made, made)

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> Any:
        """`conv.weight.data.normal_()` and `nn.init.xavier_uniform_(conv.weight)`."""
        call: Any = updated_node.value
        if not isinstance(call, cst.Call):
            return updated_node
        full = self._types.names.of(call.func)
        if full.startswith(_INIT) and full.removeprefix(_INIT) in (*_BY_LAYOUT, *_ITEMWISE):
            return self._started(full, original_node, updated_node)
        func: Any = call.func
        if not changes_in_place(call) or func.attr.value in _OF_PARAMETERS:
            return updated_node
        found = _target(_changed(call))
        if found is None:
            return updated_node
        return self._changed_in_place(found, call, original_node.value)

    def _started(self, full: str, original: Any, updated: cst.Expr) -> Any:
        call: Any = updated.value
        found = _target(call.args[0].value)
        place = original.value.args[0].value
        while is_data(place):
            place = place.value
        if found is None or found[1]:
            return updated
        function = expression(f"{KIT}.init.{full.removeprefix(_INIT).rstrip('_')}")
        given = [*found[0].args, cst.Arg(function), *call.args[1:]]
        self._note(place, "drawn in torch's layout")
        return updated.with_changes(value=_plain(f"{KIT}.weights.start", given))

    def _changed_in_place(self, found: tuple[cst.Call, bool], call: Any, old: Any) -> Any:
        held, parts = found
        method, chained = call.func.attr.value, changes_in_place(call.func.value)
        if parts:
            self._check_parts(old)
            base = _changed(call)
            place = _with_items(without_data(base))
            if method in _GIVEN and not chained:
                value = expression(_GIVEN[method] or "0") if _GIVEN[method] else call.args[0].value
            else:
                copied = cst.Call(cst.Attribute(place, cst.Name("clone")))
                value = call.deep_replace(base, copied)
            return cst.Assign([cst.AssignTarget(place)], value)
        if method == "copy_" and not chained:
            value = self._kept(held, old.func.value, call.args[0].value)
            return cst.Expr(_put("weights.copy", held, value))
        return cst.Expr(_put("weights.put", held, self._kept(held, old.func.value, call)))


#: Methods that start a layer anew -> what does, and what says whether it can be done.
_RESETS = {
    "reset_parameters": ("resetting.reset", "resetting.can"),
    "reset_running_stats": ("resetting.statistics", "resetting.tracks"),
}
_OTHERS = ("weight", *_RESETS, "_all_weights", "all_weights", "children", "modules")
_ALL = {"_all_weights": "weights.rows", "all_weights": "weights.rows_of_arrays"}
#: Layers of whose weights more than `weight` have other names in MLX.
_WITH_OTHERS = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "MultiheadAttention")
#: Options that tell by their names that something is a layer.
_ALL_OPTIONS = frozenset(name for names in OPTIONS.values() for name in names)
_ALL_OPTIONS -= {"bias", "size", "mode", "p", "dim", "alpha", "dropout"}
#: Options that little else has.
_OF_LAYERS_ALONE = ("in_features", "out_features", "in_channels", "out_channels", "num_features")
_ASKING = {"hasattr": "options.has", "getattr": "options.get"}
_OPERATORS: dict[Any, Any] = {
    cst.AddAssign: cst.Add(),
    cst.SubtractAssign: cst.Subtract(),
    cst.MultiplyAssign: cst.Multiply(),
    cst.DivideAssign: cst.Divide(),
    cst.PowerAssign: cst.Power(),
    cst.FloorDivideAssign: cst.FloorDivide(),
    cst.MatrixMultiplyAssign: cst.MatrixMultiply(),
    cst.ModuloAssign: cst.Modulo(),
}


def _asked(given: Sequence[cst.Arg]) -> str:
    """The attribute that `hasattr(layer, "name")` or `getattr` asks for."""
    word = given[1].value if len(given) in (2, 3) else None
    return str(word.evaluated_value) if isinstance(word, cst.SimpleString) else ""


def _call(function: str, layer: Any, name: str) -> cst.Call:
    return _plain(f"{KIT}.{function}", [cst.Arg(layer), cst.Arg(cst.SimpleString(f'"{name}"'))])


def _plain(function: str, args: list[Any]) -> cst.Call:
    plain = [a.with_changes(comma=cst.MaybeSentinel.DEFAULT) for a in args]
    return cst.Call(expression(function), plain)


def _index(place: int) -> list[cst.SubscriptElement]:
    return [cst.SubscriptElement(cst.Index(cst.Integer(str(place))))]


def _put(function: str, held: cst.Call, value: Any) -> cst.Call:
    return _plain(f"{KIT}.{function}", [*held.args, cst.Arg(value)])


def _last(node: Any) -> str:
    """The last name of an attribute; "" of other expressions."""
    return node.attr.value if isinstance(node, cst.Attribute) else ""


def _function(function: str, *values: Any) -> cst.Call:
    return _plain(f"{KIT}.{function}", [cst.Arg(value) for value in values])


def _name(held: cst.Call) -> str:
    name: Any = held.args[1].value
    return str(name.value.strip('"'))


def _bracketed(value: Any) -> Any:
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _is_held(node: Any) -> bool:
    """Whether a node is a call that this pass made to read something."""
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
        return False
    text = cst.Module([]).code_for_node(node.func)
    return text in (f"{KIT}.weights.get", f"{KIT}.options.of")


def _target(node: Any) -> tuple[cst.Call, bool] | None:
    """What a target or a place reads of a layer, and whether it is parts of it; None of others."""
    parts = False
    while not _is_held(node):
        if is_data(node):
            node = node.value
        elif isinstance(node, cst.Subscript):
            node, parts = node.value, True
        else:
            return None
    return node, parts


def _changed(call: Any) -> Any:
    """The place that a chain of calls in place changes."""
    while changes_in_place(call):
        call = call.func.value
        while is_data(call) and changes_in_place(call.value):
            call = call.value
    return call


def _with_items(node: Any) -> Any:
    """`Items(layer, name)[place]` of `get(layer, name).data[place]`."""
    if isinstance(node, cst.Subscript):
        return node.with_changes(value=_with_items(node.value))
    if is_data(node):
        return _with_items(node.value)
    return node.with_changes(func=expression(f"{KIT}.weights.Items"))


def _unpacks(node: cst.Assign) -> bool:
    """Whether one of several targets is a weight."""
    each = [t.target for t in node.targets if isinstance(t.target, (cst.Tuple, cst.List))]
    return any(_target(element.value) for t in each for element in t.elements)


def needed(module: cst.Module) -> bool:
    """Whether a file reads any attribute of these names."""
    return any(
        n.attr.value in _OTHERS or n.attr.value in _ALL_OPTIONS or is_weight(n.attr.value)
        for n in of_kinds(module, cst.Attribute)
    )
