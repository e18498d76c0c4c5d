"""Steps of a port under `kit.compiled`, or a line that says why they are not."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from typing import Any

from torch2mlx.porting.compiling.purity import Purity, kept_attributes, unsteady
from torch2mlx.porting.compiling.regions import Region, regions
from torch2mlx.porting.compiling.source import (
    Source,
    changed,
    dotted,
    loads,
    parameters,
    shared_names,
    stores,
)
from torch2mlx.porting.compiling.tables import OF_ARRAYS
from torch2mlx.porting.report import Change


@dataclass(frozen=True)
class Told:
    """A step: its line in the text, the names that it holds, why it is not compiled, if it is
    not."""

    line: int
    held: tuple[str, ...]
    why: str = ""

    def change(self, line: int) -> Change:
        """What a report says of it; `line`: that of the original."""
        if self.why:
            return Change(line, "step", f"not compiled: {self.why}")
        return Change(
            line,
            "step",
            f"compiled, with the state of {', '.join(self.held)}: mx.compile traces it once",
        )


@dataclass
class _Plan:
    """How a step is written: its name, what it is given and answers."""

    region: Region
    name: str
    given: list[str]
    answers: list[str]
    held: list[str]


def with_compiled_steps(text: str, made: set[str]) -> tuple[str, list[Told]]:
    """A ported file with its steps compiled where they may be, and what became of each.

    `made`: names of the functions that gradients are taken of.
    """
    source = Source.of(text)
    purity = Purity(source, made)
    found = [r for r in regions(source, made) if r.loop is not None or r.scope is not source.tree]
    told: list[Told] = []
    taken = loads([source.tree]) | stores([source.tree])
    edits: list[tuple[int, int, list[str]]] = []  # first line, line behind the last, lines instead
    lines = text.split("\n")
    for region in found:
        why, plan = _planned(source, purity, region, taken, len(found) > 1)
        first = region.statements[0]
        told.append(Told(first.lineno, tuple(plan.held if plan else ()), why))
        if plan is None:
            comment = f"{_indent(first, lines)}# torch2mlx: not compiled: {why}"
            edits.append((first.lineno, first.lineno, [comment]))
        else:
            edits += _edits(source, plan, lines)
    if any(not step.why for step in told):
        edits += _imported(source)
    for start, end, new in sorted(edits, key=lambda e: e[:2], reverse=True):
        lines[start - 1 : end - 1] = new
    return "\n".join(lines), told


def _planned(
    source: Source, purity: Purity, region: Region, taken: set[str], several: bool
) -> tuple[str, _Plan | None]:
    """Why a step is not compiled, or how it is written."""
    reason = _odd(source, region, taken)
    if reason:
        return reason, None
    why, names, attributes = purity.why([s for s in region.statements if not _is_update(s)])
    if why:
        return f"it {why}", None
    loop = [region.loop] if region.loop is not None else []
    bound = stores(loop) | changed(loop) | shared_names(source)
    local = set() if region.scope is source.tree else stores(region.scope.body)
    moving = [unsteady(source, names), *sorted(names & (bound | local))]
    name = next((name for name in moving if name), "")
    if name:
        return f"what it calls reads {name}, which may change from step to step", None
    own = {h.rpartition(".")[2] for h in region.held}
    kept = (attributes & kept_attributes(source)) - own - {"learning_rate"}
    if kept:
        return f"it reads .{min(kept)}, which is set while training", None
    given, held = _surroundings(source, region, names, bound)
    stale = next((h for h in held if h.partition(".")[0] in bound), "")
    if stale:
        return f"{stale} is another one from step to step", None
    answers = _answers(source, region, given)
    return "", _Plan(region, _named(region, several, taken), given, answers, held)


def _odd(source: Source, region: Region, taken: set[str]) -> str:
    """What of the form of a file or a step speaks against writing it as a function."""
    for word in ("kit.distributed", "kit.hooks", "kit.optimizers.LBFGS"):
        if word in source.text:
            return f"the file uses {word}"
    if source.kit() in taken - source.imports.keys():
        return "the file has a name kit of its own"
    if _spans(region, source.text.split("\n")):
        return "its lines cannot be moved as they are"
    return "its modules have no names" if "" in region.held else ""


def _named(region: Region, several: bool, taken: set[str]) -> str:
    """A name for a step that the file does not have: of what it trains, where it has several."""
    first = region.held[0].rpartition(".")[2]
    wished = [f"{first}_step"] if several else ["step", "train_step", f"{first}_step"]
    wished += [f"{wished[0]}_{i}" for i in range(2, len(taken) + 3)]
    name = next(n for n in wished if n not in taken)
    taken.add(name)
    return name


def _is_update(statement: Any) -> bool:
    call = getattr(statement, "value", None)
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    return isinstance(statement, ast.Expr) and call.func.attr == "update"


def _spans(region: Region, lines: list[str]) -> bool:
    """Whether a string goes over lines, or a statement shares a line with another."""
    parts = [part for s in region.statements for part in ast.walk(s)]
    strings = (p for p in parts if isinstance(p, (ast.Constant, ast.JoinedStr)))
    if any(p.lineno != p.end_lineno for p in strings):
        return True
    for s in region.statements:
        before = lines[s.lineno - 1].encode()[: s.col_offset]
        behind = lines[s.end_lineno - 1].encode()[s.end_col_offset :].strip()
        if before.strip() or (behind and not behind.startswith(b"#")):
            return True
    return False


def _surroundings(
    source: Source, region: Region, read: set[str], bound: set[str]
) -> tuple[list[str], list[str]]:
    """What a step is given, and what it holds beside its modules and optimizers."""
    given: list[str] = []
    held = list(region.held)
    outer = {h.partition(".")[0] for h in held}
    fixed = source.imports.keys() | source.functions.keys() | source.classes.keys() | outer
    for name in _exposed(region.statements):
        if name in fixed - bound or (hasattr(builtins, name) and name not in bound):
            continue
        used = _uses(region.statements, name)
        if name in bound or used <= OF_ARRAYS:
            given.append(name)
        else:
            held.append(name)
    if "self" in outer:
        held += [h for h in _of_self(source, region) if h not in held]
    module = stores(source.tree.body)
    called = {n for n in read & module if n not in fixed and n not in held}
    return given, [*held, *sorted(n for n in called if _may_hold(source, n))]


def _may_hold(source: Source, name: str) -> bool:
    """Whether a name of the file may be a module: something is called on it, or it is called."""
    return not _uses([source.tree], name) <= OF_ARRAYS


def _exposed(statements: list[Any]) -> list[str]:
    """Names that statements read before they give them something, in order."""
    found: dict[str, None] = {}
    bound: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.FunctionDef):
            inner = loads([statement]) - parameters(statement) - stores(statement.body)
        else:
            inner = loads([statement])
        found.update(dict.fromkeys(n for n in _in_order(statement) if n in inner - bound))
        bound |= {statement.name} if isinstance(statement, ast.FunctionDef) else stores([statement])
    return list(found)


def _in_order(statement: Any) -> list[str]:
    """Names in the order in which they stand."""
    names = [part for part in ast.walk(statement) if isinstance(part, ast.Name)]
    return [name.id for name in sorted(names, key=lambda n: (n.lineno, n.col_offset))]


def _uses(nodes: list[Any], name: str) -> set[str]:
    """Attributes that are taken of a name; "()" where it is called."""
    found = set()
    for part in (part for node in nodes for part in ast.walk(node)):
        if isinstance(part, ast.Attribute) and dotted(part.value) == name:
            found.add(part.attr)
        elif isinstance(part, ast.Call) and dotted(part.func) == name:
            found.add("()")
    return found


def _of_self(source: Source, region: Region) -> list[str]:
    """Attributes of self that a step calls, or self where it calls a method."""
    found = []
    for part in (part for s in region.statements for part in ast.walk(s)):
        if not isinstance(part, ast.Call):
            continue
        names = dotted(part.func).split(".")
        if names[0] != "self" or len(names) < 2:
            continue
        if names[1] in source.functions:
            return ["self"]
        found.append(f"self.{names[1]}")
    given = (a for s in region.statements for a in ast.walk(s) if isinstance(a, ast.Call))
    if any(dotted(arg) == "self" for call in given for arg in call.args):
        return ["self"]
    return list(dict.fromkeys(found))


def _answers(source: Source, region: Region, given: list[str]) -> list[str]:
    """Names that something outside of a step reads, in the order in which they are bound."""
    inner = {part for s in region.statements for part in ast.walk(s)}
    outside = {
        part.id
        for part in ast.walk(region.scope)
        if part not in inner and isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }
    shared = shared_names(source)
    bound: dict[str, None] = {}
    for statement in region.statements[1:]:
        names = [p for p in ast.walk(statement) if isinstance(p, ast.Name)]
        bound.update((n.id, None) for n in names if isinstance(n.ctx, ast.Store))
    return [n for n in bound if n in outside or n in given or n in shared]


def _edits(source: Source, plan: _Plan, lines: list[str]) -> list[tuple[int, int, list[str]]]:
    """The step in front of its loop, and its call where it stood."""
    region = plan.region
    first = region.statements[0]
    place = region.loop or first
    indent, inner = _indent(place, lines), _indent(first, lines)
    at, deeper = _above(place, lines), indent + ("\t" if "\t" in inner else "    ")
    body: list[str] = []
    gone: list[tuple[int, int, list[str]]] = []
    for statement in region.statements:
        start = _above(statement, lines)
        part = lines[start - 1 : statement.end_lineno]
        while part and not part[0].strip():
            part = part[1:]
        body += [_moved(line, inner, deeper) for line in part]
        gone.append((start, statement.end_lineno + 1, []))
    if plan.answers:
        body.append(f"{deeper}return {', '.join(plan.answers)}")
    head = [f"{indent}@{source.kit()}.compiled({', '.join(plan.held)})"]
    head.append(f"{indent}def {plan.name}({', '.join(plan.given)}):")
    call = f"{plan.name}({', '.join(plan.given)})"
    told = f"{', '.join(plan.answers)} = {call}" if plan.answers else call
    here = f"{inner}{told}"
    if region.loop is None:
        gone[0] = (gone[0][0], gone[0][1], [*head, *body, "", here])
        return gone
    gone[0] = (gone[0][0], gone[0][1], [here])
    space = ["", ""] if not indent else [""]
    before = space if at > 1 and lines[at - 2].strip() else []
    return [*gone, (at, at, [*before, *head, *body, *space])]


def _imported(source: Source) -> list[tuple[int, int, list[str]]]:
    """The import of the kit, where the file has none."""
    if source.kit() in source.imports:
        return []
    last = max(
        n.end_lineno or n.lineno
        for n in source.tree.body
        if isinstance(n, (ast.Import, ast.ImportFrom))
    )
    return [(last + 1, last + 1, [f"from torch2mlx import {source.kit()}"])]


def _above(statement: ast.stmt, lines: list[str]) -> int:
    """The first line of the comments that stand right above a statement, or its line."""
    line, comment = statement.lineno, f"{_indent(statement, lines)}#"
    while line > 1 and lines[line - 2].startswith(comment):
        line -= 1
    return line


def _indent(statement: ast.stmt, lines: list[str]) -> str:
    """The blanks or tabs before a statement, alone on its line."""
    return lines[statement.lineno - 1][: statement.col_offset]


def _moved(line: str, indent: str, to: str) -> str:
    """A line of a statement at another indent; what stands further left is a continuation."""
    if not line.strip():
        return ""
    return to + line[len(indent) :] if line.startswith(indent) else line
