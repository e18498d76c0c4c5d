"""Parameters that are frozen, or thawed, while a model is trained.

MLX's optimizers keep moments of the parameters that the first update has gradients of, and take no
others later; those of the kit begin with a parameter when its first gradient comes, as torch's do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import calls, code, is_backward, of_kinds, walk

_LOOPS = (cst.For, cst.While)


def changes_what_trains(module: cst.Module, trained: Mapping[str, Sequence[str]]) -> bool:
    """Whether a training step may have gradients of other parameters than the one before it.
    `trained`: the modules of each optimizer."""
    return any(
        not _is_whole(found, trained)
        for part in _while_training(module)
        if len(found := list(_set_in(part)))
    )


def _while_training(module: cst.Module) -> list[Any]:
    """Functions and loops of the file that train, themselves or by what they call, and functions
    that these call."""
    functions = {f.name.value: f for f in of_kinds(module, cst.FunctionDef)}
    called = {name: _called(f) for name, f in functions.items()}
    training = {name for name, f in functions.items() if _trains(f)}
    while more := {n for n, names in called.items() if names & training} - training:
        training |= more
    loops = [n for n in module.body if isinstance(n, _LOOPS)]
    loops = [n for n in loops if _trains(n) or training & _called(n)]
    waiting = [*training, *(name for n in loops for name in _called(n) & functions.keys())]
    met: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in met:
            met.add(name)
            waiting += called[name] & functions.keys()
    return [*loops, *(functions[name] for name in sorted(met))]


def _trains(node: Any) -> bool:
    return any(map(is_backward, calls(node)))


def _called(node: Any) -> set[str]:
    return {dotted(c.func).rpartition(".")[2] for c in calls(node)}


def _set_in(node: Any) -> Iterator[tuple[str, str]]:
    """Of what a part sets to be trained or not: the module whose parameters it goes through, and
    the text of what they are set to."""
    for loop in (n for n in walk(node) if isinstance(n, cst.For)):
        owner = _owner(loop.iter)
        for part in walk(loop.body) if owner else ():
            target = part.targets[0].target if isinstance(part, cst.Assign) else None
            if isinstance(target, cst.Attribute) and target.attr.value == "requires_grad":
                yield owner, code(part.value)
            elif isinstance(part, cst.Call) and dotted(part.func).endswith(".requires_grad_"):
                yield owner, code(part.args[0].value) if part.args else "True"


def _owner(over: Any) -> str:
    """`module` of `module.parameters()` and `module.named_parameters()`."""
    func = over.func if isinstance(over, cst.Call) else None
    named = isinstance(func, cst.Attribute) and func.attr.value.endswith("parameters")
    return dotted(func.value) if named and isinstance(func, cst.Attribute) else ""


def _is_whole(found: list[tuple[str, str]], trained: Mapping[str, Sequence[str]]) -> bool:
    """Whether all of an optimizer's parameters are set, to be trained where it steps: as in the
    turns of two networks of which each is trained while the other rests."""
    alone = {modules[0] for modules in trained.values() if len(modules) == 1}
    for owner in {owner for owner, _ in found}:
        values = {value for name, value in found if name == owner}
        if owner not in alone or values != {"True", "False"}:
            return False
    return True
