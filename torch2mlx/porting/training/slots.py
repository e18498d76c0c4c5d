"""Gradients that several backward passes share.

torch keeps one gradient for each parameter: every backward adds to those of all parameters that its
loss comes from, whoever steps next, until a zero_grad sets them to zero. Where a step could see
what another one's backward left, each module's gradients have a name of their own here, and every
backward adds to those of all modules that it reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import called_method
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import blocks, walk
from torch2mlx.porting.training.left_over import note_left
from torch2mlx.porting.training.manual_sgd import updated_modules, zeroes
from torch2mlx.porting.training.step_scope import Scope, Step
from torch2mlx.porting.training.training_steps import Finder

_PARTS = (
    "several backward passes share the gradients of {whole}, of which {part} is a part: give the "
    "optimizers modules that do not hold each other"
)
_NEXT_CALL = (
    "a call of this function leaves gradients in {module}, by which the next call steps: call "
    "{module}.zero_grad() where the function begins"
)
_ELSEWHERE = (
    "this backward leaves gradients in {modules}, which {optimizer}.step() in another function "
    "takes: call {optimizer}.zero_grad() before the backward there, or detach what leads to them"
)


@dataclass(frozen=True)
class _Event:
    """What a statement does to gradients: a backward, a step or a zero_grad."""

    kind: str
    statement: Any
    block: tuple[int, ...]  # the blocks that the statement stands in, the outer ones first
    modules: frozenset[str] = frozenset()
    optimizer: str = ""


class Slots:
    """Answers for one file: which functions need names for the gradients of single modules."""

    def __init__(self, find: Finder) -> None:
        self._find = find
        self.blocks: dict[cst.CSTNode, list[Any]] = {}  # of the statements with a backward
        #: By optimizer: whether some function steps it and sets nothing to zero before.
        self._late: dict[str, bool] = {}
        self._left: list[tuple[Any, Step, set[str], Scope]] = []

    def share(self, scope: Scope) -> None:
        """Gives a function whose backward passes share gradients a name for those of each module
        (`scope.slots`), and its steps the modules that they reach."""
        if not scope.steps:
            return
        events = list(self._events(_body(scope.node), scope, ()))
        self._note_order(events)
        steps = scope.steps.values()
        known = sorted({m for modules in scope.modules.values() for m in modules})
        reached = {id(s): self._reached(s, n, known) for n, s in scope.steps.items()}
        self._note_left(scope, known)
        if not (
            _overlap(list(steps))
            or any(self._leaks(n, s, reached[id(s)], events, scope) for n, s in scope.steps.items())
            or any(_in_part(s, events) for s in steps if s.adds)
        ):
            if not isinstance(scope.node, cst.Module):
                note_left(scope, events, self._own(scope))
            return
        held = sorted(
            {*(m for s in steps for m in s.modules), *(m for r in reached.values() for m in r)}
        )
        why = _parts(held)
        refused = why or self._handed_on(scope, held, reached, events)
        for statement in scope.steps if refused else ():
            self._find.report.refuse(statement, refused)
        if why:
            scope.steps.clear()
            return
        self._name(scope, held, reached)

    def _own(self, scope: Scope) -> set[str]:
        """The names that a function itself gives values, but arguments and names of others."""
        given = {p.name.value for p in getattr(getattr(scope.node, "params", None), "params", ())}
        told = (n for n in walk(scope.node) if isinstance(n, (cst.Global, cst.Nonlocal)))
        given |= {item.name.value for part in told for item in part.names}
        return set(self._find.scan.stores(scope.node.body)) - given

    def _name(self, scope: Scope, held: list[str], reached: dict[int, set[str]]) -> None:
        """Writes names and modules into a scope and its steps."""
        scope.slots = {m: scope.fresh(f"{m.rpartition('.')[2].strip('_')}_grads") for m in held}
        scope.gradients = {**scope.gradients, **scope.slots}
        scope.accumulated = set(scope.slots.values())
        for step in scope.steps.values():
            more = sorted(reached[id(step)] - set(step.modules))
            step.modules = [*step.modules, *more]
            step.adds = True

    # --- what a backward reaches

    def _reached(self, step: Step, statement: Any, known: list[str]) -> set[str]:
        """Those of some modules whose weights a loss comes from."""
        old = [_cut(s) for s in self.blocks[statement]]
        return {m for m in known if self._reaches(step, m, old)}

    def _reaches(self, step: Step, module: str, old: list[Any]) -> bool:
        alone = Step(step.place, step.loss, step.optimizers, [module])
        inside = [old[i] for i in self._find.slice(alone, old)]
        names = self._find.with_owners([module])
        return any(self._find.reach.reaches(s, names) for s in (step.loss, *inside))

    # --- the order of what happens to gradients

    def _events(
        self, block: list[Any], scope: Scope, around: tuple[int, ...], within: bool = False
    ) -> Iterator[_Event]:
        """`within`: the block stands under `with`, and runs whenever what is `around` does."""
        path = around if within else (*around, id(block[0]) if block else 0)
        for statement in block:
            if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
                continue
            if statement in scope.steps:
                self.blocks[statement] = block
                yield _Event("backward", statement, path)
            if isinstance(statement, cst.SimpleStatementLine):
                yield from self._plain(statement, scope, path)
            if isinstance(statement, cst.With):
                yield from self._events(list(statement.body.body), scope, path, True)
                continue
            by_hand = set(updated_modules([statement], self._find.scan)) & set(scope.modules)
            yield from self._stepped_by_hand(statement, by_hand, path)
            if by_hand or isinstance(statement, cst.SimpleStatementLine):
                continue
            for inner in blocks(statement):
                yield from self._events(inner, scope, path)

    def _stepped_by_hand(
        self, statement: Any, by_hand: set[str], path: tuple[int, ...]
    ) -> Iterator[_Event]:
        """Loops over parameters that step them, in the place of an optimizer."""
        for module in sorted(by_hand):
            yield _Event("step", statement, path, frozenset([module]), module)
        if by_hand and zeroes(statement, self._find.scan):
            yield _Event("zero", statement, path, frozenset(by_hand))

    def _plain(self, statement: Any, scope: Scope, path: tuple[int, ...]) -> Iterator[_Event]:
        for call in self._find.scan.calls(statement):
            optimizer = self._find.stepped(call)
            if optimizer:
                modules = frozenset(self.of_optimizer(optimizer, scope))
                yield _Event("step", statement, path, modules, optimizer)
        zero = called_method(statement, "zero_grad")
        if zero is not None and isinstance(zero.func, cst.Attribute):
            owner = dotted(zero.func.value)
            optimizer = owner if owner in scope.modules or owner in self._find.trained else ""
            modules = frozenset(self.zeroed(owner, scope))
            yield _Event("zero", statement, path, modules, optimizer)

    def of_optimizer(self, optimizer: str, scope: Scope) -> list[str]:
        """The modules that an optimizer steps."""
        return scope.modules.get(optimizer) or self._find.trained.get(optimizer, [])

    def zeroed(self, owner: str, scope: Scope) -> list[str]:
        """The modules whose gradients `owner.zero_grad()` sets to zero."""
        found = self.of_optimizer(owner, scope)
        known = {m for modules in scope.modules.values() for m in modules}
        return found or sorted(m for m in known if m == owner or m.startswith(f"{owner}."))

    def _leaks(
        self, statement: Any, step: Step, reached: set[str], events: list[_Event], scope: Scope
    ) -> bool:
        """Whether another optimizer may step by what a backward leaves in its modules."""
        at = next(i for i, e in enumerate(events) if e.statement is statement)
        own = events[at]
        looped = bool(self._find.loops_around(statement, scope))
        later = events[at + 1 :] + (events[: at + 1] if looped else [])
        return any(self._taken(m, step, own, later) for m in {*reached, *step.modules})

    def _taken(self, module: str, step: Step, own: _Event, later: list[_Event]) -> bool:
        for place, event in enumerate(later):
            if module not in event.modules:
                continue
            if event.kind == "step" and event.optimizer not in step.optimizers:
                return True
            if event.kind == "zero" and _surely(event, own, later[place:]):
                return False
        return False

    def _handed_on(
        self, scope: Scope, held: list[str], reached: dict[int, set[str]], events: list[_Event]
    ) -> str:
        """Why a function cannot have names of its own for gradients: a call of it steps by what the
        call before left; "" where none does."""
        if isinstance(scope.node, cst.Module):
            return ""
        for module in held:
            met = [event for event in events if module in event.modules]
            made = [
                event
                for event in events
                if event.kind == "backward" and self._gives(event, module, reached, scope)
            ]
            behind = events[events.index(made[-1]) :] if made else []
            zeroed = any(
                x.kind == "zero" and module in x.modules for x in behind if _surely(x, made[-1], [])
            )
            if made and not zeroed and met and met[0].kind == "step":
                return _NEXT_CALL.format(module=module)
        return ""

    def _gives(
        self, event: _Event, module: str, reached: dict[int, set[str]], scope: Scope
    ) -> bool:
        step = scope.steps[event.statement]
        return module in reached[id(step)] or module in step.modules

    # --- other functions

    def _note_order(self, events: list[_Event]) -> None:
        """Notes which optimizers step by gradients that were not set to zero before."""
        for place, event in enumerate(events):
            if event.kind == "step":
                before = events[:place]
                zero = any(e.kind == "zero" and event.modules <= e.modules for e in before)
                self._late[event.optimizer] = self._late.get(event.optimizer, False) or not zero

    def _note_left(self, scope: Scope, known: list[str]) -> None:
        """Notes what the steps of a function leave in modules of optimizers of other functions."""
        trained = self._find.trained
        others = {m for modules in trained.values() for m in modules} - set(known)
        seen = {m for m in others if m.startswith("self.") or m in self._find.types.globals}
        for statement, step in scope.steps.items():
            reached = self._reached(step, statement, sorted(seen)) if seen else set()
            if reached:
                self._left.append((statement, step, reached, scope))

    def refuse_left(self) -> None:
        """Refuses what leaves gradients to a step of another function, which would see them."""
        for statement, step, reached, _ in self._left:
            for optimizer, modules in self._find.trained.items():
                taken = reached.intersection(modules)
                if taken and optimizer not in step.optimizers and self._late.get(optimizer):
                    names = ", ".join(sorted(taken))
                    why = _ELSEWHERE.format(modules=names, optimizer=optimizer)
                    self._find.report.refuse(statement, why)


def added(step: Step, more: str, scope: Scope) -> list[str]:
    """Statements that add what a backward gives to the gradients of each module."""
    several = len(step.modules) > 1
    parts = [f'{more}["modules_"][{i}]' if several else more for i in range(len(step.modules))]
    slots = [scope.slots[m] for m in step.modules]
    return [f"{s} = {KIT}.training.add({s}, {p})\n" for s, p in zip(slots, parts, strict=True)]


def together(modules: list[str], scope: Scope) -> str:
    """The gradients of the modules of one optimizer, as it takes them."""
    return f"{KIT}.training.together({', '.join(scope.slots[m] for m in modules)})"


def _body(node: Any) -> list[Any]:
    return list(node.body if isinstance(node, cst.Module) else node.body.body)


def _parts(held: list[str]) -> str:
    """Why some modules cannot have gradients of their own: one holds another."""
    pairs = ((a, b) for a in held for b in held if b.startswith(f"{a}."))
    return next((_PARTS.format(whole=a, part=b) for a, b in pairs), "")


def _overlap(steps: list[Step]) -> bool:
    """Whether some steps are of optimizers of which others have a part."""
    groups = {frozenset(s.optimizers) for s in steps}
    return any(a is not b and a & b for a in groups for b in groups)


def _in_part(step: Step, events: list[_Event]) -> bool:
    """Whether gradients that add up are set to zero of some of a step's modules alone."""
    whole, run, place = set(step.modules), set[str](), None
    for event in (*events, None):
        if run and (event is None or event.kind != "zero" or event.block != place):
            if run != whole:
                return True
            run = set()
        if event is not None and event.kind == "zero":
            run, place = run | whole.intersection(event.modules), event.block
    return False


def _surely(zero: _Event, own: _Event, rest: list[_Event]) -> bool:
    """Whether a zero_grad is called on every way from a backward to the step behind it."""
    step = next((e for e in rest if e.kind == "step" and e.modules & zero.modules), own)
    return any(e.block[: len(zero.block)] == zero.block for e in (own, step))


class _Cut(cst.CSTTransformer):
    """Takes out what no gradient goes through."""

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        func = original_node.func
        ends = isinstance(func, cst.Attribute) and func.attr.value in ("detach", "item", "numpy")
        return cst.Integer("0") if ends else updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        return cst.Integer("0") if original_node.attr.value == "data" else updated_node

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> Any:
        items = [i.item for i in original_node.items]
        names = {dotted(i.func) for i in items if isinstance(i, cst.Call)}
        off = any(n.rpartition(".")[2] in ("no_grad", "inference_mode") for n in names)
        return cst.parse_statement("pass\n") if off else updated_node


def _cut(statement: Any) -> Any:
    return statement.visit(_Cut())
