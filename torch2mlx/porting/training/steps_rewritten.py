"""The training step: `zero_grad`, `backward`, `step` become a function and its gradient.

torch records what was computed and walks back from the loss. MLX differentiates a function, so the
statements that lead from the trained modules to the loss move into one; what else they assigned and
is read later comes back beside the loss. Emitted names start with `_MLX`; the names pass has them
last.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import called_method, loads, runs_once
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import calls, everything
from torch2mlx.porting.training.around_backwards import is_before, is_behind
from torch2mlx.porting.training.clipping import Clipped, clip_of
from torch2mlx.porting.training.closures import closures, evaluating
from torch2mlx.porting.training.free_parameters import KIND
from torch2mlx.porting.training.gradient_loops import changed_module, rewritten_changes
from torch2mlx.porting.training.gradients_read import with_gradients_read
from torch2mlx.porting.training.left_over import WithoutMarks, leave, left, with_exits
from torch2mlx.porting.training.manual_sgd import (
    read_singles,
    rewritten,
    updated_module,
    with_gradients,
)
from torch2mlx.porting.training.one_item import has_rows, is_row
from torch2mlx.porting.training.optimizers import moves_by_gradients_alone
from torch2mlx.porting.training.placed_statements import again, below, beside, parse, told, under
from torch2mlx.porting.training.slots import Slots, added, together
from torch2mlx.porting.training.step_scope import Scope, Step
from torch2mlx.porting.training.thawed import changes_what_trains
from torch2mlx.porting.training.training_steps import Finder
from torch2mlx.porting.training.zeroed_by_hand import keeps_zeros
from torch2mlx.porting.types.known import Types

NN, MX = "_MLX_nn", "_MLX_mx"
PARAMETERS = "_MLX_parameters"
#: What these stand for in the end.
NAMES = {NN: "nn", KIT: "kit", MX: "mx", PARAMETERS: "parameters"}


_NEVER_ZERO = (
    "gradients add up from step to step: what sets them to zero is in another function or of "
    "another name; call zero_grad() of this optimizer beside its backward"
)
_MOVED = (
    "MLX differentiates a function: what leads to the loss moved into one",
    "values that the function needs from outside are read when it is called",
)
_NEVER = (
    "gradients add up from call to call of this function: nothing sets them to zero; call "
    "zero_grad() of this optimizer beside its backward"
)


_WHOSE = (
    "functions of this file leave gradients to their next call, and whose gradients this sets to "
    "zero is not seen: call zero_grad() of the module"
)


class Training(cst.CSTTransformer):
    """Rewrites all training steps of a file."""

    def __init__(
        self, names: Names, inference: Types, trained: dict[str, list[str]], report: Report
    ) -> None:
        super().__init__()
        self._names, self._trained, self._report = names, trained, report
        self._find = Finder(inference, trained, report)
        self._slots = Slots(self._find)
        self._marks: list[Any] = []  # what sets to zero what functions may have left
        self._unseen: list[Any] = []  # zero_grads of which it is not seen whose they are
        self._leaves = False  # whether a function leaves gradients to its next call
        self.made: set[str] = set()  # names of the functions that were written
        self.passes_by = False  # whether steps may leave parameters out
        self._scopes: list[Scope] = []

    def visit_Module(self, node: cst.Module) -> None:
        self._file = node
        self._evaluates, self._closures = evaluating(node), closures(node)
        self._clips = Clipped(node)
        self._rows = has_rows(node, self._names, KIND)
        zeroing = (c.func for c in calls(node) if isinstance(c.func, cst.Attribute))
        self._zeroes = {dotted(f.value) for f in zeroing if f.attr.value == "zero_grad"}
        self._keeps_zeros = keeps_zeros(node)
        self._fades = not moves_by_gradients_alone(node, self._names)
        self.passes_by = self._fades and self._find.passes_by(self._names)
        self.passes_by = self.passes_by or changes_what_trains(node, self._trained)
        self._keeps_apart = any(getattr(n, "value", "") in _APART for n in everything(node))
        self._scopes.append(Scope(node, set(self._find.scan.loads(node))))
        self._prepare(list(node.body))

    def _prepare(self, body: list[Any]) -> None:
        self._find.prepare(body, self._scopes[-1])
        self._slots.share(self._scopes[-1])
        if self._scopes[-1].slots:
            self.passes_by = self.passes_by or self._fades

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        scope = self._scopes.pop()
        body = self._block(list(original_node.body), list(updated_node.body), scope)
        self._check_zeroed(scope)
        self._slots.refuse_left()
        made = updated_node.with_changes(body=_started(body, scope))
        for statement in self._unseen if self._leaves else ():
            self._report.refuse(statement, _WHOSE)
        return made.visit(WithoutMarks(self._marks)) if self._marks and not self._leaves else made

    def _check_zeroed(self, scope: Scope) -> None:
        """Gradients that add up and that nothing here sets to zero: refused where a call elsewhere
        may be the one that does."""
        for statement, step in scope.steps.items():
            names = {scope.slots[m] for m in step.modules} if scope.slots else {step.gradients}
            kept = names & (scope.accumulated - scope.zeroed)
            lost = kept - scope.left.keys() - scope.own
            if lost and not self._zeroes and not runs_once(scope.node, self._file):
                self._report.refuse(statement, _NEVER)
            if not kept or not self._find.loops_around(statement, scope):
                continue
            own = {*step.optimizers, *step.modules}
            others = {n for n in self._trained if n not in own}
            others |= {m for n in others for m in self._trained[n]} - own
            if set(self._zeroes) - others:
                self._report.refuse(statement, _NEVER_ZERO)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        if not _trains(node):
            return False
        arguments = [p.name.value for p in node.params.params]
        self._scopes.append(
            Scope(
                node,
                {*self._find.scan.loads(node.body), *self._find.scan.stores(node.body), *arguments},
            )
        )
        if isinstance(node.body, cst.IndentedBlock):
            self._prepare(list(node.body.body))
        return True

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return _trains(node)

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        return False

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        if not self._scopes or self._scopes[-1].node is not original_node:
            return updated_node
        scope = self._scopes.pop()
        if not isinstance(updated_node.body, cst.IndentedBlock):
            return updated_node
        new = self._block(list(original_node.body.body), list(updated_node.body.body), scope)
        self._check_zeroed(scope)
        self._leaves = self._leaves or bool(scope.left)
        new = with_exits(_started(new, scope), scope)
        return updated_node.with_changes(body=updated_node.body.with_changes(body=new))

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
        steps = [scope.steps[s] for s in old if s in scope.steps]
        made: list[Any] = []
        moved = {i for s in steps for i in self._find.slice(s, old)} if steps else set()
        kept = {i for i in moved if self._find.outside(i, old, steps)}
        late = {s.place: self._find.deferred(s, old, moved - kept, scope) for s in steps}
        waiting = {i for places in late.values() for i in places}
        above: list[Any] = []  # comments of a statement that is gone, for the next that stays
        for i, statement in enumerate(new):
            step = next((s for s in steps if s.place == i), None)
            found: list[Any] = []
            if step is not None:
                found += self._emitted(step, old, new, scope)
                for place in late[i]:
                    found += self._other(old[place], new[place], scope)
            elif i not in waiting and (i not in moved or i in kept):
                if i in kept:
                    found += self._remembered(i, old, steps, scope)
                others = self._other(old[i], statement, scope)
                found += [told(x, self._report.reasons.get(old[i], ())) for x in others]
                if not found:
                    above += [line for line in statement.leading_lines if line.comment is not None]
            made += under(above, found)
            above = [] if found else above
        return made

    def _emitted(self, step: Step, old: list[Any], new: list[Any], scope: Scope) -> list[Any]:
        """The function, and the call that gives the loss and the gradients."""
        places = self._find.slice(step, old)
        body = [again(new[i], scope.repeated.get(old[i], "")) for i in places]
        written = list(dict.fromkeys(n for i in places for n in self._find.scan.written(old[i])))
        given = sorted(self._find.scan.exposed([old[i] for i in places]) & set(written))
        scope.unset |= self._find.unset(given, scope)
        loss = dotted(step.loss)
        carried = self._find.carried(step, old, scope)
        results = [
            n
            for n in written
            if n != loss and (n in carried or self._find.read_later(n, places, old, scope))
        ]
        name = scope.fresh("loss_fn")
        self.made.add(name)
        shown = cst.Module([]).code_for_node(step.loss)
        if is_row(scope.node, loss, self._names, self._rows):
            shown = f"{shown}.reshape(())"
        answer = ", ".join([shown, *results])
        self._report.change(old[step.place], "backward", *_MOVED)
        function = parse(f"def {name}({', '.join(given)}):\n    return {answer}\n")
        inner = function.body.with_changes(body=[*body, *function.body.body])
        function = function.with_changes(body=inner, leading_lines=new[step.place].leading_lines)
        target = loss if loss and "." not in loss else scope.fresh("loss")
        left = f"({', '.join([target, *results])})" if results else target
        kept = "grads" if scope.slots else step.gradients
        more = scope.fresh(f"new_{kept}") if step.adds else kept
        owner = _group(step.modules)
        partial = self._leaves_out(step, body, old)
        taken = f"{KIT}.reached" if partial else NN
        call = f"{left}, {more} = {taken}.value_and_grad({owner}, {name})({', '.join(given)})\n"
        made = [function, beside(parse(call), new[step.place])]
        if "." in loss:  # an attribute: it was set to what the function saw
            made.append(parse(f"{loss} = {target}\n"))
        made += [parse(line) for line in _summed(step, more, scope)]
        return made

    def _leaves_out(self, step: Step, body: list[Any], old: list[Any]) -> bool:
        """Whether a step may leave out parameters that its optimizer would move by a zero."""
        alone = self._fades and self._find.calls_some(step, body)
        if self._keeps_zeros or not (alone or self.passes_by):
            return False
        self.passes_by = True
        why = "parameters that the loss does not come from have no gradient, and are passed by"
        self._report.change(old[step.place], "backward", why)
        return True

    def _remembered(self, place: int, old: list[Any], steps: list[Step], scope: Scope) -> list[Any]:
        """What stands before a forward pass that an earlier step and a later function both need."""
        if not self._find.may_vary():
            return []
        owners = [s for s in steps if place in self._find.slice(s, old)]
        used = self._find.scan.loads(old[place])
        modules = [m for s in owners for m in s.modules if m in used]
        if not modules:
            return []
        name = scope.repeated[old[place]] = scope.fresh("repeated")
        self._report.change(
            old[place],
            "backward",
            "two gradients need this forward pass: it runs again in the second one's function, "
            "from the statistics and random numbers of the first",
        )
        given = ", ".join(dict.fromkeys(modules))
        return [parse(f"{name} = {KIT}.repeated.Repeated({given})\n")]

    def _other(self, old: Any, new: Any, scope: Scope) -> list[Any]:
        """Statements beside the steps: zero_grad, step, clipping, scalers."""
        module = updated_module(old, self._find.scan)
        if module and module in scope.gradients:
            self._report.change(old, "p.grad", "gradients are what the function's call answers")
            given = scope.slots.get(module) or _share(scope.gradients[module], [module], scope)
            loop = rewritten(new, given, KIT)
            return [loop, parse(f"{MX}.eval({module}.{PARAMETERS}())\n")]
        read = read_singles(old, self._find.scan)
        if read and all(self._may_read(old, n, scope) for n in read):
            self._report.change(old, "grad", "gradients are what the function's call answers")
            return self._by_hand(old, new, read, scope)
        changed = changed_module(old)
        part = self._clips.of_module(changed, scope) if changed else None
        if part is not None and is_behind(self._slots.blocks, old, part.gradients, scope):
            self._report.change(old, "p.grad", "gradients are values: the step is given new ones")
            return [rewritten_changes(new, part.gradients, "".join(part.paths))]
        zero = called_method(old, "zero_grad")
        if zero is not None and isinstance(zero.func, cst.Attribute):
            return self._zeroed(old, new, dotted(zero.func.value), scope)
        step = called_method(old, "step")
        if step is not None and self._find.stepped(step):
            return self._updated(old, new, step, scope)
        clip = clip_of(old, self._names)
        if clip is not None:
            return self._clipped(old, new, *clip, scope)
        for name in ("unscale_", "update"):
            call = called_method(old, name)
            scaler = call is not None and "scaler" in dotted(call.func.value).lower()
            if scaler:
                self._report.change(old, name, "loss scaling is for float16 on CUDA: not needed")
                return []
        made = with_gradients_read(old, new, scope, self._slots.blocks, self._clips)
        if made is not new:
            self._report.change(old, "p.grad", "gradients are what the function's call answers")
        return [made]

    def _may_read(self, statement: Any, module: str, scope: Scope) -> bool:
        name = scope.slots.get(module) or scope.gradients.get(module, "")
        return bool(name) and is_behind(self._slots.blocks, statement, name, scope)

    def _by_hand(self, old: Any, new: Any, read: list[str], scope: Scope) -> list[Any]:
        """A line that reads gradients of single parameters, and may give these new numbers."""
        given = {n: scope.slots.get(n) or _share(scope.gradients[n], [n], scope) for n in read}
        changed = [n for n in read if f"{n}.value" in self._find.scan.stores(old)]
        done = [parse(f"{MX}.eval({n}.{PARAMETERS}())\n") for n in changed]
        return [with_gradients(new, given), *done]

    def _zeroed(self, old: Any, new: Any, owner: str, scope: Scope) -> list[Any]:
        optimizer = owner
        for known, modules in scope.modules.items():
            optimizer = known if owner in modules else optimizer
        name = scope.gradients.get(optimizer)
        self._report.change(old, "zero_grad", "gradients are values in MLX: none are left over")
        if scope.slots:
            return self._emptied(owner, scope)
        made = [parse(f"{name} = None\n")] if name in scope.accumulated else []
        scope.zeroed |= {n for n in scope.accumulated if n == name}
        seen = scope.modules.get(owner) or self._trained.get(owner)
        zeroed = seen or [owner]
        if name not in scope.accumulated:
            made += self._marked(old, new, seen or self._module(owner))
        if self._keeps_apart:
            made.append(parse(f"{KIT}.distributed.dropped({', '.join(zeroed)})\n"))
        return made

    def _module(self, owner: str) -> list[str]:
        return [owner] if self._find.types.of(cst.parse_expression(owner)).kind == "module" else []

    def _marked(self, old: Any, new: Any, modules: list[str]) -> list[Any]:
        """Sets to zero what a function may have left to its next call; it goes again where none
        does."""
        if not modules:
            self._unseen.append(old)
            return []
        mark = leave("None", modules).with_changes(leading_lines=new.leading_lines)
        self._marks.append(mark)
        return [mark]

    def _emptied(self, owner: str, scope: Scope) -> list[Any]:
        """`zero_grad` of modules whose gradients have a name each."""
        modules = [m for m in self._slots.zeroed(owner, scope) if m in scope.slots]
        scope.zeroed |= {scope.slots[m] for m in modules}
        return [parse(f"{scope.slots[m]} = None\n") for m in modules]

    def _updated(self, old: Any, new: Any, call: cst.Call, scope: Scope) -> list[Any]:
        optimizer = self._find.stepped(call)
        given = {a.value.value for a in call.args if isinstance(a.value, cst.Name)}
        if given & self._closures and self._evaluates(optimizer):
            self._report.change(old, "step(closure)", "the closure gives it each gradient")
            return [new]
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
        share = together(modules, scope) if scope.slots else _share(name, modules, scope)
        update = parse(f"{optimizer}.update({owner}, {share})\n")
        update = beside(update.with_changes(leading_lines=new.leading_lines), new)
        state = f"{owner}.{PARAMETERS}(), {optimizer}.state"
        return [update, parse(f"{MX}.eval({state})\n")]

    def _clipped(self, old: Any, new: Any, call: Any, kind: str, scope: Scope) -> list[Any]:
        if not scope.gradients:
            self._report.refuse(old, f"{kind} whose backward is in another function")
            return [new]
        part = self._clips.part(call.args[0].value, scope) if call.args else None
        alone = isinstance(old.body[0], cst.Expr) and old.body[0].value is call
        if part is None or (kind == "clip_grad_value_" and not alone):
            why = "which of the gradients these are is not seen: give it a module's parameters()"
            self._report.refuse(old, f"{kind}: {why}" if part is None else f"{kind} gives None")
            return [new]
        name = part.gradients
        if alone and is_before(self._slots.blocks, old, name, scope):
            self._report.change(old, kind, "gradients that the backward behind it replaces")
            return []
        given = [
            cst.Module([]).code_for_node(a.with_changes(comma=cst.MaybeSentinel.DEFAULT))
            for a in call.args[1:]
        ]
        if part.paths:
            given.append(f"only=[{', '.join(map(repr, part.paths))}]")
        self._report.change(old, kind, "clips the gradients that the step will use")
        said = ", ".join([name, *given])
        if kind == "clip_grad_value_":
            return [below(f"{name} = {KIT}.training.clip_value({said})\n", new)]
        target, rest = self._norm(old, new, call, scope)
        return [below(f"{name}, {target} = {KIT}.training.clip_norm({said})\n", new), *rest]

    def _norm(self, old: Any, new: Any, call: Any, scope: Scope) -> tuple[str, list[Any]]:
        """The name that takes the norm, and the statement that does more with it, if any."""
        only = old.body[0]
        if len(old.body) == 1 and getattr(only, "value", None) is call:
            if isinstance(only, cst.Expr):
                return "_", []
            if isinstance(only, cst.Assign) and len(only.targets) == 1:
                target = dotted(only.targets[0].target)
                if target:
                    return target, []
        name = scope.fresh("norm")
        rest = new.deep_replace(call, cst.Name(name)).with_changes(leading_lines=[])
        return name, [rest]


def _summed(step: Step, more: str, scope: Scope) -> list[str]:
    """Statements that add what a backward gives to the gradients that there are."""
    if scope.slots:
        return added(step, more, scope)
    name = step.gradients
    return [f"{name} = {KIT}.training.add({name}, {more})\n"] if step.adds else []


def _group(modules: list[str]) -> str:
    return modules[0] if len(modules) == 1 else f"{KIT}.training.Group({', '.join(modules)})"


def _started(body: list[Any], scope: Scope) -> list[Any]:
    """Gradients that add up start as None, after the docstring, as does what may not be set where
    it is given to a step's function: torch's step reads it only where it is."""
    names = sorted(scope.accumulated | scope.unset)
    at = 1 if body and _is_docstring(body[0]) else 0
    if isinstance(scope.node, cst.Module):
        while at < len(body) and not _begins(body[at], names):
            at += 1
    first = {n: left(modules) for n, modules in scope.left.items()}
    if first:  # which reads names that may have to be told global first
        told = [i for i, s in enumerate(body) if _names_others(s)]
        at = max([at, *(i + 1 for i in told)])
    return [*body[:at], *(parse(f"{n} = {first.get(n)}\n") for n in names), *body[at:]]


def _names_others(statement: Any) -> bool:
    """Whether a line says that names are of the file, or of a function around."""
    small = getattr(statement, "body", ())
    plain = isinstance(statement, cst.SimpleStatementLine)
    return plain and any(isinstance(s, (cst.Global, cst.Nonlocal)) for s in small)


def _begins(statement: Any, names: list[str]) -> bool:
    """Whether a statement may be the first that needs some names: it reads or branches."""
    branches = isinstance(statement, (cst.For, cst.While, cst.If))
    return branches or bool(loads(statement) & set(names))


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, cst.SimpleStatementLine)
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, (cst.SimpleString, cst.ConcatenatedString))
    )


def _share(name: str, modules: list[str], scope: Scope) -> str:
    """The part of the gradients that is of some modules."""
    whole = next((s.modules for s in scope.steps.values() if s.gradients == name), modules)
    if whole == modules or any(m not in whole for m in modules):
        return name
    parts = [f'{name}["modules_"][{whole.index(m)}]' for m in modules]
    return parts[0] if len(parts) == 1 else f'{{"modules_": [{", ".join(parts)}]}}'


#: What a file names that leaves gradients to one process for a while.
_APART = ("no_sync", "require_backward_grad_sync")
_TRAINING = (
    "backward",
    "parameters",
    "named_parameters",
    "step",
    "zero_grad",
    "clip_grad_norm_",
    "clip_grad_value_",
    "unscale_",
)


def _trains(node: Any) -> bool:
    """Whether something in a node belongs to a training step."""
    for call in calls(node):
        name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
        if isinstance(name, cst.Name) and name.value in _TRAINING:
            return True
    return False
