"""`requires_grad` of parameters: MLX freezes them in the module that holds them."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.context import code, expression
from torch2mlx.porting.rules.parameter_loops import Loops
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import calls

_ITERATING = ("parameters", "named_parameters")


class Freezing(Loops):
    """Rewrites where `requires_grad` is set or read."""

    freezes = True  # whether anything in the file stops a gradient at all

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._filtered: set[cst.CSTNode] = set()  # tests that a comprehension over parameters drops
        self._comprehensions = 0  # that the place is in

    def frozen(self, original: cst.Assign, target: Any, value: str) -> Any:
        """`self.x = nn.Parameter(..., requires_grad=False)`: set, and frozen."""
        if not isinstance(target, cst.Attribute):
            self.refuse(original, "a parameter without a gradient: set it on its module, freeze it")
            return None
        owner, key = code(target.value), target.attr.value
        lines = (f"{owner}.{key} = {value}", f'kit.training.freeze({owner}, "{key}")')
        return cst.FlattenSentinel([small(line) for line in lines])

    def set_trainable(self, original: Any, target: Any, value: str) -> Any:
        """`p.requires_grad = value` as a statement; None where nothing has to be done."""
        loop = self.loop_of(code(target))
        self.change(original, "requires_grad", "parameters are frozen in their module")
        if loop is not None:
            loop.sets = True
            return small(setting(loop.module, loop.name, value))
        if isinstance(target, cst.Attribute) and self.type_of(target.value).kind != "tensor":
            return small(setting(code(target.value), f'"{target.attr.value}"', value))
        if value == "True":
            return None
        self.refuse(original, "requires_grad of an array: kit.training.freeze(module, name)")
        return original if isinstance(original, cst.BaseSmallStatement) else cst.Expr(original)

    def is_trainable(self, original: cst.Attribute, updated: cst.Attribute) -> Any:
        """`p.requires_grad` as a value."""
        if original in self._filtered:
            return updated
        loop = self.loop_of(code(original.value))
        if loop is not None:
            loop.sets = True
            return expression(f"kit.training.is_trainable({loop.module}, {loop.name})")
        owner = original.value
        if isinstance(owner, cst.Attribute) and self.type_of(owner.value).kind == "module":
            name = f'"{owner.attr.value}"'
            return expression(f"kit.training.is_trainable({code(owner.value)}, {name})")
        if self._comprehensions and not self.freezes:
            return expression("True")
        self.refuse(original, "requires_grad of an array: kit.training.is_trainable(module, name)")
        return updated

    def visit_ListComp(self, node: Any) -> None:
        self._comprehensions += 1

    def leave_ListComp(self, original_node: Any, updated_node: Any) -> Any:
        self._comprehensions -= 1
        return updated_node

    visit_DictComp = visit_SetComp = visit_GeneratorExp = visit_ListComp
    leave_DictComp = leave_SetComp = leave_GeneratorExp = leave_ListComp

    def visit_CompFor(self, node: cst.CompFor) -> None:
        for test in _tests(node):
            self._filtered.add(test)

    def leave_CompFor(self, original_node: cst.CompFor, updated_node: cst.CompFor) -> Any:
        """`for p in m.parameters() if p.requires_grad`: the trainable ones."""
        wanted = [test for test in _tests(original_node)]
        if not wanted:
            return updated_node
        pairs = zip(original_node.ifs, updated_node.ifs, strict=True)
        kept = [new for old, new in pairs if old.test not in wanted]
        return updated_node.with_changes(ifs=kept, iter=_only_trainable(updated_node.iter))

    def trainable_filter(self, original: cst.Call, updated: cst.Call) -> Any:
        """`filter(lambda p: p.requires_grad, m.parameters())`; None for other calls."""
        if not self.is_trainable_filter(original):
            return None
        return _only_trainable(updated.args[1].value)

    def is_trainable_filter(self, node: cst.Call) -> bool:
        """Whether a call filters parameters; notes the test, which is dropped."""
        plain = isinstance(node.func, cst.Name) and node.func.value == "filter"
        if not plain or len(node.args) != 2 or not isinstance(node.args[0].value, cst.Lambda):
            return False
        given, call = node.args[0].value, node.args[1].value
        names = [p.name.value for p in given.params.params]
        test = given.body
        if _iterates(call) and len(names) == 1 and code(test) == f"{names[0]}.requires_grad":
            self._filtered.add(test)
            return True
        return False

    def visit_Call(self, node: cst.Call) -> None:
        self.is_trainable_filter(node)


def _iterates(node: Any) -> bool:
    method = node.func.attr.value if _is_method(node) else ""
    return method in _ITERATING and not node.args


def _is_method(node: Any) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)


def _tests(node: cst.CompFor) -> list[Any]:
    """The conditions of a comprehension over parameters that ask for `requires_grad` alone."""
    if not _iterates(node.iter):
        return []
    target = node.target
    named = isinstance(target, cst.Tuple) and len(target.elements) == 2
    name = code(target.elements[1].value if named else target)  # type: ignore[attr-defined]
    return [part.test for part in node.ifs if code(part.test) == f"{name}.requires_grad"]


def _only_trainable(call: Any) -> Any:
    """`kit.training.parameters(m)` with `trainable=True`; a method keeps its other arguments."""
    more = cst.parse_expression("f(trainable=True)").args  # type: ignore[attr-defined]
    return expression(code(call.with_changes(args=[*call.args, *more])))


def is_frozen_parameter(names: Names, node: Any) -> bool:
    """Whether an expression is `nn.Parameter(..., requires_grad=False)`."""
    if not isinstance(node, cst.Call) or names.of(node.func) != "torch.nn.Parameter":
        return False
    given = {a.keyword.value: a.value for a in node.args if a.keyword is not None}
    stopped = given.get("requires_grad") or (node.args[1].value if len(node.args) > 1 else None)
    return isinstance(stopped, cst.Name) and stopped.value == "False"


def freezing(module: cst.Module, source: str) -> bool:
    """Whether a file stops the gradient of any parameter; `source` is its text."""
    text = source.replace(" ", "")
    if "requires_grad" not in text:
        return False
    set_otherwise = text.count("requires_grad=") - text.count("requires_grad=True")
    set_otherwise -= text.count("requires_grad==")
    return bool(set_otherwise) or any(
        isinstance(c.func, cst.Attribute) and c.func.attr.value == "requires_grad_" and c.args
        for c in calls(module)
    )


def setting(module: str, name: str, value: str) -> str:
    """The call that freezes a parameter, or lets it be trained."""
    known = {"False": "freeze", "True": "unfreeze"}
    if value in known:
        return f"kit.training.{known[value]}({', '.join(filter(None, [module, name]))})"
    return f"kit.training.set_trainable({module}, {name or repr('')}, {value})"


def set_for_all(text: str, target: str) -> str:
    """The value that the one statement of a loop gives `requires_grad`, where it is a literal."""
    for value in ("True", "False"):
        if text in (f"{target}.requires_grad = {value}", f"{target}.requires_grad_({value})"):
            return value
    return "True" if text == f"{target}.requires_grad_()" else ""


def small(text: str) -> Any:
    """A small statement, for the place of another."""
    return cst.parse_statement(text.rstrip("\n") + "\n").body[0]  # type: ignore[union-attr]
