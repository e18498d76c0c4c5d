"""Arguments of a function's step that their callers computed with modules that are trained.

def step(out, y):                           for x, y in data:
    loss = criterion(generator(out), y)         step(model(x), y)
    loss.backward()
    optimizer.step()

torch's graph leads through `out` to the model. MLX differentiates the function, to which `out` is a
constant: the model would not be trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import calls, code, walk
from torch2mlx.porting.types.callers import Callers
from torch2mlx.porting.types.known import Types

GIVEN = (
    "`{0}` comes from a call of `{1}`, which is trained, in the function that calls this one: MLX "
    "takes the gradient of a function, in which it is a constant; call `{1}` in this function"
)
_CUT = (".detach(", ".item(", ".data", ".numpy(", ".tolist(", ".argmax(")
_DEEP = 4


class GivenGraphs:
    """Answers for the functions of a file."""

    def __init__(
        self, module: cst.Module, types: Types, trained: Mapping[str, Sequence[str]]
    ) -> None:
        self._types, self._trained = types, trained
        self._callers = Callers(module, types)

    def why(self, function: Any, names: Collection[str]) -> str:
        """Why a function cannot take the gradient of what it is given by some of its parameters'
        names; "" where it can."""
        if not isinstance(function, cst.FunctionDef):
            return ""
        given = [p.name.value for p in function.params.params if p.name.value in names]
        for name in given:
            for call in self._callers.calls_of(function):
                value = self._callers.argument(function, name, call)
                used = "" if value is None else self._computed(value, _DEEP)
                if used:
                    return GIVEN.format(name, used)
        return ""

    def _computed(self, value: Any, depth: int) -> str:
        """The trained module that an expression was computed with; "" where there is none."""
        if not depth or any(word in code(value) for word in _CUT) or self._without(value):
            return ""
        for call in calls(value):
            module = self._types.of(call.func).kind == "module" and dotted(call.func)
            if module and self._is_trained(call.func, _DEEP):
                return module
        scope = self._callers.scope(value)
        held = self._callers.bindings(scope)
        for name in (n for n in walk(value) if isinstance(n, cst.Name)):
            for binding in held.reaching(name.value, name):
                plain = isinstance(binding.value, cst.BaseExpression)
                used = self._computed(binding.value, depth - 1) if plain else ""
                if used:
                    return used
        return ""

    def _without(self, value: Any) -> bool:
        """Whether an expression stands where no graph is recorded."""
        held = self._callers.bindings(self._callers.scope(value))
        node = value
        while node is not None:
            if isinstance(node, cst.With):
                texts = (code(item.item) for item in node.items)
                if any("no_grad" in text or "inference_mode" in text for text in texts):
                    return True
            node = held.parents.get(node)
        return False

    def _is_trained(self, func: Any, depth: int) -> bool:
        """Whether some optimizer of the file trains a module, as its name says here or where it is
        given by."""
        known = {name for modules in self._trained.values() for name in modules}
        if not isinstance(func, cst.Name):
            last = dotted(func).rpartition(".")[2]
            return any(name.rpartition(".")[2] == last for name in known)
        if func.value in known or not depth:
            return func.value in known
        scope = self._callers.scope(func)
        parameters = scope.params.params if isinstance(scope, cst.FunctionDef) else ()
        if func.value not in {p.name.value for p in parameters}:
            return False
        found = [
            self._callers.argument(scope, func.value, c) for c in self._callers.calls_of(scope)
        ]
        return any(v is not None and self._is_trained(v, depth - 1) for v in found)
