"""What statements call, themselves or in functions of the file that they give it to.

loss = loss_of(batch, model)        calls model, where loss_of does
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.training.written_out import arguments
from torch2mlx.porting.types.known import Types

#: How many functions a name is followed through.
_DEEP = 3


def called_modules(statements: Sequence[Any], types: Types, scan: Scanner) -> list[str]:
    """Modules with weights that are called in some statements, by the names that these have; those
    too that a function of another file is given."""
    found: list[str] = []
    given = (
        argument.value
        for statement in statements
        for call in scan.calls(statement)
        if isinstance(call.func, cst.Name) and _is_of_another_file(types, call.func)
        for argument in call.args
    )
    for node in (*called(statements, types, scan), *given):
        kind, name = types.of(node), dotted(node)
        losses = kind.name.endswith("Loss") or "criterion" in name or "loss" in name
        if kind.kind == "module" and name and not losses and name not in found:
            found.append(name)
    return found


def _is_of_another_file(types: Types, func: cst.Name) -> bool:
    kind = types.of(func)
    return kind.kind == "unknown" or (kind.kind == "function" and kind.name not in types.nodes)


def called(
    statements: Sequence[Any], types: Types, scan: Scanner, depth: int = _DEEP
) -> Iterator[Any]:
    """The expressions that some statements call, and those that a function is given and calls."""
    for statement in statements:
        for call in scan.calls(statement):
            yield call.func
            kind = types.of(call.func)
            function = types.nodes.get(kind.name) if kind.kind == "function" else None
            given = arguments(function, call, 0) if function is not None and depth else None
            if function is None or given is None:
                continue
            inner = {dotted(f) for f in called([function.body], types, scan, depth - 1)}
            yield from (value for name, value, _ in given if name in inner)
