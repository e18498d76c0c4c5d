"""The training step: `zero_grad`, `backward`, `step` become a function and its gradient.

torch records what was computed and walks back from the loss. MLX differentiates a function, so the
statements that lead from the trained modules to the loss move into one; what else they assigned and
is read later comes back beside the loss. Emitted names start with `_MLX`; the names pass has them
last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from torch2mlx.source.infer import Inference
from torch2mlx.source.names import Names, dotted
from torch2mlx.source.optimizers import parameters_of
from torch2mlx.source.report import Report
from torch2mlx.source.scan import called_method, calls, exposed, loads, stores

NN, KIT, MX = "_MLX_nn", "_MLX_kit", "_MLX_mx"
PARAMETERS = "_MLX_parameters"


def parse(text: str) -> cst.BaseStatement:
    """A statement from source."""
    return cst.parse_statement(text)


@dataclass
class Step:
    """One `backward` in a block: its place, the loss, and who is trained with its gradient."""

    place: int
    loss: cst.BaseExpression
    optimizers: list[str]
    modules: list[str]
    gradients: str = "grads"
    adds: bool = False


@dataclass
class Scope:
    """A function (or the file) being rewritten."""

    node: Any
    arguments: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    gradients: dict[str, str] = field(default_factory=dict)  # optimizer -> name
    accumulated: set[str] = field(default_factory=set)  # names that start as None
    modules: dict[str, list[str]] = field(default_factory=dict)  # optimizer -> modules
    steps: dict[int, Step] = field(default_factory=dict)  # by identity of the statement

    def fresh(self, name: str) -> str:
        """A name that the function does not use."""
        made, count = name, 1
        while made in self.used:
            count += 1
            made = f"{name}_{count}"
        self.used.add(made)
        return made


class Training(cst.CSTTransformer):
    """Rewrites all training steps of a file."""

    def __init__(
        self, names: Names, inference: Inference, trained: dict[str, list[str]], report: Report
    ) -> None:
        super().__init__()
        self._names, self._types, self._trained = names, inference, trained
        self._report = report
        self._scopes: list[Scope] = []

    def visit_Module(self, node: cst.Module) -> None:
        self._scopes.append(Scope(node, [], loads(node)))
        self._prepare(list(node.body), self._scopes[-1])

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        scope = self._scopes.pop()
        body = self._block(list(original_node.body), list(updated_node.body), scope)
        return updated_node.with_changes(body=_started(body, scope))

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        arguments = [p.name.value for p in node.params.params]
        self._scopes.append(Scope(node, arguments, loads(node) | set(stores(node)) | {*arguments}))
        if isinstance(node.body, cst.IndentedBlock):
            self._prepare(list(node.body.body), self._scopes[-1])

    def _prepare(self, block: list[Any], scope: Scope) -> None:
        """Finds all steps of a function before any of it is rewritten."""
        steps = [s for i in range(len(block)) if (s := self._step(i, block, scope)) is not None]
        if steps:
            self._plan(steps, block, scope)
            scope.steps.update({id(block[s.place]): s for s in steps})
        for statement in block:
            if not isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
                for inner in _blocks(statement):
                    self._prepare(inner, scope)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        scope = self._scopes.pop()
        if not isinstance(updated_node.body, cst.IndentedBlock):
            return updated_node
        new = self._block(list(original_node.body.body), list(updated_node.body.body), scope)
        body = updated_node.body.with_changes(body=_started(new, scope))
        return updated_node.with_changes(body=body)

    def _inner(self, original_node: Any, updated_node: Any) -> Any:
        if not isinstance(updated_node.body, cst.IndentedBlock) or not self._scopes:
            return updated_node
        scope = self._scopes[-1]
        new = self._block(list(original_node.body.body), list(updated_node.body.body), scope)
        return updated_node.with_changes(body=updated_node.body.with_changes(body=new))

    leave_For = leave_While = leave_If = leave_With = leave_Else = _inner

    def _block(self, old: list[Any], new: list[Any], scope: Scope) -> list[Any]:
        """A block with its steps rewritten; `old` are the statements before, by place."""
        if len(old) != len(new):
            return new  # an inner pass changed their number
        steps = [scope.steps[id(s)] for s in old if id(s) in scope.steps]
        made: list[Any] = []
        moved = {i for s in steps for i in self._slice(s, old)} if steps else set()
        kept = {i for i in moved if self._outside(i, old, steps)}
        late = {s.place: self._deferred(s, old, moved - kept, scope) for s in steps}
        waiting = {i for places in late.values() for i in places}
        for i, statement in enumerate(new):
            step = next((s for s in steps if s.place == i), None)
            if step is not None:
                made += self._emitted(step, old, new, scope)
                for place in late[i]:
                    made += self._other(old[place], new[place], scope)
            elif i in waiting:
                continue
            elif i not in moved or i in kept:
                made += self._other(old[i], statement, scope)
        return made

    def _deferred(self, step: Step, old: list[Any], moved: set[int], scope: Scope) -> list[int]:
        """Statements before a backward that read what its function computes: they come after."""
        places = self._slice(step, old)
        known: set[str] = set()
        found: list[int] = []
        for i in range(step.place):
            if i in places and i in moved:
                known |= set(stores(old[i]))
            elif i in moved or id(old[i]) in scope.steps:
                continue
            elif loads(old[i]) & known:
                found.append(i)
                known |= set(stores(old[i]))
        return found

    # what belongs to a step

    def _step(self, place: int, old: list[Any], scope: Scope) -> Step | None:
        call = called_method(old[place], "backward")
        if call is None:
            return None
        loss = call.func.value  # type: ignore[union-attr]
        if isinstance(loss, cst.Call) and _is_scaled(loss):
            loss = loss.args[0].value
        if not (self._types.of(loss).tensor or isinstance(loss, (cst.Name, cst.BinaryOperation))):
            return None
        optimizers = self._stepping(old[place + 1 :]) or self._stepping([scope.node])
        modules = [m for o in optimizers for m in self._modules(o, old, place, scope)]
        modules = list(dict.fromkeys(modules))
        if any(a.keyword and a.keyword.value == "create_graph" for a in call.args):
            modules = []
        made = Step(place, loss, optimizers, modules)
        inside = [old[i] for i in self._slice(made, old)] if modules else []
        reads = set().union(loads(loss), *(loads(s) for s in inside))
        if not optimizers or not reads & _with_owners(modules):
            self._report.refuse(
                old[place],
                "no optimizer step was found for this backward: write a function that gives the "
                "loss and call nn.value_and_grad(model, function)",
            )
            return None
        return made

    def _stepping(self, statements: Sequence[Any]) -> list[str]:
        """Optimizers that step next: those before another backward."""
        found: list[str] = []
        for statement in statements:
            for call in calls(statement):
                if not isinstance(call.func, cst.Attribute):
                    continue
                name = call.func.attr.value
                if name == "backward" and found:
                    return found
                owner = self._stepped(call)
                if owner and owner not in found:
                    found.append(owner)
            if called_method(statement, "backward") is not None and found:
                return found
        return found[:1] if len(statements) == 1 and not self._together(statements[0]) else found

    def _together(self, node: Any) -> bool:
        return not isinstance(node, (cst.FunctionDef, cst.Module))

    def _stepped(self, call: cst.Call) -> str:
        """The optimizer that a call steps: `optimizer.step()` or `scaler.step(optimizer)`."""
        if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "step":
            return ""
        owner = dotted(call.func.value)
        kind = self._types.of(call.func.value).kind
        if call.args and (kind == "scaler" or "scaler" in owner):
            return dotted(call.args[0].value)
        known = owner in self._trained or kind == "optimizer"
        return owner if known or (kind == "unknown" and "opt" in owner.lower()) else ""

    def _modules(self, optimizer: str, old: list[Any], place: int, scope: Scope) -> list[str]:
        """Modules that an optimizer trains, as this function names them."""
        if optimizer in scope.modules:
            return scope.modules[optimizer]
        known = self._trained.get(optimizer) or self._trained.get(f"self.{optimizer}", [])
        here = scope.used | {"self"}
        if not known or any(m.partition(".")[0] not in here for m in known):
            known = self._called(old[: place + 1])
        scope.modules[optimizer] = known
        return known

    def _called(self, statements: list[Any]) -> list[str]:
        """Modules with weights that are called in some statements."""
        found: list[str] = []
        for statement in statements:
            for call in calls(statement):
                kind, name = self._types.of(call.func), dotted(call.func)
                losses = kind.name.endswith("Loss") or "criterion" in name or "loss" in name
                if kind.kind == "module" and name and not losses and name not in found:
                    found.append(name)
        return found

    def _plan(self, steps: list[Step], old: list[Any], scope: Scope) -> None:
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
            step.adds = len(same) > 1 or not self._stepped_here(key, old)
            if step.adds:
                scope.accumulated.add(step.gradients)

    def _stepped_here(self, optimizer: str, old: list[Any]) -> bool:
        """Whether a block itself steps an optimizer, on every pass, and sets its gradients to
        zero."""
        plain = [s for s in old if isinstance(s, cst.SimpleStatementLine)]
        return any(self._stepped(c) == optimizer for s in plain for c in calls(s))

    def _slice(self, step: Step, old: list[Any]) -> list[int]:
        """Statements that lead from the step's modules to its loss."""
        tainted = _with_owners(step.modules)
        marked = []
        for i in range(step.place):
            statement = old[i]
            touched = bool(loads(statement) & tainted) and self._computes(statement)
            if touched:
                marked.append(i)
                tainted |= set(stores(statement))
        needed, found = loads(step.loss), []
        for i in reversed(marked):
            written = set(stores(old[i]))
            if written & needed:
                found.append(i)
                if isinstance(old[i], cst.SimpleStatementLine):
                    needed -= written  # what was in them before does not matter
                needed |= loads(old[i])
        return self._with_starts(sorted(found), old)

    def _with_starts(self, found: list[int], old: list[Any]) -> list[int]:
        """Those statements, and the plain ones (`total = 0`) that start what they go on with."""
        if not found:
            return found
        statements = [old[i] for i in found]
        written = {n for s in statements for n in stores(s)}
        for name in exposed(statements) & written:
            starts = [i for i in range(found[0]) if name in stores(old[i])]
            if starts and _assigns(old[starts[-1]], name) and starts[-1] not in found:
                found = [starts[-1], *found]
        return sorted(found)

    def _computes(self, statement: Any) -> bool:
        """Whether a statement computes something, and does not only set modes or gradients."""
        names = ("zero_grad", "train", "eval", "step", "backward", "requires_grad_", "item")
        return bool(stores(statement)) and not any(called_method(statement, n) for n in names)

    def _outside(self, place: int, old: list[Any], steps: list[Step]) -> bool:
        """Whether a statement is needed outside of the functions too: by an earlier step."""
        owners = [s for s in steps if place in self._slice(s, old)]
        written = set(stores(old[place]))
        first = min(s.place for s in owners)
        between = [s for s in steps if place < s.place < first]
        readers = [old[i] for s in between for i in self._slice(s, old)]
        return any(loads(r) & written for r in readers)

    # what is written

    def _emitted(self, step: Step, old: list[Any], new: list[Any], scope: Scope) -> list[Any]:
        """The function, and the call that gives the loss and the gradients."""
        places = self._slice(step, old)
        body = [new[i] for i in places]
        written = list(dict.fromkeys(n for i in places for n in stores(old[i])))
        given = sorted(exposed([old[i] for i in places]) & set(written))
        loss = dotted(step.loss)
        results = [n for n in written if n != loss and self._read_later(n, places, old, scope)]
        name = scope.fresh("loss_fn")
        shown = cst.Module([]).code_for_node(step.loss)
        answer = ", ".join([shown, *results])
        self._report.change(
            old[step.place],
            "backward",
            "MLX differentiates a function: what leads to the loss moved into one",
            "values that the function needs from outside are read when it is called",
        )
        function = parse(f"def {name}({', '.join(given)}):\n    return {answer}\n")
        inner = function.body.with_changes(body=[*body, *function.body.body])
        function = function.with_changes(body=inner, leading_lines=new[step.place].leading_lines)
        target = loss if loss and "." not in loss else scope.fresh("loss")
        left = f"({', '.join([target, *results])})" if results else target
        more = scope.fresh(f"new_{step.gradients}") if step.adds else step.gradients
        owner = _group(step.modules)
        call = f"{left}, {more} = {NN}.value_and_grad({owner}, {name})({', '.join(given)})\n"
        made = [function, parse(call)]
        if step.adds:
            made.append(parse(f"{step.gradients} = {KIT}.training.add({step.gradients}, {more})\n"))
        return made

    def _read_later(self, name: str, places: list[int], old: list[Any], scope: Scope) -> bool:
        """Whether the rest of the function reads a name."""
        if "." in name:
            return False
        moved = {id(old[i]) for i in places}
        finder = _Readers(name, moved)
        scope.node.visit(finder)
        return finder.found

    def _other(self, old: Any, new: Any, scope: Scope) -> list[Any]:
        """Statements beside the steps: zero_grad, step, clipping, scalers."""
        zero = called_method(old, "zero_grad")
        if zero is not None and isinstance(zero.func, cst.Attribute):
            return self._zeroed(old, new, dotted(zero.func.value), scope)
        step = called_method(old, "step")
        if step is not None and self._stepped(step):
            return self._updated(old, new, step, scope)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            clip = called_method(old, name) or _bare(old, self._names, name)
            if clip is not None:
                return self._clipped(old, new, clip, name, scope)
        for name in ("unscale_", "update"):
            call = called_method(old, name)
            scaler = call is not None and "scaler" in dotted(call.func.value).lower()  # type: ignore
            if scaler:
                self._report.change(old, name, "loss scaling is for float16 on CUDA: not needed")
                return []
        return [new]

    def _zeroed(self, old: Any, new: Any, owner: str, scope: Scope) -> list[Any]:
        optimizer = owner
        for known, modules in scope.modules.items():
            optimizer = known if owner in modules else optimizer
        name = scope.gradients.get(optimizer)
        self._report.change(old, "zero_grad", "gradients are values in MLX: none are left over")
        return [parse(f"{name} = None\n")] if name in scope.accumulated else []

    def _updated(self, old: Any, new: Any, call: cst.Call, scope: Scope) -> list[Any]:
        optimizer = self._stepped(call)
        if any(isinstance(a.value, cst.Name) and a.value.value == "closure" for a in call.args):
            self._report.refuse(old, "step(closure): MLX's optimizers take gradients")
            return [new]
        name = scope.gradients.get(optimizer, None)
        modules = scope.modules.get(optimizer) or self._trained.get(optimizer, [])
        if name is None:
            self._report.refuse(old, "a step whose backward is in another function")
            return [new]
        self._report.change(old, "step", "the optimizer is given the model and its gradients")
        owner = _group(modules)
        update = parse(f"{optimizer}.update({owner}, {name})\n")
        update = update.with_changes(leading_lines=new.leading_lines)
        state = f"{owner}.{PARAMETERS}(), {optimizer}.state"
        return [update, parse(f"{MX}.eval({state})\n")]

    def _clipped(self, old: Any, new: Any, call: Any, kind: str, scope: Scope) -> list[Any]:
        names = list(dict.fromkeys(scope.gradients.values()))
        if not names:
            self._report.refuse(old, f"{kind} whose backward is in another function")
            return [new]
        name = self._clipped_name(call, scope) or names[-1]
        given = [
            cst.Module([]).code_for_node(a.with_changes(comma=cst.MaybeSentinel.DEFAULT))
            for a in call.args[1:]
        ]
        self._report.change(old, kind, "clips the gradients that the step will use")
        if kind == "clip_grad_value_":
            return [parse(f"{name} = {KIT}.training.clip_value({', '.join([name, *given])})\n")]
        written = stores(old)
        target = written[0] if written else "_"
        return [
            parse(f"{name}, {target} = {KIT}.training.clip_norm({', '.join([name, *given])})\n")
        ]

    def _clipped_name(self, call: Any, scope: Scope) -> str:
        """Gradients of the optimizer that trains the modules whose parameters are clipped."""
        wanted = set(parameters_of(call.args[0].value)) if call.args else set()
        for optimizer, modules in scope.modules.items():
            if wanted and wanted <= set(modules):
                return scope.gradients.get(optimizer, "")
        return ""


class _Readers(cst.CSTVisitor):
    """Whether a name is read by statements other than some."""

    def __init__(self, name: str, but: set[int]) -> None:
        self._name, self._but, self.found = name, but, False

    def on_visit(self, node: cst.CSTNode) -> bool:
        if id(node) in self._but:
            return False
        if isinstance(node, cst.SimpleStatementLine):
            self.found |= self._name in loads(node)
            return False
        if isinstance(node, (cst.If, cst.While)):
            self.found |= self._name in loads(node.test)
        if isinstance(node, cst.For):
            self.found |= self._name in loads(node.iter)
        return not self.found


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


def _bare(statement: Any, names: Names, name: str) -> cst.Call | None:
    if not isinstance(statement, cst.SimpleStatementLine):
        return None
    for call in calls(statement):
        if names.of(call.func) == f"torch.nn.utils.{name}":
            return call
    return None


def _assigns(statement: Any, name: str) -> bool:
    """Whether a statement is `name = ...` alone."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return False
    inner = statement.body[0]
    single = isinstance(inner, cst.Assign) and len(inner.targets) == 1
    return single and dotted(inner.targets[0].target) == name and not calls(inner.value)  # type: ignore[union-attr]


def _group(modules: list[str]) -> str:
    return modules[0] if len(modules) == 1 else f"{KIT}.training.Group({', '.join(modules)})"


def _blocks(statement: Any) -> Iterator[list[Any]]:
    """Blocks right under a compound statement."""
    while statement is not None:
        body = getattr(statement, "body", None)
        if isinstance(body, cst.IndentedBlock):
            yield list(body.body)
        for handler in getattr(statement, "handlers", ()):
            yield from _blocks(handler)
        final = getattr(statement, "finalbody", None)
        if final is not None:
            yield from _blocks(final)
        statement = getattr(statement, "orelse", None)


def _started(body: list[Any], scope: Scope) -> list[Any]:
    """Gradients that add up start as None, after the docstring."""
    names = [n for n in sorted(scope.accumulated)]
    at = 1 if body and _is_docstring(body[0]) else 0
    if isinstance(scope.node, cst.Module):
        while at < len(body) and not isinstance(body[at], (cst.For, cst.While, cst.If)):
            at += 1
    return [*body[:at], *(parse(f"{n} = None\n") for n in names), *body[at:]]


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, cst.SimpleStatementLine)
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, (cst.SimpleString, cst.ConcatenatedString))
    )
