"""Statements in MLX: assignments, calls in place, buffers, loops over parameters, no_grad."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules import chained_places, masked_writes, ties
from torch2mlx.porting.rules.buffers import (
    assigned_buffer,
    hiding,
    literal,
    plain_array,
    registered,
)
from torch2mlx.porting.rules.data_writes import numbers_of, past_gradient, past_graph
from torch2mlx.porting.rules.methods import in_place
from torch2mlx.porting.rules.no_grad import detached, leaves_stopped, without_gradient
from torch2mlx.porting.rules.parameter_loops import (
    loop_of,
    part_in_loop,
    set_in_loop,
    whole,
    with_names,
)
from torch2mlx.porting.rules.place import Place, entering, leaving
from torch2mlx.porting.rules.requires_grad import (
    frozen,
    is_frozen_parameter,
    set_for_all,
    set_trainable,
    setting,
    small,
)
from torch2mlx.porting.rules.sequential import is_sequential, layers_of, takes_layer
from torch2mlx.porting.rules.shared_tensors import (
    RESHAPING,
    changes_shared,
    fills_array,
    owned,
    under_all_names,
    writes_parts,
)
from torch2mlx.porting.rules.text import bare, code, expression
from torch2mlx.porting.types.views import without_data

#: Functions of torch.nn.init that kit.init has.
INITIALISERS: tuple[str, ...] = (
    "uniform",
    "normal",
    "trunc_normal",
    "constant",
    "zeros",
    "ones",
    "eye",
)
INITIALISERS += ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal")
INITIALISERS += ("orthogonal",)


@leaving(cst.Assign)
def _assign(at: Place, original: cst.Assign, updated: cst.Assign) -> Any:
    made = _values_set(at, original, updated)
    if len(original.targets) > 1:
        made = past_graph(at, cst.Tuple([cst.Element(t.target) for t in original.targets]), made)
    return past_graph(at, original.targets[0].target, made)


def _values_set(at: Place, original: cst.Assign, updated: cst.Assign) -> Any:
    writes_parts(at, original)
    chained_places.refuse_among(at, original)
    if len(original.targets) == 1 and chained_places.is_chained(at, original.targets[0].target):
        old, new = original.targets[0].target, updated.targets[0].target
        value = bare(updated.value, original.value)
        text = chained_places.put(
            at, old, new, code(without_gradient(at, old, original.value, value))
        )
        return small(text) if text else updated
    masked = masked_writes.assigned(original, updated, at.type_of)
    if masked is not None:
        return masked
    named = under_all_names(at, original, updated)
    return _assignment(at, original, updated) if named is None else named


def _assignment(at: Place, original: cst.Assign, updated: cst.Assign) -> Any:
    value = bare(updated.value, original.value)
    targets = original.targets
    if len(targets) == 1 and isinstance(targets[0].target, cst.Attribute):
        last, owner = targets[0].target.attr.value, at.type_of(targets[0].target.value)
        if last == "requires_grad" and (owner.tensor or owner.kind == "unknown"):
            made = set_trainable(at, original, targets[0].target.value, code(value))
            return cst.RemoveFromParent() if made is None else made
        if at.file.names.of(targets[0].target).startswith("torch."):
            return cst.RemoveFromParent()
        if takes_layer(at, targets[0].target, original.value):
            at.change(original, last, "one more layer, which keeps its name")
            chain = code(updated.targets[0].target.value)  # type: ignore[attr-defined]
            return small(f'kit.modules.add({chain}, "{last}", {code(value)})')
    if len(targets) == 1 and code(updated.targets[0].target) == code(value):
        return cst.RemoveFromParent()
    if len(targets) == 1 and ties.is_tie(at, original):
        return ties.tied(at, original, updated)
    set_there = _in_loop(at, original, updated, value)
    if set_there is not None:
        return set_there
    if is_frozen_parameter(at.file.names, original.value) and len(targets) == 1:
        stop = frozen(at, original, targets[0].target, code(value))
        return stop or updated.with_changes(value=value)
    value = without_gradient(at, targets[0].target, original.value, value)
    made = None
    if isinstance(targets[0].target, cst.Attribute):
        text = code(value)
        made = assigned_buffer(at, original, text)
        made = plain_array(at, original, text) if made is None else made
    return updated.with_changes(value=value) if made is None else made


def _in_loop(at: Place, original: cst.Assign, updated: cst.Assign, value: Any) -> Any:
    """`p.data = value` and `p[0] = value` of the parameter of a loop, and writes past a gradient;
    None of other places."""
    target = original.targets[0].target
    part = isinstance(target, cst.Subscript) and len(original.targets) == 1
    if part and loop_of(at, code(whole(target))) is not None:
        return small(part_in_loop(at, without_data(updated.targets[0].target), code(value)))
    place = without_data(target)
    if place is not target and loop_of(at, code(place)) is not None:
        return small(set_in_loop(at, code(place), code(value)))
    if len(original.targets) == 1 and past_gradient(at, target):
        return numbers_of(at, target, code(value)) or updated
    return None


@leaving(cst.AugAssign)
def _aug_assign(at: Place, original: Any, updated: Any) -> Any:
    return past_graph(at, original.target, _value_added(at, original, updated))


def _value_added(at: Place, original: Any, updated: Any) -> Any:
    value = bare(updated.value, original.value)
    target = without_data(original.target)
    changes_shared(at, target, original)
    if chained_places.is_chained(at, original.target):
        sign = code(original.operator).strip().removesuffix("=")
        text = chained_places.put(at, original.target, updated.target, code(value), sign)
        return small(text) if text else updated
    masked = masked_writes.changed(original, updated, at.type_of)
    if masked is not None:
        return masked
    if isinstance(target, cst.Subscript) and loop_of(at, code(whole(target))) is not None:
        part, operator = (
            without_data(updated.target),
            code(original.operator).strip().removesuffix("="),
        )
        return small(part_in_loop(at, part, f"{code(part)} {operator} ({code(value)})"))
    if loop_of(at, code(target)) is not None:  # `p -= ...`: the module gets a new one
        operator = code(original.operator).strip().removesuffix("=")
        return small(set_in_loop(at, code(target), f"{code(target)} {operator} ({code(value)})"))
    if past_gradient(at, original.target):
        sign = code(original.operator).strip().removesuffix("=")
        new = f"{code(without_data(updated.target))} {sign} ({code(value)})"
        return numbers_of(at, original.target, new) or updated
    if isinstance(target, cst.Name) and _scales(original) and leaves_stopped(at, target):
        right = code(expression(code(value)))
        new = f"{target.value} {code(original.operator).strip().removesuffix('=')} {right}"
        return small(f"{target.value} = kit.training.overwritten({target.value}, {new})")
    stopped = without_gradient(at, original.target, original.value, value)
    return updated.with_changes(target=without_data(updated.target), value=stopped)


def _scales(statement: cst.AugAssign) -> bool:
    """Whether the gradient of what is changed would be another one: it is not of a sum."""
    return not isinstance(statement.operator, (cst.AddAssign, cst.SubtractAssign))


@leaving(cst.Return)
def _return(at: Place, original: cst.Return, updated: cst.Return) -> Any:
    if updated.value is None:
        return updated
    value = bare(updated.value, original.value)
    if at.no_grads and original.value is not None:
        value = detached(at, original.value, value)
    return updated.with_changes(value=value)


@leaving(cst.Assert)
def _assert(at: Place, original: cst.Assert, updated: cst.Assert) -> Any:
    """What a program asserts about autograd means nothing for arrays."""
    if ".requires_grad" not in code(original.test):
        return updated
    at.change(original, "requires_grad", "arrays do not record gradients")
    return cst.RemoveFromParent()


@entering(cst.Assert)
def _before_assert(at: Place, node: cst.Assert) -> bool:
    return ".requires_grad" not in code(node.test)


@leaving(cst.Expr)
def _expr(at: Place, original: cst.Expr, updated: cst.Expr) -> Any:
    """A call alone on its line: an assignment where it was in place, nothing where idle."""
    before = original.value
    if not isinstance(before, cst.Call):
        return updated
    made = _statement(at, before, updated.value)
    if made is not None:
        return made
    after = updated.value
    idle = isinstance(after, (cst.Name, cst.Attribute))
    return cst.RemoveFromParent() if idle else updated


def _statement(at: Place, before: cst.Call, after: Any) -> Any:
    full = at.file.names.of(before.func)
    if full.startswith("torch.nn.init.") and before.args and isinstance(after, cst.Call):
        return _initialised(at, full, before, after)
    if isinstance(after, cst.Call) and isinstance(before.func, cst.Attribute):
        name = before.func.attr.value
        if name == "register_buffer":
            return registered(at, before, after)
        if name in ("add_module", "register_module", "append", "insert"):
            return _added(at, before, after)
        if name == "register_parameter" and len(after.args) == 2:
            key = literal(before.args[0].value)
            return small(f"{at.text(before.func.value)}.{key} = {code(after.args[1].value)}")
        if name == "load_state_dict" and at.type_of(before.func.value).kind == "optimizer":
            given = f"{at.text(before.func.value)}, {code(after.args[0].value)}"
            return small(f"kit.files.load_state_dict({given})")
    if isinstance(before.func, cst.Name) and before.func.value == "setattr":
        return _assigned(at, before, after)
    if isinstance(before.func, cst.Attribute) and before.func.attr.value == "requires_grad_":
        return _trainable(at, before, before.func.value)
    if isinstance(before.func, cst.Attribute) and fills_array(at, before):
        return None
    text = _in_place_text(at, before)
    return None if text is None else _placed(at, before, text)


def _trainable(at: Place, before: cst.Call, target: Any) -> Any:
    """`target.requires_grad_(value)` as a statement; None for that of a module."""
    if _is_module(at, target):
        return None
    value = at.text(before.args[0].value) if before.args else "True"
    if isinstance(target, cst.Name) and loop_of(at, target.value) is None:
        # a module or an array, which the method alone does not tell: asked when it runs
        text = f'kit.training.set_trainable({at.text(target)}, "", {value})'
        return cst.RemoveFromParent() if value == "True" else small(text)
    made = set_trainable(at, before, target, value)
    return cst.RemoveFromParent() if made is None else made


def _placed(at: Place, before: cst.Call, text: str) -> Any:
    """What `x.add_(y)` became, in the place of the call."""
    made = small(text)
    if not isinstance(made, cst.Assign):
        return made
    target, leaf = made.targets[0].target, before.func.value  # type: ignore[attr-defined]
    if isinstance(target, cst.Attribute) and target.attr.value in at.file.hidden:
        value = code(without_gradient(at, leaf, before, made.value))
        return small(hiding(at.text(target.value), target.attr.value, value))
    if isinstance(leaf, cst.Attribute) and leaf.attr.value in at.file.buffers:
        return made.with_changes(value=without_gradient(at, leaf, before, made.value))
    if past_gradient(at, leaf):
        return numbers_of(at, leaf, code(made.value))
    if leaves_stopped(at, leaf):
        name = code(leaf)
        return small(f"{name} = kit.training.overwritten({name}, {code(made.value)})")
    if isinstance(target, cst.Name) and loop_of(at, target.value) is None:
        method = before.func.attr.value  # type: ignore[attr-defined]
        if method == "copy_":
            return small(f"kit.tensors.assign({target.value}, {code(made.value)})")
        if not owned(at, target.value, method in RESHAPING):
            return small(f"{target.value}[...] = {code(made.value)}")
    return made


def _added(at: Place, before: cst.Call, after: cst.Call) -> Any:
    """`x.add_module(name, layer)`: an attribute, or one more layer of a Sequential, as by `append`;
    None for what gives no module a part."""
    owner, method = before.func.value, before.func.attr.value  # type: ignore[attr-defined]
    if method in ("append", "insert") and is_sequential(at, owner):
        given = ", ".join(code(a.value) for a in after.args)
        return small(f"{at.text(owner)}.layers.{method}({given})")
    if method in ("append", "insert") or len(after.args) != 2:
        return None
    layer = code(after.args[1].value)
    key = literal(before.args[0].value)
    if is_sequential(at, owner):
        at.change(before, "add_module", "one more layer, which keeps its name")
        return small(f"kit.modules.add({at.text(owner)}, {code(after.args[0].value)}, {layer})")
    if at.type_of(owner).kind == "modules":
        numbers = "the names in a state dict: of a list they are numbers"
        at.change(before, "add_module", "one more item of a list or dict", numbers)
        return small(f"kit.modules.add({at.text(owner)}, {code(after.args[0].value)}, {layer})")
    at.change(before, "add_module", "an attribute")
    if key.isidentifier():
        return small(f"{at.text(owner)}.{key} = {layer}")
    return small(f"setattr({at.text(owner)}, {code(after.args[0].value)}, {layer})")


def _assigned(at: Place, before: cst.Call, after: Any) -> Any:
    """`setattr(module, name, part)` of a name that is computed, which may be a number; None for
    what sets no parts of modules."""
    given = [a.value for a in before.args]
    if len(given) != 3 or isinstance(given[1], cst.SimpleString):
        return None
    owner, value = (at.type_of(given[i]).kind for i in (0, 2))
    parts = value == "module" or (owner in ("module", "modules") and value == "unknown")
    if not parts or owner not in ("module", "modules", "unknown"):
        return None
    at.change(before, "setattr", "parts of a Sequential are found by their names")
    return small(f"kit.modules.assign({', '.join(code(a.value) for a in after.args)})")


def _is_module(at: Place, node: Any) -> bool:
    return at.type_of(node).kind in ("module", "modules")


def _in_place_text(at: Place, before: cst.Call) -> str | None:
    if not isinstance(before.func, cst.Attribute):
        return None
    rewritten = at.again.get(before)
    return None if rewritten is None else in_place(at, before, rewritten)


@entering(cst.Expr)
def _before_expr(at: Place, node: cst.Expr) -> None:
    """Arguments of a call in place are rewritten apart: the call itself is to stay."""
    call = node.value
    if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
        name = call.func.attr.value
        method = name.endswith("_") and not at.file.names.of(call.func)
        if method and at.is_tensor(call.func.value, name):
            at.within.add(call.func.value)
            args = [a.with_changes(value=at.rewrite(a.value)) for a in call.args]
            func = call.func.with_changes(value=at.rewrite(call.func.value))
            at.again[call] = call.with_changes(args=args, func=func)


def _initialised(at: Place, full: str, before: cst.Call, after: cst.Call) -> Any:
    name = full.rpartition(".")[2].rstrip("_")
    target = without_data(before.args[0].value)
    rest = [code(a.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for a in after.args[1:]]
    value = f"kit.init.{name}({', '.join([at.text(target), *rest])})"
    if name in INITIALISERS and loop_of(at, code(target)) is not None:
        return small(set_in_loop(at, code(target), value))
    if name not in INITIALISERS or not isinstance(target, cst.Attribute):
        at.refuse(before, "set the array on its module: module.weight = ...", full)
        return None
    at.change(before, full, "arrays are values: the module gets a new one")
    return small(f"{at.text(target)} = {value}")


@leaving(cst.SimpleStatementLine)
def _simple_statement_line(at: Place, original: Any, updated: Any) -> Any:
    body = updated.body
    if not body and original.body:
        return cst.RemoveFromParent()
    if len(body) > 1 and len(original.body) == 1:  # one became several: a line for each
        plain = [b.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for b in body]
        lines = [updated.with_changes(body=[b], leading_lines=[]) for b in plain]
        lines[0] = lines[0].with_changes(leading_lines=updated.leading_lines)
        return cst.FlattenSentinel(lines)
    return updated


@leaving(cst.For)
def _for(at: Place, original: cst.For, updated: cst.For) -> Any:
    """`for p in model.parameters(): p.requires_grad = False` is a freeze; modules of a
    Sequential are its layers."""
    level = at.levels.pop()
    if any(loop.sets for loop in level.loops):
        return with_names(original, updated, level)
    if is_sequential(at, original.iter):
        return updated.with_changes(iter=layers_of(updated.iter))
    body = original.body.body
    call = original.iter
    if len(body) == 1 and isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
        text, target = code(body[0]).strip(), code(original.target)
        value = set_for_all(text, target)
        if call.func.attr.value == "parameters" and value:
            at.change(original, "requires_grad", "all parameters of the module")
            made: Any = cst.parse_statement(setting(at.text(call.func.value), "", value) + "\n")
            return made.with_changes(leading_lines=updated.leading_lines)
    if code(original.iter).endswith(".param_groups") and len(body) == 1:
        value = code(updated.body.body[0]).strip()
        if '["lr"] =' in value or "['lr'] =" in value:
            owner = code(original.iter).removesuffix(".param_groups")
            rate = value.partition("=")[2].strip()
            at.change(original, "param_groups", "one learning rate")
            return cst.parse_statement(f"{owner}.learning_rate = {rate}\n")
    return updated
