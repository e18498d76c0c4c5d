"""Where the steps of a port stand: a loss function, its gradient, and the updates with it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.porting.compiling.source import LOOPS, Source, changed, dotted, loads, stores


@dataclass
class Region:
    """Statements of one block that make a step, and what stands between them and can follow."""

    scope: Any  # the function, or the file
    loop: Any  # the outermost loop before which the step can be defined; None without one
    statements: list[Any]
    after: list[Any] = field(default_factory=list)  # statements between them, evaluations too
    held: list[str] = field(default_factory=list)  # modules and optimizers, as they are written
    updates: bool = False


def regions(source: Source, made: set[str]) -> Iterator[Region]:
    """The steps of a file; `made`: names of the functions that a gradient is taken of."""
    for node in ast.walk(source.tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if not isinstance(block, list):
                continue
            for i, statement in enumerate(block[:-1]):
                if isinstance(statement, ast.FunctionDef) and statement.name in made:
                    found = _region(source, block[i:])
                    if found is not None:
                        yield found


def _region(source: Source, block: list[Any]) -> Region | None:
    call = _call(block[1])
    if call is None or not isinstance(call.func, ast.Call):
        return None
    taken = dotted(call.func.func)
    if not taken.endswith("value_and_grad") or "reached" in taken.split("."):
        return None  # which parameters have a gradient is known when the step has run
    held = [dotted(arg) for arg in _modules(call.func.args[0])]
    found = Region(source.scope(block[0]), None, block[:2], held=held)
    for statement in block[2:]:
        name = _updated(statement)
        if name or _arithmetic(source, statement):
            if any(_clash(source, other, statement) for other in found.after):
                break
            found.statements.append(statement)
            if name:
                found.updates = True
                found.held += [name, *(dotted(m) for m in _modules(statement.value.args[0]))]
        elif _is_eval(source, statement) or _movable(source, statement, found.held):
            found.after.append(statement)
        else:
            break
    _trimmed(source, found)
    found.held = list(dict.fromkeys(found.held))
    found.loop = _loop(source, found)
    return found


def _trimmed(source: Source, found: Region) -> None:
    """Takes back what was taken behind the last statement that has to be in the step."""
    ends = [i for i, s in enumerate(found.statements) if _updated(s) or _is_gradient(source, s)]
    last = max([1, *ends])
    found.statements = found.statements[: last + 1]
    line = found.statements[-1].lineno
    found.after = [s for s in found.after if s.lineno < line]


def _is_gradient(source: Source, statement: Any) -> bool:
    call = _call(statement)
    return call is not None and _of_training(source, call)


def _of_training(source: Source, call: ast.Call) -> bool:
    return source.full(dotted(call.func)).startswith("torch2mlx.kit.training.")


def _call(statement: Any) -> ast.Call | None:
    value = getattr(statement, "value", None)
    return value if isinstance(value, ast.Call) else None


def _modules(node: Any) -> list[Any]:
    """The modules of `model` or `kit.training.Group(a, b)`."""
    if isinstance(node, ast.Call) and dotted(node.func).endswith("Group"):
        return node.args
    return [node]


def _is_eval(source: Source, statement: Any) -> bool:
    call = _call(statement)
    named = source.full(dotted(call.func)) if call is not None else ""
    return isinstance(statement, ast.Expr) and named == "mlx.core.eval"


def _updated(statement: Any) -> str:
    """The optimizer of `optimizer.update(model, gradients)`."""
    call = _call(statement)
    plain = isinstance(statement, ast.Expr) and call is not None and len(call.args) == 2
    if not plain or call is None or not isinstance(call.func, ast.Attribute):
        return ""
    return dotted(call.func.value) if call.func.attr == "update" else ""


def _arithmetic(source: Source, statement: Any) -> bool:
    """Sums and clipping of gradients, and names that are computed from others."""
    if not isinstance(statement, ast.Assign):
        return False
    targets = [part for t in statement.targets for part in ast.walk(t)]
    if not all(isinstance(t, (ast.Name, ast.Tuple, ast.expr_context)) for t in targets):
        return False
    inner = (part for part in ast.walk(statement.value) if isinstance(part, ast.Call))
    return all(_of_training(source, call) for call in inner)


def _movable(source: Source, statement: Any, held: list[str]) -> bool:
    """Whether a statement can as well stand behind an update: it has nothing of the modules."""
    if not isinstance(statement, (ast.Expr, ast.Assign, ast.AugAssign)):
        return False
    names = {dotted(part) for part in ast.walk(statement)} - {""}
    touched = any(n == h or n.startswith(f"{h}.") for n in names for h in held)
    own = {name for name in source.functions} & {name.rpartition(".")[2] for name in names}
    kept = isinstance(statement, ast.Expr) and "self" in {dotted(a) for a in _arguments(statement)}
    return not (touched or own or kept)


def _arguments(statement: Any) -> list[Any]:
    calls = [part for part in ast.walk(statement) if isinstance(part, ast.Call)]
    return [arg for call in calls for arg in (*call.args, *(k.value for k in call.keywords))]


def _clash(source: Source, waiting: Any, statement: Any) -> bool:
    """Whether two statements must keep their order."""
    if _is_eval(source, waiting):
        return False
    first, second = changed([waiting]) | stores([waiting]), stores([statement])
    return bool(first & loads([statement]) or second & (loads([waiting]) | first))


def _loop(source: Source, region: Region) -> Any:
    """The outermost loop around a step that binds none of the names that the step holds."""
    found = None
    for holder in source.holders(region.statements[0]):
        if holder is region.scope:
            break
        if isinstance(holder, LOOPS):
            bound = changed([holder]) | stores([holder])
            if any(h == b or h.startswith(f"{b}.") for h in region.held for b in bound):
                break
            found = holder
    return found
