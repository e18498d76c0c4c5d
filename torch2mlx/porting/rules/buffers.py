"""Buffers: arrays that a module holds and does not train, saved with it or not."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.plain_lists import plain_lists
from torch2mlx.porting.rules.requires_grad import small
from torch2mlx.porting.rules.text import bare, code
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import calls, of_kinds
from torch2mlx.porting.types.kinds import Type


def registered(at: Place, before: Any, after: cst.Call) -> Any:
    """`self.register_buffer("name", value)` as statements; None when it stays."""
    key, owner = literal(before.args[0].value), at.text(before.func.value)
    if not key or len(after.args) < 2:
        at.refuse(before, "register_buffer with a name that is no literal")
        return None
    at.change(before, "register_buffer", "an array that is frozen: MLX would train it")
    return buffer(at, owner, key, code(bare(after.args[1].value, before.args[1].value)))


def plain_array(at: Place, original: cst.Assign, value: str) -> Any:
    """`self.name = tensor` in a module: torch does not train it, so MLX must not; None for what
    may be a parameter, or holds no arrays."""
    target = original.targets[0].target
    if len(original.targets) != 1 or not isinstance(target, cst.Attribute):
        return None
    if code(target.value) != "self" or not at.in_module():
        return _given_array(at, original, target, value)
    key = target.attr.value
    if key in _plain_lists(at):
        at.change(original, f"self.{key}", "nothing of the module: hidden from training")
        return small(hiding("self", key, value))
    known = key in at.file.buffers or key in at.file.trained_names
    if known or not _holds_arrays(at.type_of(original.value)):
        return None
    if _may_be_trained(at, original):
        hide = f'kit.training.hide(self, "{key}", ...) if it is no parameter'
        at.change(original, f"self.{key}", "MLX trains the arrays that a module holds", hide)
        return None
    at.change(original, f"self.{key}", "no parameter: hidden from training and saving")
    return small(hiding("self", key, value))


def _given_array(at: Place, original: cst.Assign, target: cst.Attribute, value: str) -> Any:
    """`other.name = tensor` of a tensor that was computed, and of another module."""
    kinds = at.type_of(target.value).kind, at.type_of(original.value).tensor
    if kinds != ("module", True) or not is_computed(original.value, at.file.names):
        return None
    owner, key = at.text(target.value), target.attr.value
    at.change(original, f"{owner}.{key}", "no parameter: hidden from training and saving")
    return small(f'kit.training.give({owner}, "{key}", {value})')


def is_computed(value: Any, names: Names) -> bool:
    """Whether an expression is no name, of which nothing is known, and makes no parameter."""
    made = {names.of(call.func) for call in calls(value)}
    parameters = {"torch.nn.Parameter", "torch.nn.parameter.Parameter", "torch.nn.Buffer"}
    return not isinstance(value, (cst.Name, cst.Attribute)) and not made & parameters


def _plain_lists(at: Place) -> frozenset[str]:
    """Attributes of the class around that only hold lists of what is no module."""
    name, names = at.classes[-1], at.file.names
    if name not in at.lists and name in names.classes:
        at.lists[name] = plain_lists(names.classes[name], names)
    return at.lists.get(name, frozenset())


def _may_be_trained(at: Place, original: cst.Assign) -> bool:
    """Whether the value is a parameter, or came in as an argument and might be one."""
    made = (at.file.names.of(node.func) for node in calls(original.value))
    if any(name in ("torch.nn.Parameter", "torch.nn.Buffer") for name in made):
        return True
    outside = at.functions[-1:] != ["forward"]
    return outside and isinstance(original.value, (cst.Name, cst.Attribute))


def assigned_buffer(at: Place, original: cst.Assign, value: str) -> Any:
    """`self.name = nn.Buffer(value)`, or a new value for a buffer that is not saved; None for
    other assignments."""
    target = original.targets[0].target
    if len(original.targets) != 1 or not isinstance(target, cst.Attribute):
        return None
    owner, key = at.text(target.value), target.attr.value
    if not is_buffer(at.file.names, original.value):
        return small(hiding(owner, key, value)) if key in at.file.hidden else None
    at.change(original, "torch.nn.Buffer", "an array that is frozen: MLX would train it")
    if _trained(original.value):
        unsaved = f'kit.training.transient({owner}, "{key}")'
        lines = [f"{owner}.{key} = {value}", *([unsaved] if _unsaved(original.value) else [])]
        return cst.FlattenSentinel([small(line) for line in lines])
    return buffer(at, owner, key, value)


def buffer(at: Place, owner: str, key: str, value: str) -> Any:
    """The statements that set a buffer."""
    if value == "None":
        return small(f"{owner}.{key} = None")
    if key in at.file.hidden:
        return small(hiding(owner, key, value))
    lines = (f"{owner}.{key} = {value}", f'{owner}.freeze(keys=["{key}"], recurse=False)')
    return cst.FlattenSentinel([small(line) for line in lines])


def _holds_arrays(kind: Type) -> bool:
    """Tensors, and plain lists of tensors or of modules: torch registers none of them."""
    if kind.kind in ("tuple", "list"):
        return bool(kind.items) and all(i.tensor or i.kind == "module" for i in kind.items)
    return kind.tensor


def parameter_names(module: cst.Module, names: Names) -> frozenset[str]:
    """Names of attributes that are an nn.Parameter, or registered as one, anywhere in a file."""
    found = set()
    for node in of_kinds(module, cst.Assign, cst.Call):
        if isinstance(node, cst.Assign):
            made = any(names.of(c.func) == "torch.nn.Parameter" for c in calls(node.value))
            for target in node.targets if made else ():
                if isinstance(target.target, cst.Attribute):
                    found.add(target.target.attr.value)
        elif isinstance(node, cst.Call) and _registers(node, "register_parameter"):
            found.add(literal(node.args[0].value))
    return frozenset(found)


def hiding(owner: str, key: str, value: str) -> str:
    """The call that sets an attribute which is no parameter."""
    return f'kit.training.hide({owner}, "{key}", {value})'


def literal(node: Any) -> str:
    """The text of a string; empty for other expressions."""
    return str(node.evaluated_value) if isinstance(node, cst.SimpleString) else ""


def is_buffer(names: Names, node: Any) -> bool:
    """Whether an expression is a call of nn.Buffer."""
    return isinstance(node, cst.Call) and names.of(node.func) == "torch.nn.Buffer"


def _keyword(call: Any, name: str) -> str:
    return next((code(a.value) for a in call.args if a.keyword and a.keyword.value == name), "")


def _unsaved(call: Any) -> bool:
    return _keyword(call, "persistent") == "False"


def _trained(call: Any) -> bool:
    """A buffer over a tensor that asks for its gradient."""
    held = call.args[0].value if call.args else None
    return isinstance(held, cst.Call) and _keyword(held, "requires_grad") == "True"


def all_buffers(module: cst.Module, names: Names) -> tuple[frozenset[str], frozenset[str]]:
    """Names of a file's buffers without a gradient: all, and those that are not saved."""
    every, hidden = set(), set()
    for node in of_kinds(module, cst.Assign, cst.Call):
        if isinstance(node, cst.Assign) and is_buffer(names, node.value):
            target = node.targets[0].target
            if isinstance(target, cst.Attribute) and not _trained(node.value):
                every.add(target.attr.value)
                hidden |= {target.attr.value} if _unsaved(node.value) else set()
        elif isinstance(node, cst.Call) and _registers(node):
            name = literal(node.args[0].value)
            every.add(name)
            hidden |= {name} if _registers_unsaved(node) else set()
    return frozenset(every), frozenset(hidden)


def _registers(node: cst.Call, method: str = "register_buffer") -> bool:
    named = isinstance(node.func, cst.Attribute) and node.func.attr.value == method
    return named and bool(node.args)


def _registers_unsaved(node: cst.Call) -> bool:
    """`x.register_buffer(name, value, persistent=False)`."""
    third = node.args[2] if len(node.args) > 2 else None
    last = third is not None and (third.keyword is None or third.keyword.value == "persistent")
    return last and code(third.value) == "False"  # type: ignore[union-attr]
