"""`requires_grad` of parameters: MLX freezes them in the module that holds them."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.parameter_loops import loop_of
from torch2mlx.porting.rules.place import Place, entering, leaving
from torch2mlx.porting.rules.sequential import is_sequential, layers_of
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import calls

_ITERATING = ("parameters", "named_parameters")


def frozen(at: Place, original: cst.Assign, target: Any, value: str) -> Any:
    """`self.x = nn.Parameter(..., requires_grad=False)`: set, and frozen."""
    if not isinstance(target, cst.Attribute):
        at.refuse(original, "a parameter without a gradient: set it on its module, freeze it")
        return None
    owner, key = at.text(target.value), target.attr.value
    lines = (f"{owner}.{key} = {value}", f'kit.training.freeze({owner}, "{key}")')
    return cst.FlattenSentinel([small(line) for line in lines])


def set_trainable(at: Place, original: Any, target: Any, value: str) -> Any:
    """`p.requires_grad = value` as a statement; None where nothing has to be done."""
    loop = loop_of(at, code(target))
    at.change(original, "requires_grad", "parameters are frozen in their module")
    if loop is not None:
        loop.sets = True
        return small(setting(loop.module, loop.name, value))
    if isinstance(target, cst.Attribute) and at.type_of(target.value).kind != "tensor":
        return small(setting(at.text(target.value), f'"{target.attr.value}"', value))
    if value == "True":
        return None
    at.refuse(original, "requires_grad of an array: kit.training.freeze(module, name)")
    return original if isinstance(original, cst.BaseSmallStatement) else cst.Expr(original)


def is_trainable(at: Place, original: cst.Attribute, updated: cst.Attribute) -> Any:
    """`p.requires_grad` as a value."""
    if original in at.filtered:
        return updated
    loop = loop_of(at, code(original.value))
    if loop is not None:
        loop.sets = True
        return expression(f"kit.training.is_trainable({loop.module}, {loop.name})")
    owner = original.value
    if isinstance(owner, cst.Attribute) and at.type_of(owner.value).kind == "module":
        name = f'"{owner.attr.value}"'
        return expression(f"kit.training.is_trainable({at.text(owner.value)}, {name})")
    if at.comprehensions and not at.file.freezes:
        return expression("True")
    at.refuse(original, "requires_grad of an array: kit.training.is_trainable(module, name)")
    return updated


@entering(cst.ListComp, cst.DictComp, cst.SetComp, cst.GeneratorExp)
def _before_list_comp(at: Place, node: Any) -> None:
    at.comprehensions += 1


@leaving(cst.ListComp, cst.DictComp, cst.SetComp, cst.GeneratorExp)
def _list_comp(at: Place, original: Any, updated: Any) -> Any:
    at.comprehensions -= 1
    return updated


@entering(cst.CompFor)
def _before_comp_for(at: Place, node: cst.CompFor) -> None:
    for test in _tests(node):
        at.filtered.add(test)


@leaving(cst.CompFor)
def _comp_for(at: Place, original: cst.CompFor, updated: cst.CompFor) -> Any:
    """`for p in m.parameters() if p.requires_grad`: the trainable ones; layers of a Sequential."""
    if is_sequential(at, original.iter):
        return updated.with_changes(iter=layers_of(updated.iter))
    wanted = [test for test in _tests(original)]
    if not wanted:
        return updated
    pairs = zip(original.ifs, updated.ifs, strict=True)
    kept = [new for old, new in pairs if old.test not in wanted]
    return updated.with_changes(ifs=kept, iter=_only_trainable(updated.iter))


def trainable_filter(at: Place, original: cst.Call, updated: cst.Call) -> Any:
    """`filter(lambda p: p.requires_grad, m.parameters())`; None for other calls."""
    if not is_trainable_filter(at, original):
        return None
    return _only_trainable(updated.args[1].value)


def is_trainable_filter(at: Place, node: cst.Call) -> bool:
    """Whether a call filters parameters; notes the test, which is dropped."""
    plain = isinstance(node.func, cst.Name) and node.func.value == "filter"
    if not plain or len(node.args) != 2 or not isinstance(node.args[0].value, cst.Lambda):
        return False
    given, call = node.args[0].value, node.args[1].value
    names = [p.name.value for p in given.params.params]
    test = given.body
    if _iterates(call) and len(names) == 1 and code(test) == f"{names[0]}.requires_grad":
        at.filtered.add(test)
        return True
    return False


@entering(cst.Call)
def _before_call(at: Place, node: cst.Call) -> None:
    is_trainable_filter(at, node)


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
    line: Any = cst.parse_statement(text.rstrip("\n") + "\n")
    return line.body[0]
