"""`torch.autograd.grad`: the statements that lead from the inputs to the outputs become a function.

d_mixed = critic(mixed)                         def outputs_of(mixed):
slope = autograd.grad(d_mixed, mixed,               d_mixed = critic(mixed)
    grad_outputs=ones, create_graph=True)[0]        return d_mixed
                                                slope = kit.training.gradients(
                                                    outputs_of, (mixed,), ones)[0]

MLX differentiates what it differentiated: `create_graph` needs nothing. Torch runs what leads to
the outputs once; where that moves statistics or draws, the function repeats it `with` a `Repeated`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import calls, everything
from torch2mlx.porting.training.varying import varies

_ARGUMENTS = ("outputs", "inputs", "grad_outputs")
_EMPTY = cst.Module([])
#: How names of functions begin that are made here.
MADE = "outputs_of_"


@dataclass(frozen=True)
class _Asked:
    """One call: what of, by what, and the cotangents; all as nodes."""

    call: cst.Call
    outputs: Any
    inputs: tuple[str, ...]
    cotangents: Any


class Derivatives(cst.CSTTransformer):
    """Rewrites the calls whose inputs are names of the block they stand in."""

    def __init__(self, names: Names, report: Report) -> None:
        super().__init__()
        self._names, self._report = names, report
        self._scan = Scanner()
        self._around: list[Any] = []
        self._made: dict[Any, set[str]] = {}  # function -> names of functions made in it
        self._varies = False
        #: Statements that a function repeats -> the name of what they are repeated with.
        self._repeated: dict[Any, str] = {}

    def visit_Module(self, node: cst.Module) -> None:
        self._around.append(node)
        self._varies = varies(node, self._names)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._around.append(node)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._around.pop()
        return updated_node

    def leave_Module(self, original_node: Any, updated_node: cst.Module) -> cst.Module:
        return updated_node.with_changes(body=self._block(list(updated_node.body)))

    def leave_IndentedBlock(self, original_node: Any, updated_node: cst.IndentedBlock) -> Any:
        return updated_node.with_changes(body=self._block(list(updated_node.body)))

    def _block(self, block: list[Any]) -> list[Any]:
        made: list[Any] = []
        for statement in block:
            asked = self._asked(statement)
            path = None if asked is None else self._path(asked, made)
            if asked is None or path is None:
                made.append(statement)
                continue
            self._report.change(
                statement, "torch.autograd.grad", "the gradient of a function of the inputs"
            )
            made += self._emitted(asked, statement, [made[i] for i in path])
        return [line for statement in made for line in self._remembered(statement)]

    def _remembered(self, statement: Any) -> list[Any]:
        """A statement of a block, behind what notes from where it is repeated."""
        name = self._repeated.pop(statement, "")
        if not name:
            return [statement]
        given = ", ".join(dict.fromkeys(self._called(statement)))
        note = cst.parse_statement(f"{name} = {KIT}.repeated.Repeated({given})\n")
        note = note.with_changes(leading_lines=statement.leading_lines)
        return [note, statement.with_changes(leading_lines=[])]

    def _called(self, statement: Any) -> Iterator[str]:
        """What a statement calls, of which nothing is known: modules, and functions that call
        some."""
        given = self._gives(statement)
        for call in calls(statement):
            name = dotted(call.func).removesuffix(".forward")
            root, _, method = name.partition(".")
            of_torch = self._names.of(call.func).startswith(("torch.", "numpy.", f"{KIT}."))
            if not name or of_torch or root in given or root == KIT or hasattr(builtins, root):
                continue
            if method and root != "self":  # what a tensor's methods are of is no module
                name = root
            yield name

    def _asked(self, statement: Any) -> _Asked | None:
        """The only call of autograd.grad of a plain assignment."""
        if not isinstance(statement, cst.SimpleStatementLine):
            return None
        found = [c for c in calls(statement) if self._names.of(c.func) == "torch.autograd.grad"]
        if len(found) != 1 or not isinstance(statement.body[0], cst.Assign):
            return None
        given: dict[str, Any] = {}
        for i, argument in enumerate(found[0].args):
            keyword = argument.keyword.value if argument.keyword is not None else ""
            if argument.star or (not keyword and i >= len(_ARGUMENTS)):
                return None
            given[keyword or _ARGUMENTS[i]] = argument.value
        inputs = _plain_names(given.get("inputs"))
        many = isinstance(given.get("outputs"), (cst.List, cst.Tuple))
        if not inputs or "outputs" not in given or many:
            return None
        cotangents = given.get("grad_outputs")
        return _Asked(found[0], given["outputs"], inputs, cotangents)

    def _path(self, asked: _Asked, before: list[Any]) -> list[int] | None:
        """Places of the statements from the inputs to the outputs; None when they are not all
        here, or when what they read was changed since."""
        scan, moving = self._scan, set(asked.inputs)
        starts = [i for i, s in enumerate(before) if set(scan.stores(s)) & set(asked.inputs)]
        first = starts[-1] + 1 if starts else 0
        dependent = []
        for i in range(first, len(before)):
            if scan.loads(before[i]) & moving:
                dependent.append(i)
                moving |= self._gives(before[i])
        wanted = set(scan.loads(asked.outputs))
        path: list[int] = []
        for i in reversed(dependent):
            if self._gives(before[i]) & wanted:
                path.insert(0, i)
                wanted |= set(scan.loads(before[i]))
        if not wanted & set(asked.inputs) or not all(_plain(before[i]) for i in path):
            return None
        inside = {name for i in path for name in self._gives(before[i])}
        for i in path:
            read = scan.loads(before[i]) - inside
            later = {n for k in range(i + 1, len(before)) for n in self._gives(before[k])}
            if read & later:
                return None
        return path

    def _gives(self, statement: Any) -> set[str]:
        """Names that a statement gives a value."""
        if isinstance(statement, cst.FunctionDef):
            return {statement.name.value}
        return set(self._scan.stores(statement))

    def _emitted(self, asked: _Asked, statement: Any, path: list[Any]) -> list[Any]:
        name = self._fresh(f"{MADE}{'_'.join(asked.inputs)}", "_")
        lines = [self._again(s.with_changes(leading_lines=[]), s, asked) for s in path]
        lines.append(f"return {_EMPTY.code_for_node(asked.outputs)}\n")
        body = "".join(f"    {line}\n" for text in lines for line in text.splitlines())
        function = cst.parse_statement(f"def {name}({', '.join(asked.inputs)}):\n{body}")
        inputs = f"({', '.join(asked.inputs)},)"
        more = "" if asked.cotangents is None else f", {_EMPTY.code_for_node(asked.cotangents)}"
        call = cst.parse_expression(f"{KIT}.training.gradients({name}, {inputs}{more})")
        lines_above = statement.leading_lines
        replaced = statement.deep_replace(asked.call, call).with_changes(leading_lines=[])
        return [function.with_changes(leading_lines=lines_above), replaced]

    def _again(self, shown: Any, statement: Any, asked: _Asked) -> str:
        """A statement in the function, under `with` where it may not count again."""
        text = _EMPTY.code_for_node(shown)
        called = set() if isinstance(shown, cst.FunctionDef) else set(self._called(shown))
        if not self._varies or not called - {*asked.inputs}:
            return text
        name = self._repeated.get(statement) or self._fresh("repeated", "_")
        self._repeated[statement] = name
        inside = "".join(f"    {line}\n" for line in text.splitlines())
        return f"with {name}:\n{inside}"

    def _fresh(self, name: str, more: str) -> str:
        made = self._made.setdefault(self._around[-1], set())
        used = {n.value for n in everything(self._around[-1]) if isinstance(n, cst.Name)}
        while name in used | made:
            name += more
        made.add(name)
        return name


def _plain_names(node: Any) -> tuple[str, ...]:
    """Names of `x`, `[x, t]`, `(x, t)`; nothing of anything else."""
    parts = [e.value for e in node.elements] if isinstance(node, (cst.List, cst.Tuple)) else [node]
    names = tuple(part.value for part in parts if isinstance(part, cst.Name))
    return names if len(names) == len(parts) else ()


def _plain(statement: Any) -> bool:
    """Whether a statement only gives names values."""
    if isinstance(statement, cst.FunctionDef):
        return statement.name.value.startswith(MADE)
    line = isinstance(statement, cst.SimpleStatementLine)
    return line and all(isinstance(part, (cst.Assign, cst.AnnAssign)) for part in statement.body)
