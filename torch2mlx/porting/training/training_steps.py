"""Where training steps are: each backward, who is trained with it, and what leads to its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import Scanner, called_method, plain_target
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.passed_by import may_pass_by
from torch2mlx.porting.scopes.traversal import blocks, calls, children, everything, walk
from torch2mlx.porting.training.called_modules import called, called_modules
from torch2mlx.porting.training.carriers import Carriers
from torch2mlx.porting.training.free_parameters import KIND
from torch2mlx.porting.training.given_graphs import GivenGraphs
from torch2mlx.porting.training.hooked import watch
from torch2mlx.porting.training.manual_sgd import always, next_updated
from torch2mlx.porting.training.optimizer_scopes import OptimizerScopes
from torch2mlx.porting.training.optimizers import made_here, wrapped_modules, wraps
from torch2mlx.porting.training.passed_optimizers import (
    Key,
    held_optimizers,
    passed_optimizers,
)
from torch2mlx.porting.training.reach import Reach
from torch2mlx.porting.training.schedule import late, leading, left_by, needed
from torch2mlx.porting.training.step_scope import Scope, Step
from torch2mlx.porting.training.varying import varies
from torch2mlx.porting.training.whole_steps import whole_here
from torch2mlx.porting.training.zeroed_by_hand import single_parameters
from torch2mlx.porting.types.known import Types

#: Expressions that `backward` may be called on, where their type is not known.
_LOSSES = (cst.Name, cst.Attribute, cst.BinaryOperation)
#: What holds statements without being one.
_SUITES = (cst.BaseSuite, cst.Else, cst.ExceptHandler, cst.Finally, cst.MatchCase)


_NO_STEP = (
    "no optimizer step was found for this backward: write a function that gives the loss and call "
    "nn.value_and_grad(model, function)"
)
_OVERTAKEN = (
    "what leads to this loss calls {modules} before another optimizer's step changes its weights, "
    "and would run behind that: move it behind that step, or this backward and its step before it"
)
_LEFT = (
    "a {!r} leaves this step between its forward pass and its backward: a "
    "function is made of what is between them; move the branch above the forward pass"
)
_NOT_SEEN = (
    "which of {names} {optimizer} trains is not seen here: make it in this function, or in the "
    "file that calls this function, from the modules that the call gives"
)
_SEVERAL = (
    "{optimizer} is of some modules or of others, by which line ran last: give each optimizer, and "
    "the parameters of each, a name of its own"
)


class Finder:
    """Finds the steps of a file."""

    def __init__(self, inference: Types, trained: dict[str, list[str]], report: Report) -> None:
        self.types, self.trained, self.report = inference, trained, report
        self.scan = Scanner()
        self.reach = Reach(inference, self.scan)
        self._declared: dict[cst.CSTNode, set[str]] = {}
        self._varies: bool | None = None
        self._file = cst.Module([])
        self._made: dict[cst.CSTNode, Step] = {}  # by the statement of the backward
        self._passed: dict[Key, list[str] | None] = {}
        self._wrapped: dict[str, str] = {}  # wrappers for several processes -> their modules

    def prepare(self, block: list[Any], scope: Scope) -> None:
        """Finds all steps of a function before any of it is rewritten."""
        if isinstance(scope.node, cst.Module):
            self._file = scope.node
            self._made_here = OptimizerScopes(scope.node, self.types.names)
            self._graphs = GivenGraphs(scope.node, self.types, self.trained)
            watch(self.scan, scope.node, self.types)
            self._passed = passed_optimizers(
                scope.node, self.trained, made_here(scope.node, self.types.names)
            )
            for name, modules in held_optimizers(scope.node, self._passed).items():
                self.trained.setdefault(name, modules)
            self._wrapped = wrapped_modules(scope.node, self.types.names)
            self.scan.single = single_parameters(scope.node, KIND)
            self._carriers = Carriers(scope.node, self.types, self.scan)
        steps = []
        for i in range(len(block)):
            step = self.step(i, block, scope)
            if step is not None:
                steps.append(step)
                self._made[block[i]] = step
        steps = [s for s in steps if not self._overtaken(s, steps, block)]
        if steps:
            self.plan(steps, block, scope)
            scope.steps.update({block[s.place]: s for s in steps})
        for statement in block:
            if not isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
                for inner in blocks(statement):
                    self.prepare(inner, scope)

    def _overtaken(self, step: Step, steps: list[Step], old: list[Any]) -> bool:
        """Whether the forward pass of a step stands before another step that changes weights it
        uses, and would run behind it: that is refused."""
        for other in (s for s in steps if s.place < step.place):
            weights = self.with_owners(other.modules)
            after = range(other.place + 1, step.place)
            done = next((i for i in after if self._steps_one(old[i], other)), 0)
            inside = [old[i] for i in self.slice(step, old) if i < done]
            if any(self.reach.reaches(statement, weights) for statement in inside):
                names = ", ".join(other.modules)
                self.report.refuse(old[step.place], _OVERTAKEN.format(modules=names))
                return True
        return False

    def _steps_one(self, statement: Any, step: Step) -> bool:
        return any(self.stepped(c) in step.optimizers for c in self.scan.calls(statement))

    def deferred(self, step: Step, old: list[Any], moved: set[int], scope: Scope) -> list[int]:
        """Statements before a backward that read what its function computes: they come after."""
        moving = moved & set(self.slice(step, old))
        others = {i for i in range(step.place) if old[i] in scope.steps}
        return late(self.scan, moving, step.place, old, others | moved)

    def step(self, place: int, old: list[Any], scope: Scope) -> Step | None:
        call = called_method(old[place], "backward")
        if call is None:
            return None
        loss = call.func.value
        if isinstance(loss, cst.Call) and _is_scaled(loss):
            loss = loss.args[0].value
        if not (self.types.of(loss).tensor or isinstance(loss, _LOSSES)):
            return None
        optimizers = self._stepping(old[place + 1 :]) or self._stepping([scope.node])
        if set(optimizers) & _loop_names(scope.node):
            why = "one optimizer after another from a list: which parameters each has is not seen"
            self.report.refuse(old[place], f"{why}; step each by its name")
            return None
        optimizers = optimizers + self._by_hand(old[place + 1 :], optimizers, scope)
        modules = [m for o in optimizers for m in self._modules(o, old, place, scope)]
        modules = list(dict.fromkeys(modules))
        if self._guessed(optimizers, old[place], scope):
            return None
        if any(a.keyword and a.keyword.value == "create_graph" for a in call.args):
            modules = []
        made = Step(place, loss, optimizers, modules)
        inside = [old[i] for i in self.slice(made, old)] if modules else []
        trained = self.with_owners(modules)
        why = self._apart(inside, scope)
        if why:
            self.report.refuse(old[place], why)
            return None
        leading = (loss, *inside)
        if not optimizers or not any(self.reach.reaches(s, trained) for s in leading):
            kept = {name for s in old[:place] for name in self.reach.kept(s, trained)}
            self.report.refuse(old[place], _made_elsewhere(kept) if kept else _NO_STEP)
            if optimizers and not kept:
                self._ask(old, place)
            return None
        return made

    def _apart(self, inside: list[Any], scope: Scope) -> str:
        """Why statements that lead to a loss cannot be a function; "" where they can."""
        word = next((w for s in inside if (w := left_by(s))), "")
        graph = self._graphs.why(scope.node, inside, self.scan)
        return _LEFT.format(word) if word else graph

    def _guessed(self, optimizers: list[str], statement: Any, scope: Scope) -> bool:
        """Whether it would be a guess which modules an optimizer trains: that is refused."""
        for optimizer in scope.unclear.intersection(optimizers):
            names = ", ".join(scope.modules[optimizer])
            self.report.refuse(statement, _NOT_SEEN.format(optimizer=optimizer, names=names))
        for optimizer in scope.several.intersection(optimizers):
            self.report.refuse(statement, _SEVERAL.format(optimizer=optimizer))
        return bool((scope.unclear | scope.several).intersection(optimizers))

    def _ask(self, old: list[Any], place: int) -> None:
        """Asks what is called before a backward, and may be what is trained."""
        for node in called(old[: place + 1], self.types, self.scan):
            owner = self.types.unknown.get(node)
            if owner is not None and isinstance(node, (cst.Name, cst.Attribute)):
                name = node.attr if isinstance(node, cst.Attribute) else node
                self.report.ask(old[place], name.value, owner, "")

    def with_owners(self, modules: list[str]) -> set[str]:
        """Modules, those that hold them, their wrappers for several processes, and names of what
        uses them when it is called."""
        found = _with_owners(modules)
        found |= {outer for outer, inner in self._wrapped.items() if inner in found}
        return found | self._carriers.of(found)

    def _by_hand(self, statements: Any, optimizers: list[str], scope: Scope) -> list[str]:
        """Modules that a script steps itself, in the place of optimizers or beside them."""
        known = [m for o in optimizers for m in self.trained.get(o, [])]
        found = [m for m in next_updated(statements, self.scan) if m not in known]
        found = [m for m in found if not optimizers or m in self.scan.single]
        scope.modules.update({module: [module] for module in found})
        return found

    def _stepping(self, statements: Sequence[Any]) -> list[str]:
        """Optimizers that step next: those before another backward."""
        found: list[str] = []
        for statement in statements:
            for call in self.scan.calls(statement):
                if not isinstance(call.func, cst.Attribute):
                    continue
                name = call.func.attr.value
                if name == "backward" and found:
                    return found
                owner = self.stepped(call)
                if owner and owner not in found:
                    found.append(owner)
            if called_method(statement, "backward") is not None and found:
                return found
        return (
            found[:1]
            if len(statements) == 1 and isinstance(statements[0], (cst.FunctionDef, cst.Module))
            else found
        )

    def stepped(self, call: cst.Call) -> str:
        """The optimizer that a call steps: `optimizer.step()` or `scaler.step(optimizer)`."""
        if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "step":
            return ""
        owner = dotted(call.func.value)
        kind = self.types.of(call.func.value).kind
        if call.args and (kind == "scaler" or "scaler" in owner):
            return dotted(call.args[0].value)
        known = owner in self.trained or kind == "optimizer"
        return owner if known or (kind == "unknown" and "opt" in owner.lower()) else ""

    def _modules(self, optimizer: str, old: list[Any], place: int, scope: Scope) -> list[str]:
        """Modules that an optimizer trains, as this function names them."""
        if optimizer in scope.modules:
            return scope.modules[optimizer]
        made = self._made_here.modules(optimizer, scope.node)
        known = made[0] if made else self.trained.get(optimizer)
        known = known or self.trained.get(f"self.{optimizer}", [])
        if isinstance(scope.node, cst.FunctionDef):
            known = self._passed.get((scope.node.name.value, optimizer)) or known
        if len(made) > 1:
            scope.several.add(optimizer)
        here = scope.used | {"self"}
        if not known or any(m.partition(".")[0] not in here for m in known):
            known = called_modules(old[: place + 1], self.types, self.scan)
            if len(known) > 1:
                scope.unclear.add(optimizer)
        scope.modules[optimizer] = known
        return known

    def plan(self, steps: list[Step], old: list[Any], scope: Scope) -> None:
        """Names of gradients, and whether they add up over several backwards."""
        for step in steps:
            key = step.optimizers[0]
            if key not in scope.gradients:
                several = len(scope.gradients) or len({s.optimizers[0] for s in steps}) > 1
                plain = key.rpartition(".")[2].removesuffix("optimizer").strip("_")
                name = f"{plain or key.rpartition('.')[2]}_grads" if several else "grads"
                scope.gradients[key] = scope.fresh(name)
            for optimizer in step.optimizers:
                scope.gradients[optimizer] = scope.gradients[key]
            step.gradients = scope.gradients[key]
            same = [s for s in steps if s.optimizers[0] == key]
            step.adds = len(same) > 1 or not whole_here(step, old, self.scan, self.stepped)
            if step.adds:
                scope.accumulated.add(step.gradients)

    def slice(self, step: Step, old: list[Any]) -> list[int]:
        """Statements that lead from the step's modules to its loss."""
        tainted = self.with_owners(step.modules)
        marked, made = [], frozenset[str]()
        for i in range(step.place):
            statement = old[i]
            reached = self.reach.reaches(statement, tainted, made=made)
            if reached and self._computes(statement):
                marked.append(i)
                tainted |= set(self.scan.stores(statement))
                made |= _set_whole(statement)
        needed, found, given = self.scan.loads(step.loss), [], set[str]()
        for i in range(step.place - 1, -1, -1):
            written = set(self.scan.stores(old[i]))
            # a function may read what is given after it is defined
            late_reader = isinstance(old[i], cst.FunctionDef) and self.scan.loads(old[i]) & given
            if written & needed and (i in marked or late_reader):
                found.append(i)
                given |= written
                if isinstance(old[i], cst.SimpleStatementLine):
                    needed -= written  # what was in them before does not matter
                needed |= self.scan.loads(old[i])
        found = self._without_whole(found, old)
        return self._with_late(self._with_starts(sorted(found), old), step, old)

    def _without_whole(self, found: list[int], old: list[Any]) -> list[int]:
        """Those but functions that can stay where they are: they read nothing that is moved."""
        functions = {i for i in found if isinstance(old[i], cst.FunctionDef)}
        given = {n for i in found if i not in functions for n in self.scan.stores(old[i])}
        return [i for i in found if i not in functions or self.scan.loads(old[i]) & given]

    def _with_late(self, found: list[int], step: Step, old: list[Any]) -> list[int]:
        """Those, and statements that can stand neither before the function (they change what it
        reads) nor after it (it reads what they give)."""
        steps = {i for i in range(step.place) if called_method(old[i], "backward") is not None}
        earlier = [self._made[old[i]] for i in sorted(steps) if old[i] in self._made]
        theirs = {i for other in earlier for i in self.slice(other, old)}  # run before, whatever is
        while True:
            waiting = late(self.scan, found, step.place, old, steps | theirs)
            inside = needed(self.scan, waiting, found, step.loss, old)
            if not inside:
                return found
            found = sorted({*found, *inside})

    def _with_starts(self, found: list[int], old: list[Any]) -> list[int]:
        """Those statements, and the plain ones (`total = 0`) that start what they go on with."""
        if not found:
            return found
        statements = [old[i] for i in found]
        written = {n for s in statements for n in self.scan.stores(s)}
        for name in self.scan.exposed(statements) & written:
            starts = [i for i in range(found[0]) if name in self.scan.stores(old[i])]
            if starts and _assigns(old[starts[-1]], name) and starts[-1] not in found:
                found = [starts[-1], *found]
        return sorted(found)

    def _computes(self, statement: Any) -> bool:
        """Whether a statement computes something, and does not only set modes or gradients."""
        names = ("zero_grad", "train", "eval", "step", "backward", "requires_grad_", "item")
        called = (c.func for c in self.scan.calls(statement))
        inner = [func.attr.value for func in called if isinstance(func, cst.Attribute)]
        if "backward" in inner or wraps(statement, self.types.names):  # a step of its own
            return False
        return bool(self.scan.stores(statement)) and not any(
            called_method(statement, n) for n in names
        )

    def outside(self, place: int, old: list[Any], steps: list[Step]) -> bool:
        """Whether a statement is needed outside of the functions too: by an earlier step."""
        owners = [s for s in steps if place in self.slice(s, old)]
        written = set(self.scan.stores(old[place]))
        first = min(s.place for s in owners)
        between = [s for s in steps if place < s.place < first]
        readers = [old[i] for s in between for i in leading(self.scan, self.slice(s, old), old)]
        return any(self.scan.loads(r) & written for r in readers)

    def may_vary(self) -> bool:
        """Whether a forward pass of the file may differ the second time: it may count statistics
        or draw numbers, or be of a module whose class is elsewhere."""
        if self._varies is None:
            self._varies = bool(self.types.foreign.kinds) or varies(self._file, self.types.names)
        return self._varies

    def passes_by(self, names: Names) -> bool:
        """Whether a forward pass of the file passes by a module of its class in some steps."""
        return self.types.foreign.passes_by or may_pass_by(names.classes.values(), names)

    def calls_some(self, step: Step, body: Sequence[Any]) -> bool:
        """Whether the statements of a step call some of the modules that it trains, and others not
        or not on every way."""
        plain = [s for s in body if isinstance(s, cst.SimpleStatementLine)]
        surely = {n for s in plain for n in self.scan.loads(always(s))}
        loaded = {n for s in body for n in self.scan.loads(s)}
        known = [m for m in step.modules if m in loaded]
        return bool(known) and any(m not in surely for m in step.modules)

    def carried(self, step: Step, old: list[Any], scope: Scope) -> set[str]:
        """Names that the next round of a loop around the step reads before it writes them, and
        those that the function gives to others by `global` or `nonlocal`."""
        found = self._declared.get(scope.node)
        if found is None:
            found = self._declared[scope.node] = _outer_names(scope.node)
        for loop in self.loops_around(old[step.place], scope):
            found = found | self.scan.exposed(loop.body.body)
        return found

    def loops_around(self, statement: Any, scope: Scope) -> list[Any]:
        """The loops of a function that a statement stands in."""
        return [n for n in self._loops(scope.node) if any(p is statement for p in walk(n))]

    def unset(self, names: Sequence[str], scope: Scope) -> set[str]:
        """Those names that some way through a function reaches without setting them."""
        if not names:
            return set()
        node, inner = scope.node, scope.node.body
        body = inner.body if isinstance(inner, cst.IndentedBlock) else inner
        own = {p.name.value for p in walk(node) if isinstance(p, cst.Param)}
        return self.scan.exposed(body) & set(names) - own - _outer_names(node)

    def _loops(self, node: Any) -> list[Any]:
        """The loops of a function, those of functions in it left out."""
        found, waiting = [], [*children(node.body if isinstance(node, cst.FunctionDef) else node)]
        while waiting:
            part = waiting.pop()
            if isinstance(part, (cst.FunctionDef, cst.ClassDef, cst.SimpleStatementLine)):
                continue
            if isinstance(part, (cst.For, cst.While)):
                found.append(part)
            waiting += children(part)
        return found

    def read_later(self, name: str, places: list[int], old: list[Any], scope: Scope) -> bool:
        """Whether the rest of the function reads a name."""
        if "." in name:
            return False
        moved = {old[i] for i in places}
        return self._read(scope.node, name, moved)

    def _read(self, node: Any, name: str, but: set[cst.CSTNode]) -> bool:
        if node in but:
            return False
        if isinstance(node, (*_SUITES, cst.BaseCompoundStatement, cst.Module)):
            parts = children(node)
            heads = [p for p in parts if not isinstance(p, (*_SUITES, cst.BaseStatement))]
            heads = [p for p in heads if not (isinstance(node, cst.For) and p is node.target)]
            defines = isinstance(node, (cst.FunctionDef, cst.ClassDef))
            if not defines and any(name in self.scan.loads(head) for head in heads):
                return True
            return any(self._read_in(p, name, but) for p in parts if p not in heads)
        return name in self.scan.loads(node)

    def _read_in(self, part: Any, name: str, but: set[cst.CSTNode]) -> bool:
        """The same of a part; of a function, what it takes from around it."""
        if isinstance(part, cst.FunctionDef):
            return part not in but and name in self.scan.loads(part)
        return self._read(part, name, but)


def _made_elsewhere(kept: set[str]) -> str:
    names = ", ".join(sorted(kept))
    return (
        f"the loss is made of values that another call computed and kept ({names}): MLX takes the "
        "gradient of a function, in which they are constants; keep what they were computed from, "
        "and compute them in the function that gives the loss"
    )


def _with_owners(modules: list[str]) -> set[str]:
    """Modules and those that hold them: a call of one may use the other."""
    found = set(modules)
    for name in modules:
        parts = name.split(".")
        owners = (".".join(parts[:i]) for i in range(1, len(parts)))
        found |= {o for o in owners if o not in ("self", "cls")}
    return found


def _is_scaled(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Attribute) and call.func.attr.value == "scale"


def _assigns(statement: Any, name: str) -> bool:
    """Whether a statement is `name = ...` alone."""
    return plain_target(statement) == name and not any(True for _ in calls(statement))


def _set_whole(statement: Any) -> set[str]:
    """Attributes that a statement gives another value, whatever they had before."""
    small = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
    targets = (t.target for s in small if isinstance(s, cst.Assign) for t in s.targets)
    return {dotted(t) for t in targets if isinstance(t, cst.Attribute)} - {""}


def _outer_names(node: Any) -> set[str]:
    """Names of a function that are its file's, or those of the function around it."""
    told = (part for part in walk(node) if isinstance(part, (cst.Global, cst.Nonlocal)))
    return {item.name.value for part in told for item in part.names}


def _loop_names(node: Any) -> set[str]:
    """Names that loops give one value after another."""
    targets: list[cst.BaseExpression]
    targets = [part.target for part in everything(node) if isinstance(part, cst.For)]
    targets += [e.value for t in targets if isinstance(t, cst.Tuple) for e in t.elements]
    return {t.value for t in targets if isinstance(t, cst.Name)}
