"""Calls of methods: of tensors, also in place, of modules, optimizers and what moves memory."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import caution, forms
from torch2mlx.errors import Code
from torch2mlx.porting.report import BACKWARD
from torch2mlx.porting.rules.chained_places import is_chained, put
from torch2mlx.porting.rules.parameter_loops import (
    is_element,
    loop_of,
    part_in_loop,
    set_in_loop,
    whole,
)
from torch2mlx.porting.rules.place import NO_METHODS, Place
from torch2mlx.porting.rules.reasons import reason
from torch2mlx.porting.rules.render import Argument, assigned, term, written
from torch2mlx.porting.rules.sequential import is_sequential
from torch2mlx.porting.rules.shared_tensors import given_back, of_a_container, unchangeable
from torch2mlx.porting.rules.text import code, expression, joined
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.usage import viewed
from torch2mlx.porting.types.views import changes_in_place, is_data, without_data

_AMBIGUOUS = frozenset(
    [
        *("view", "sum", "mean", "max", "min", "reshape", "transpose", "squeeze", "flatten"),
        *("repeat", "norm", "std", "var", "split", "cummax", "cummin"),
    ]
)
#: Casts of tensors and of modules -> the dtype.
_OF_MODULES_TOO = {"float": "float32", "half": "float16", "bfloat16": "bfloat16"}
_OF_MODULES_TOO |= {"double": "float64"}
_INPLACE_INIT = {"normal_": "normal", "uniform_": "uniform", "fill_": "constant", "zero_": "zeros"}
_INPLACE_INIT |= {"bernoulli_": "bernoulli", "exponential_": "exponential", "random_": "random"}
#: Methods that change a tensor's dtype or device only.
_CASTS = ("to", "float", "double", "half", "long", "int", "cuda", "cpu", "type", "bfloat16")


#: Methods that say by themselves that they are of a module.
_OF_MODULES_ONLY: tuple[str, ...] = (
    "state_dict",
    "load_state_dict",
    "parameters",
    "named_parameters",
    "buffers",
    "named_buffers",
    "modules",
    "named_children",
    "named_modules",
    "get_submodule",
    "get_parameter",
)
_FORWARD_HOOKS = ("register_forward_hook", "register_forward_pre_hook")
_HOOKS = ("register_full_backward_hook", "register_backward_hook", "register_state_dict_pre_hook")
_OF_MODULES_ONLY += _HOOKS + _FORWARD_HOOKS
#: Which of torch's buffers MLX's modules do not have.
_UNNAMED = "without what is not persistent, which is no array of a module"
_STAYS = (
    "this backward pass is of no training step that was found: MLX differentiates functions; make "
    "`loss.backward()` a statement of its own, in the function of the forward pass and of the "
    "optimizer's step, or call nn.value_and_grad"
)
#: Methods in place that leave the numbers as they are.
_IDLE = ("requires_grad_", "share_memory_")
_UNKNOWN = "no counterpart is known for these arguments"
#: Methods of modules, by name and number of arguments.
_MODULE = {
    ("state_dict", 0): "kit.files.state_dict({0})",
    ("parameters", 0): "kit.training.parameters({0})",
    ("buffers", 0): "kit.training.buffers({0})",
    ("named_buffers", 0): "kit.training.named_buffers({0})",
    ("named_parameters", 0): "kit.training.named_parameters({0})",
    ("get_submodule", 1): "kit.modules.submodule({0}, {1})",
    ("get_parameter", 1): "kit.weights.find({0}, {1}).value()",
    ("apply", 1): "kit.modules.apply({0}, {1})",
    ("modules", 0): "kit.modules.modules({0})",
}


#: What a loss scaler that is not enabled answers.
_OF_SCALERS = {"get_scale": "1.0", "is_enabled": "False", "state_dict": "{}"}
#: Methods that cast a module.
_HALVES = {"half": "float16", "bfloat16": "bfloat16", "double": "float64", "float": "float32"}
#: An argument of `to` that only tensors and modules take.
_OF_TORCH = "memory_format"


def method_call(at: Place, original: cst.Call, updated: cst.Call) -> Any:
    """A call of a method; the call itself when it stays as it is."""
    func = original.func
    assert isinstance(func, cst.Attribute)
    if not isinstance(updated.func, cst.Attribute):
        return updated  # what the name stands for is no attribute in MLX
    owner, name = at.type_of(func.value), func.attr.value
    receiver = code(updated.func.value)
    given = at.arguments(original, updated)
    if name in ("to", "cuda", "cpu", "type") and owner.kind not in ("numpy", "str", "object"):
        return _moved(at, owner, name, receiver, given, original, updated)
    if name == "forward" and at.in_module():
        text = _parent_forward(at, func.value, receiver, given)
        if text:
            at.change(original, ".forward", "MLX's modules are called")
            return expression(text)
    if owner.kind == "module" or (owner.kind == "unknown" and name in _OF_MODULES_ONLY):
        return _of_module(at, name, receiver, given, original, updated, owner.kind)
    if owner.kind in ("optimizer", "scaler"):
        return _of_training(at, owner.kind, name, receiver, original) or updated
    seen = owner.kind in NO_METHODS and not at.file.names.shared(func.value) and viewed(original)
    if seen or at.is_tensor(func.value, name):
        return _of_tensor(at, name, receiver, given, original, updated)
    if owner.kind == "unknown" and name in _OF_MODULES_TOO and not given:
        at.change(original, f".{name}", "a cast")
        return expression(f"kit.typed.cast({receiver}, mx.{_OF_MODULES_TOO[name]})")
    if owner.kind == "unknown" and name in _AMBIGUOUS and not _alike(name, given):
        at.file.report.refuse(
            at.current or original,
            "of something that may be no tensor: left alone",
            f".{name}()",
            Code.UNCLEAR,
        )
        at.ask(original, name)
    return updated


_ADDED = "an optimizer is of the modules that it is made of: give it these where it is made"


def _of_training(at: Place, kind: str, name: str, receiver: str, original: Any) -> Any:
    """A method of an optimizer or a loss scaler; None for one that stays."""
    if kind == "optimizer" and name == "add_param_group":
        at.refuse(original, f".{name}(): {_ADDED}")
    if kind == "scaler" and name in _OF_SCALERS:
        at.change(original, f"GradScaler.{name}", "nothing is scaled: as of a disabled one")
        return expression(_OF_SCALERS[name])
    return expression(f"{receiver}.state") if (kind, name) == ("optimizer", "state_dict") else None


def _moved(
    at: Place, owner: Any, name: str, receiver: str, given: Any, original: Any, updated: Any
) -> Any:
    """`.to`, `.cuda`, `.cpu`: a dtype is a cast, a device nothing."""
    dtype = next((a for a in given if a.keyword == "dtype" or a.kind == "dtype"), None)
    if name == "type" and not given:
        return updated
    if dtype is None and name == "type" and given and owner.kind != "module":
        at.change(original, ".type", "a cast")
        return expression(f"kit.typed.cast({receiver}, {given[0].text})")
    if dtype is not None:
        if owner.kind == "module":
            return _cast_module(at, original, receiver, dtype.text)
        at.change(original, f".{name}", "a cast")
        return expression(f"{term(receiver)}.astype({dtype.text})")
    if given and given[0].kind == "tensor":
        return expression(f"{term(receiver)}.astype({term(given[0].text)}.dtype)")
    plain = not given or given[0].kind in ("device", "str", "unknown", "int", "none")
    told = _is_device(given) or any(dotted(a.keyword) == _OF_TORCH for a in original.args)
    if name == "to" and plain and owner.kind == "unknown" and not told:
        why = "of something unknown: left alone"
        at.file.report.refuse(at.current or original, why, ".to()", Code.UNCLEAR)
        at.ask(original, name)
        return updated
    at.change(original, f".{name}", "one memory: nothing to move")
    return expression(receiver)


def _parent_forward(at: Place, owner: Any, receiver: str, given: Any) -> str:
    """super().forward(x), Base.forward(self, x), and the forward of what is not known here."""
    named = isinstance(owner, cst.Name) and at.file.types.is_module_class(owner.value)
    if receiver.startswith("super(") or named:
        return f"{receiver}.__call__({joined(given)})"
    unknown = at.type_of(owner).kind == "unknown" and not _own_forwards(at)
    return f"{receiver}({joined(given)})" if unknown else ""


def _own_forwards(at: Place) -> bool:
    """Whether the file has a class with a forward that is no module, and keeps it."""
    classes = [n for n in at.file.names.classes if not at.file.types.is_module_class(n)]
    return any(f"{name}.forward" in at.file.types.nodes for name in classes)


def _cast_module(at: Place, original: cst.Call, receiver: str, dtype: str) -> Any:
    """A cast of a module, which MLX's method does not answer where torch's does."""
    at.change(original, "a cast of a module", "its floating-point parameters are cast")
    line = at.current.body[0] if isinstance(at.current, cst.SimpleStatementLine) else None
    if isinstance(line, cst.Expr) and line.value is original:
        return expression(f"{receiver}.set_dtype({dtype})")
    return expression(f"kit.training.with_dtype({receiver}, {dtype})")


def _own_parameters(name: str, given: Any) -> str | None:
    """`parameters(recurse=False)`."""
    asked = name in ("parameters", "named_parameters") and [a.keyword for a in given] == ["recurse"]
    return f"kit.training.{name}({{0}}, {{1}})" if asked else None


def _of_module(
    at: Place, name: str, receiver: str, given: Any, original: Any, updated: Any, kind: str
) -> Any:
    first = given[0].text if given else ""
    text = _MODULE.get((name, len(given))) or _own_parameters(name, given)
    if name in _HALVES and not given:
        return _cast_module(at, original, receiver, f"mx.{_HALVES[name]}")
    if name == "requires_grad_":
        text = f"kit.training.{'freeze' if first == 'False' else 'unfreeze'}({{0}})"
    elif name == "forward":
        text = "super().__call__({1})" if receiver == "super()" else "{0}({1})"
    elif name == "load_state_dict" and given:
        text = "kit.files.load_state_dict({0}, {1})"
    elif name in _FORWARD_HOOKS:
        text = f"kit.hooks.{name}({{0}}, {{1}})"
    elif name in _HOOKS:
        at.refuse(original, f".{name}(): MLX has no such hooks; call what is to run yourself")
    elif name == "children" and is_sequential(at, original.func.value):
        text = "{0}.layers"
    elif name in ("children", "named_children", "named_modules") and not given:
        text = f"kit.modules.{name}({{0}})"
    if text is None:
        return updated
    check = _UNNAMED if "buffers" in name else ""
    at.change(original, f".{name}", "the same for a module of MLX", check)
    return expression(text.format(receiver, joined(given)))


def _of_tensor(at: Place, name: str, receiver: str, given: Any, original: Any, updated: Any) -> Any:
    if name == "size":
        at.change(original, ".size", "a property")
        return expression(f"{term(receiver)}.shape" + (f"[{given[0].text}]" if given else ""))
    if name in ("requires_grad_", "share_memory_"):
        return expression(receiver)
    if name in ("backward", "retain_grad", "register_hook"):
        _refuse_gradient(at, name, original)
        return updated
    if original in at.again:
        return updated  # a statement: see in_place
    if name.endswith("_") and not name.endswith("__"):
        return changed(at, name, receiver, given, original, updated)
    full = [Argument("", receiver, "", "tensor"), *given]
    if name in ("max", "min") and given and given[0].kind == "tensor":
        text: str | None = f"mx.{name}imum({receiver}, {given[0].text})"
    else:
        text = written(forms(f"torch.{name}"), full, True)
    if text is None:
        known = results.is_of_tensors(name) or at.type_of(original.func.value).tensor
        if known and name not in ("__len__",):
            at.refuse(original, _UNKNOWN, f"Tensor.{name}", Code.ARGUMENTS)
        return updated
    if text != receiver:
        at.change(original, f".{name}", reason(name, text), caution(f"torch.{name}"))
    return expression(text)


def _refuse_gradient(at: Place, name: str, original: Any) -> None:
    """Refuses what asks a tensor for gradients; a `backward` may be that of a class of the
    file, whose objects cannot be told from tensors by what is called on them."""
    if name != "backward":
        at.refuse(original, f".{name}(): gradients come from mx.grad of a function")
        return
    own = (k.partition(".")[0] for k in at.file.types.nodes if k.endswith(".backward"))
    if all(map(at.file.types.is_function_class, own)):
        at.refuse(original, _STAYS, BACKWARD)


def _is_fresh(at: Place, node: Any) -> bool:
    """Whether an expression makes a tensor that has no other name yet."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        if at.file.names.of(node.func).startswith("torch."):
            return not results.takes_tensor(at.file.names.of(node.func)) or "like" in code(
                node.func
            )
        if node.func.attr.value not in _CASTS:
            return node.func.attr.value in ("clone", "new_zeros", "new_ones", "new_empty")
        node = node.func.value
    return isinstance(node, cst.Call) and at.file.names.of(node.func).startswith("torch.")


def in_place(at: Place, original: cst.Call, updated: Any) -> str | None:
    """`x.add_(y)` as a statement: an assignment to x. None where that would change nothing."""
    func = original.func
    if not isinstance(func, cst.Attribute):
        return None
    name = func.attr.value
    if not name.endswith("_") or name.endswith("__") or not at.is_tensor(func.value, name):
        return None
    place, target = _root(func.value, updated.func.value)
    if isinstance(place, cst.Subscript) and loop_of(at, code(whole(place))) is not None:
        value = _computed(
            at, name, code(without_data(target)), at.arguments(original, updated), original
        )
        return None if value is None else part_in_loop(at, without_data(target), value)
    if name in _IDLE or unchangeable(at, func.value, original):
        return None
    if not isinstance(place, (cst.Name, cst.Attribute, cst.Subscript)):
        return None
    value = _computed(at, name, code(target), at.arguments(original, updated), original)
    if value is None:
        at.refuse(original, _UNKNOWN, f"Tensor.{name}", Code.ARGUMENTS)
        return None
    if loop_of(at, code(place)) is not None:
        return set_in_loop(at, code(place), value)
    if is_element(at, code(place)):
        at.refuse(original, "a parameter changed in place: kit.training.assign(module, name)")
        return None
    return _given(at, place, _changed_place(at, func, place, target), value)


def _given(at: Place, place: Any, left: str, value: str) -> str | None:
    """The statement that gives a place of the source its new value; None where it is refused."""
    if is_chained(at, place):
        text = put(at, place, expression(left), value)
        return f"{text}\n" if text else None
    if of_a_container(at, place):
        left = f"{left}[...]"
    return f"{left} = {value}\n"


def _changed_place(at: Place, func: cst.Attribute, place: Any, target: Any) -> str:
    """What a method in place changes, as it is assigned: of `x.data[2:4]` a part of x itself."""
    chained = changes_in_place(func.value)
    if isinstance(place, cst.Subscript):
        return code(without_data(at.rewrite(place) if chained else target))
    return at.text(place) if chained else code(target)


def _computed(at: Place, name: str, target: str, given: Any, original: Any) -> str | None:
    """The value that a method in place gives its tensor."""
    receiver = Argument("", target, "", "tensor")
    if name == "copy_":
        value: str | None = given[0].text
    elif name in _INPLACE_INIT:
        more = ", ".join([target, *(a.text for a in given)])
        value = f"kit.init.{_INPLACE_INIT[name]}({more})"
    else:
        value = assigned(name[:-1], [receiver, *given])
    if value is None:
        return None
    value = f"({value})" if "\n" in value else value
    at.change(
        original,
        name,
        "arrays are values: the name gets the new one, or the array under all its names",
    )
    return value


def changed(at: Place, name: str, receiver: str, given: Any, original: Any, updated: Any) -> Any:
    """A method in place within an expression."""
    if name in _INPLACE_INIT and _is_fresh(at, original.func.value):
        at.change(original, f".{name}", "returns a new array")
        text = joined([Argument("", receiver), *given])
        return expression(f"kit.init.{_INPLACE_INIT[name]}({text})")
    value = _computed(at, name, receiver, given, original)
    if value is None:
        at.refuse(original, _UNKNOWN, f"Tensor.{name}", Code.ARGUMENTS)
        return updated
    return given_back(at, original, updated, value, receiver)


def _root(place: Any, target: Any) -> tuple[Any, Any]:
    """What a method in place changes, in the source, and the value it starts from, rewritten:
    of `x.data.mul_(a).add_(b)` x, and what x.mul_(a) gives."""
    while True:
        if is_data(place):
            place = place.value
            if isinstance(target, cst.Call) and dotted(target.func) == "mx.stop_gradient":
                target = target.args[0].value
            elif code(target).endswith(".data"):
                target = target.value
        elif changes_in_place(place):
            place = place.func.value
        else:
            return place, target


def _alike(name: str, given: list[Argument]) -> bool:
    """Whether arrays of numpy, torch and MLX all take a method with these arguments."""
    plain = all(a.keyword in ("", "axis", "keepdims") for a in given)
    if name in ("reshape", "sum", "mean", "squeeze"):
        return plain
    if name == "split":  # a separator of text; a size in torch, a number of parts in MLX
        return not given or given[0].kind == "str"
    return name in ("max", "min", "flatten") and not given


def _is_device(given: list[Argument]) -> bool:
    if not given:
        return True
    first = given[0]
    words = ("device", "cuda", "cpu", "mps", "rank")
    return (
        first.keyword == "device" or first.kind == "device" or any(w in first.text for w in words)
    )
