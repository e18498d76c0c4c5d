"""Statements in MLX: assignments, calls in place, buffers, loops over parameters, no_grad."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.buffers import Buffers, hiding, literal
from torch2mlx.porting.rules.context import bare, code, expression
from torch2mlx.porting.rules.functions import Functions
from torch2mlx.porting.rules.methods import Methods
from torch2mlx.porting.rules.no_grad import Stopping
from torch2mlx.porting.rules.parameter_loops import Loops
from torch2mlx.porting.rules.requires_grad import (
    Freezing,
    is_frozen_parameter,
    set_for_all,
    setting,
    small,
)
from torch2mlx.porting.rules.shared_tensors import RESHAPING
from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.import_table import dotted

#: Functions of torch.nn.init that kit.init has.
INITIALISERS = ("uniform", "normal", "trunc_normal", "constant", "zeros", "ones", "eye")
INITIALISERS += ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal")
INITIALISERS += ("orthogonal",)


class Statements(Functions, Methods, Freezing, Buffers, Stopping, Loops):
    """Rewrites statements; calls and names are rewritten in them by then."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._again: dict[cst.CSTNode, Any] = {}  # calls in place, with their arguments rewritten

    def _is_target(self, node: Any) -> bool:
        return code(node) in stores(self.current) if self.current is not None else False

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        self.writes_parts(original_node)
        named = self.under_all_names(original_node, updated_node)
        return self._assignment(original_node, updated_node) if named is None else named

    def _assignment(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        value = bare(updated_node.value, original_node.value)
        targets = original_node.targets
        if len(targets) == 1 and isinstance(targets[0].target, cst.Attribute):
            last, owner = targets[0].target.attr.value, self.type_of(targets[0].target.value)
            if last == "requires_grad" and (owner.tensor or owner.kind == "unknown"):
                made = self.set_trainable(original_node, targets[0].target.value, code(value))
                return cst.RemoveFromParent() if made is None else made
            if self.names.of(targets[0].target).startswith("torch."):
                return cst.RemoveFromParent()
        if len(targets) == 1 and code(updated_node.targets[0].target) == code(value):
            return cst.RemoveFromParent()
        if len(targets) == 1 and _ties(targets[0].target, original_node.value):
            return self._tied(original_node, updated_node)
        place = _without_data(targets[0].target)
        if place is not targets[0].target and self.loop_of(code(place)) is not None:
            return small(self.set_in_loop(code(place), code(value)))
        if is_frozen_parameter(self.names, original_node.value) and len(targets) == 1:
            stop = self.frozen(original_node, targets[0].target, code(value))
            return stop or updated_node.with_changes(value=value)
        value = self.stopped(targets[0].target, original_node.value, value)
        made = None
        if isinstance(targets[0].target, cst.Attribute):
            text = code(value)
            made = self.assigned_buffer(original_node, text)
            made = self.plain_array(original_node, text) if made is None else made
        return updated_node.with_changes(value=value) if made is None else made

    def _tied(self, original: cst.Assign, updated: cst.Assign) -> Any:
        """`self.decoder.weight = self.encoder.weight`: one parameter under two names."""
        alias, name = dotted(original.targets[0].target), dotted(original.value)
        root, _, rest = alias.partition(".")
        other, _, kept = name.partition(".")
        if not rest or root != other or not kept:
            self.refuse(original, "a parameter under two names: kit.tying.tie(root, alias, name)")
            return updated
        self.change(original, "weight", "one parameter under two names: its gradients are added")
        return small(f'kit.tying.tie({root}, "{rest}", "{kept}")')

    def leave_AugAssign(self, original_node: Any, updated_node: Any) -> Any:
        value = bare(updated_node.value, original_node.value)
        target = _without_data(original_node.target)
        self.changes_shared(target, original_node)
        if self.loop_of(code(target)) is not None:  # `p -= ...`: the module gets a new one
            operator = code(original_node.operator).strip().removesuffix("=")
            return small(
                self.set_in_loop(code(target), f"{code(target)} {operator} ({code(value)})")
            )
        stopped = self.stopped(original_node.target, original_node.value, value)
        return updated_node.with_changes(value=stopped)

    def leave_Return(self, original_node: cst.Return, updated_node: cst.Return) -> Any:
        if updated_node.value is None:
            return updated_node
        value = bare(updated_node.value, original_node.value)
        if self._stopped and original_node.value is not None:
            value = self.detached(original_node.value, value)
        return updated_node.with_changes(value=value)

    def leave_Assert(self, original_node: cst.Assert, updated_node: cst.Assert) -> Any:
        """What a program asserts about autograd means nothing for arrays."""
        if ".requires_grad" not in code(original_node.test):
            return updated_node
        self.change(original_node, "requires_grad", "arrays do not record gradients")
        return cst.RemoveFromParent()

    def visit_Assert(self, node: cst.Assert) -> bool:
        return ".requires_grad" not in code(node.test)

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> Any:
        """A call alone on its line: an assignment where it was in place, nothing where idle."""
        before = original_node.value
        if not isinstance(before, cst.Call):
            return updated_node
        made = self._statement(before, updated_node.value)
        if made is not None:
            return made
        after = updated_node.value
        idle = isinstance(after, (cst.Name, cst.Attribute))
        return cst.RemoveFromParent() if idle else updated_node

    def _statement(self, before: cst.Call, after: Any) -> Any:
        full = self.names.of(before.func)
        if full.startswith("torch.nn.init.") and before.args and isinstance(after, cst.Call):
            return self._initialised(full, before, after)
        if isinstance(after, cst.Call) and isinstance(before.func, cst.Attribute):
            name = before.func.attr.value
            if name == "register_buffer":
                return self.registered(before, after)
            if name == "add_module" and len(after.args) == 2:
                return self._added(before, after)
            if name == "register_parameter" and len(after.args) == 2:
                key = literal(before.args[0].value)
                return small(f"{code(before.func.value)}.{key} = {code(after.args[1].value)}")
            if name == "requires_grad_" and not self._is_module(before.func.value):
                value = code(after.args[0].value) if after.args else "True"
                made = self.set_trainable(before, before.func.value, value)
                return cst.RemoveFromParent() if made is None else made
            if name == "load_state_dict" and self.type_of(before.func.value).kind == "optimizer":
                return small(f"{code(before.func.value)}.state = {code(after.args[0].value)}")
        text = self._in_place_text(before)
        return None if text is None else self._placed(before, text)

    def _placed(self, before: cst.Call, text: str) -> Any:
        """What `x.add_(y)` became, in the place of the call."""
        made = small(text)
        if not isinstance(made, cst.Assign):
            return made
        target, leaf = made.targets[0].target, before.func.value  # type: ignore[attr-defined]
        if isinstance(target, cst.Attribute) and target.attr.value in self.hidden:
            value = code(self.stopped(leaf, before, made.value))
            return small(hiding(code(target.value), target.attr.value, value))
        if isinstance(leaf, cst.Attribute) and leaf.attr.value in self.buffers:
            return made.with_changes(value=self.stopped(leaf, before, made.value))
        if self.leaves_stopped(leaf):
            name = code(leaf)
            return small(f"{name} = kit.training.overwritten({name}, {code(made.value)})")
        if isinstance(target, cst.Name):
            method = before.func.attr.value  # type: ignore[attr-defined]
            if method == "copy_":
                return small(f"kit.tensors.assign({target.value}, {code(made.value)})")
            if not self.owned(target.value, method in RESHAPING):
                return small(f"{target.value}[...] = {code(made.value)}")
        return made

    def _added(self, before: cst.Call, after: cst.Call) -> Any:
        """`x.add_module(name, layer)`: an attribute, or one more layer of a Sequential."""
        owner, layer = before.func.value, code(after.args[1].value)  # type: ignore[attr-defined]
        key = literal(before.args[0].value)
        if self.type_of(owner).name == "torch.nn.Sequential":
            self.change(before, "add_module", "layers of a Sequential are a list")
            return small(f"{code(owner)}.layers.append({layer})")
        self.change(before, "add_module", "an attribute")
        if key.isidentifier():
            return small(f"{code(owner)}.{key} = {layer}")
        return small(f"setattr({code(owner)}, {code(after.args[0].value)}, {layer})")

    def _is_module(self, node: Any) -> bool:
        return self.type_of(node).kind in ("module", "modules")

    def _in_place_text(self, before: cst.Call) -> str | None:
        if not isinstance(before.func, cst.Attribute):
            return None
        rewritten = self._again.get(before)
        return None if rewritten is None else self.in_place(before, rewritten)

    def visit_Expr(self, node: cst.Expr) -> None:
        """Arguments of a call in place are rewritten apart: the call itself is to stay."""
        call = node.value
        if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
            name = call.func.attr.value
            method = name.endswith("_") and not self.names.of(call.func)
            if method and self.is_tensor(call.func.value, name):
                self._within.add(call.func.value)
                args = [a.with_changes(value=a.value.visit(self)) for a in call.args]
                func = call.func.with_changes(value=call.func.value.visit(self))
                self._again[call] = call.with_changes(args=args, func=func)

    def _initialised(self, full: str, before: cst.Call, after: cst.Call) -> Any:
        name = full.rpartition(".")[2].rstrip("_")
        target = _without_data(before.args[0].value)
        rest = [code(a.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for a in after.args[1:]]
        value = f"kit.init.{name}({', '.join([code(target), *rest])})"
        if name in INITIALISERS and self.loop_of(code(target)) is not None:
            return small(self.set_in_loop(code(target), value))
        if name not in INITIALISERS or not isinstance(target, cst.Attribute):
            self.refuse(before, "set the array on its module: module.weight = ...", full)
            return None
        self.change(before, full, "arrays are values: the module gets a new one")
        return small(f"{code(target)} = {value}")

    # statements

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        body = updated_node.body
        if not body and original_node.body:
            return cst.RemoveFromParent()
        if len(body) > 1 and len(original_node.body) == 1:  # one became several: a line for each
            plain = [b.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for b in body]
            lines = [updated_node.with_changes(body=[b], leading_lines=[]) for b in plain]
            lines[0] = lines[0].with_changes(leading_lines=updated_node.leading_lines)
            return cst.FlattenSentinel(lines)
        return updated_node

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> Any:
        """`for p in model.parameters(): p.requires_grad = False` is a freeze; modules of a
        Sequential are its layers."""
        kind, level = self.type_of(original_node.iter), self._levels.pop()
        if any(loop.sets for loop in level.loops):
            return self.with_names(original_node, updated_node, level)
        if kind.name == "torch.nn.Sequential":
            layers_of = expression(f"{code(updated_node.iter)}.layers")
            return updated_node.with_changes(iter=layers_of)
        body = original_node.body.body
        call = original_node.iter
        if len(body) == 1 and isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
            text, target = code(body[0]).strip(), code(original_node.target)
            value = set_for_all(text, target)
            if call.func.attr.value == "parameters" and value:
                self.change(original_node, "requires_grad", "all parameters of the module")
                made: Any = cst.parse_statement(setting(code(call.func.value), "", value) + "\n")
                return made.with_changes(leading_lines=updated_node.leading_lines)
        if code(original_node.iter).endswith(".param_groups") and len(body) == 1:
            value = code(updated_node.body.body[0]).strip()
            if '["lr"] =' in value or "['lr'] =" in value:
                owner = code(original_node.iter).removesuffix(".param_groups")
                rate = value.partition("=")[2].strip()
                self.change(original_node, "param_groups", "one learning rate")
                return cst.parse_statement(f"{owner}.learning_rate = {rate}\n")
        return updated_node


def _ties(target: Any, value: Any) -> bool:
    """Whether an assignment gives one module the weight or bias of another."""
    names = ("weight", "bias")
    both = isinstance(target, cst.Attribute) and isinstance(value, cst.Attribute)
    return both and target.attr.value in names and value.attr.value in names


def _without_data(node: Any) -> Any:
    """`p` of `p.data`; other expressions as they are."""
    while isinstance(node, cst.Attribute) and node.attr.value == "data":
        node = node.value
    return node
