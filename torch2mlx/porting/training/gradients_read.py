"""Gradients that are only read behind a backward: logged, or summed to a norm.

for name, p in net.named_parameters():
    if p.grad is not None:              if kit.training.has_gradient(grads, name, net):
        log(name, p.grad)       ->          log(name, kit.training.gradient(grads, name, net))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import code, walk
from torch2mlx.porting.training.around_backwards import Blocks, is_behind
from torch2mlx.porting.training.clipping import Clipped
from torch2mlx.porting.training.manual_sgd import parameter_of
from torch2mlx.porting.training.step_scope import Scope


def with_gradients_read(old: Any, new: Any, scope: Scope, blocks: Blocks, clips: Clipped) -> Any:
    """A statement that reads gradients behind the backward that gives them, the same one where it
    reads none. `old` is the statement before it was rewritten."""
    if not any(isinstance(p, cst.Attribute) and p.attr.value == "grad" for p in walk(new)):
        return new

    def tree(module: str, key: str) -> str:
        part = clips.of_module(module, scope)
        if part is None or not is_behind(blocks, old, part.gradients, scope, True):
            return ""
        head = "".join(part.paths)
        return f"{part.gradients}, {key}, {module}" + (f', "{head}"' if head else "")

    rules = GradientsRead(tree, scope.fresh)
    made = new.visit(rules)
    return made if rules.changed else new


class GradientsRead(cst.CSTTransformer):
    """Reads them from trees. `tree`: the arguments that name the gradients of a module's parameter
    of a name, `grads, name, net`; "" where they are not known. `fresh` makes names."""

    def __init__(self, tree: Callable[[str, str], str], fresh: Callable[[str], str]) -> None:
        super().__init__()
        self._tree, self._fresh, self.changed = tree, fresh, False

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> Any:
        block = isinstance(updated_node.body, cst.IndentedBlock)
        if not block or not _only_read(updated_node.body, _parameter(updated_node)):
            return updated_node
        return self._named(updated_node, updated_node)

    def leave_GeneratorExp(self, original_node: Any, updated_node: Any) -> Any:
        return self._comprehension(updated_node)

    leave_ListComp = leave_SetComp = leave_DictComp = leave_GeneratorExp

    def _comprehension(self, node: Any) -> Any:
        loop = node.for_in
        if loop.inner_for_in is not None or not _only_read(node, _parameter(loop)):
            return node
        return self._named(loop, node)

    def _named(self, loop: Any, whole: Any) -> Any:
        """A loop or comprehension over names and parameters, with the gradients of a tree."""
        name, pair = _parameter(loop), isinstance(loop.target, cst.Tuple)
        given = dotted(loop.target.elements[0].value) if pair else ""
        steady = given and given not in stores(whole.body if whole is loop else whole)
        key = given if steady else self._fresh(f"{name}_name")
        tree = self._tree(code(loop.iter.func.value), key)
        if not tree:
            return whole
        self.changed = True
        made = whole.visit(_Gradients(f"{name}.grad", tree))
        if steady:
            return made
        head = f"{given} = {key}" if given else "pass"
        line: Any = cst.parse_statement(f"for {key}, {name} in x: {head}\n")
        named = loop.iter.func.with_changes(attr=cst.Name("named_parameters"))
        new = {"target": line.target, "iter": loop.iter.with_changes(func=named)}
        if whole is not loop:
            return made.with_changes(for_in=made.for_in.with_changes(**new))
        first = [cst.SimpleStatementLine(line.body.body)] if given else []
        body = made.body.with_changes(body=[*first, *made.body.body])
        return made.with_changes(**new, body=body)


def _parameter(loop: Any) -> str:
    """The name of the parameter in a loop or comprehension over those of a module; "" of others."""
    over = loop.iter
    if not isinstance(over, cst.Call) or over.args or not isinstance(over.func, cst.Attribute):
        return ""
    return parameter_of(loop)


def _only_read(node: Any, name: str) -> bool:
    """Whether a gradient is read in a node, and nothing there sets or changes it."""
    wanted = f"{name}.grad"
    if not name or not any(dotted(p) == wanted for p in walk(node)):
        return False
    changed = name in stores(node) if isinstance(node, cst.BaseSuite) else False
    return not changed and not any(_changes(part, wanted) for part in walk(node))


def _changes(part: Any, gradient: str) -> bool:
    if isinstance(part, (cst.AssignTarget, cst.AugAssign)):
        return gradient in code(part.target)
    in_place = isinstance(part, cst.Attribute) and part.attr.value.endswith("_")
    return in_place and code(part.value).startswith(gradient)


class _Gradients(cst.CSTTransformer):
    """`p.grad`, `p.grad.data` and `p.grad is None` as what gives them."""

    def __init__(self, gradient: str, tree: str) -> None:
        super().__init__()
        self._gradient, self._tree = gradient, tree

    def leave_Comparison(self, original_node: cst.Comparison, updated_node: Any) -> Any:
        """`p.grad is not None` asks whether the tree has it."""
        other = original_node.comparisons[0]
        asked = dotted(original_node.left) == self._gradient and dotted(other.comparator) == "None"
        if not asked or len(original_node.comparisons) != 1:
            return updated_node
        text = f"{KIT}.training.has_gradient({self._tree})"
        return cst.parse_expression(f"not {text}" if isinstance(other.operator, cst.Is) else text)

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        name = dotted(original_node)
        if name == f"{self._gradient}.data":
            return updated_node.value
        text = f"{KIT}.training.gradient({self._tree})"
        return cst.parse_expression(text) if name == self._gradient else updated_node
