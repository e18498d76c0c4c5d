"""A backward pass and its step in two functions: what is called stands where it is called.

def backward(x, y):                         for x, y in data:
    loss = criterion(model(x), y)               loss = criterion(model(x), y)
    loss.backward()                             loss.backward()
    return loss                      ->         optimizer.step()
for x, y in data:
    loss = backward(x, y)
    optimizer.step()

So are functions that are given the loss, those that step, and the methods that compute what the
loss of such a function is made of. MLX differentiates a function of all of that.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.filled import fresh_name
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.lines import statements
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.traversal import calls, is_backward, of_kinds, walk, words_of
from torch2mlx.porting.training.written_out import (
    arguments,
    body_of,
    bound,
    can_be_written_out,
    first_call,
    free,
    names_in,
    uses_of_method,
    written_out,
)

#: How deep functions that call each other are written out.
_DEEP = 4
_WHY = "its statements stand where it is called: MLX differentiates what leads to a loss"


def with_steps_whole(module: cst.Module, report: Report, text: str) -> cst.Module:
    """The file, in which backward passes and their steps stand in one function; one without a
    step stays as it is."""
    if not any(_steps(call) for call in calls(module)):
        return module
    for _ in range(_DEEP):
        rules = StepFunctions(module, report)
        made = passed(module, rules) if rules.found else module
        if not rules.taken:
            return module
        module = made
        report.follow(module, text)
    return module


def with_updates_whole(module: cst.Module, report: Report, text: str) -> cst.Module:
    """The file, in which updates by hand stand where the functions that make them were called."""
    rules = StepFunctions(module, report, True)
    made = passed(module, rules) if rules.found else module
    if made is not module:
        report.follow(made, text)
    return made


class StepFunctions(cst.CSTTransformer):
    """Writes out the calls of such functions, those that call none of the others first; `by_hand`:
    those that read gradients instead, `def sgd(params, lr)`."""

    def __init__(self, module: cst.Module, report: Report, by_hand: bool = False) -> None:
        super().__init__()
        self._by_hand, self._splits = by_hand, _updates if by_hand else _splits
        self._report = report
        self._module = module
        self._classes = {n.name.value: n for n in module.body if isinstance(n, cst.ClassDef)}
        self._stored = _stored(module)
        self.found = self._functions()
        self.taken: dict[Any, int] = {}
        self._around: list[Any] = []
        self._used: dict[Any, set[str]] = {}
        self._old: dict[Any, Any] = {}  # statements -> what they were before
        if self.found:
            self._count()

    # --- which functions

    def _functions(self) -> dict[tuple[str, str], Any]:
        """Functions to be written out, by class and name; by "" and name those of no class."""
        held = [("", n) for n in self._module.body if isinstance(n, cst.FunctionDef)]
        for name, kind in self._classes.items():
            held += [(name, n) for n in kind.body.body if isinstance(n, cst.FunctionDef)]
        found = {}
        for owner, function in held:
            if not self._alone(owner, function, held) or not can_be_written_out(function):
                continue
            feeds = owner and not self._by_hand and self._feeds(self._classes[owner], function)
            if feeds or self._splits(function):
                found[owner, function.name.value] = function
        leaves = {}
        for (owner, name), function in found.items():
            inner = [c for s in body_of(function) for c in calls(s)]
            if not any(self._key(c, owner) in found for c in inner):
                leaves[owner, name] = function
        return leaves

    def _alone(self, owner: str, function: Any, held: list[Any]) -> bool:
        """Whether a name stands for one function: nothing defines it again, or assigns it."""
        name = function.name.value
        if name in self._stored or (name.startswith("__") and name != "__call__"):
            return False
        if not owner:
            return sum(n.name.value == name for _, n in held if not _) == 1
        related = {n for n in self._classes if owner in self._bases(n)} | self._bases(owner)
        same = [o for o, n in held if n.name.value == name and (o == owner or o in related)]
        return len(same) == 1 and bool(function.params.params)

    def _bases(self, name: str) -> set[str]:
        """The classes of the file that a class comes from."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            kind = self._classes.get(waiting.pop())
            named = [dotted(b.value) for b in kind.bases] if kind is not None else []
            waiting += [n for n in named if n not in found]
            found |= set(named)
        return found - {name}

    def _feeds(self, kind: Any, function: Any) -> bool:
        """Whether a method computes attributes that the loss of another method is made of, which
        calls it as a statement: `self.forward()`."""
        own = function.params.params
        body = body_of(function)
        if not own or any(isinstance(p, cst.Return) for s in body for p in walk(s)):
            return False
        name = own[0].name.value
        given = {t.target.attr.value for s in body for t in _targets(s) if _is_of(t.target, name)}
        if not given or not any(_computes(c, name) for s in body for c in calls(s)):
            return False
        called = f"{name}.{function.name.value}"
        methods = [n for n in kind.body.body if isinstance(n, cst.FunctionDef)]
        inner = ([c for s in body_of(n) for c in calls(s)] for n in methods)
        held = (n for n in inner if any(dotted(c.func) == called for c in n))
        return any(is_backward(c) for n in held for c in n)

    def _key(self, call: cst.Call, owner: str) -> tuple[str, str]:
        name = dotted(call.func)
        if owner and name.startswith("self.") and name.count(".") == 1:
            return owner, name[len("self.") :]
        return "", name

    # --- which of their calls are all of them

    def _count(self) -> None:
        """How often each plain name is used, its definition too."""
        words = words_of(self._module)
        names = of_kinds(self._module, cst.Name)
        self._uses = Counter(part.value for part in names if part not in words)

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> Any:
        made = updated_node.with_changes(body=self._block(list(updated_node.body)))
        gone = set()
        for (owner, name), function in self.found.items():
            used = uses_of_method(self._module, function) if owner else self._uses.get(name, 0) - 1
            whole = self.taken.get(function, 0) == used
            if whole and self.taken.get(function, 0) and self._splits(function):
                gone.add((owner, name))
        return made.visit(_Removed(gone)) if gone else made

    # --- writing

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._around.append(node)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._around.pop()
        return updated_node

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._around.append(node)

    leave_ClassDef = leave_FunctionDef

    def leave_IndentedBlock(self, original_node: Any, updated_node: cst.IndentedBlock) -> Any:
        self._old.update(zip(updated_node.body, original_node.body, strict=False))
        return updated_node.with_changes(body=self._block(list(updated_node.body)))

    def _block(self, block: list[Any]) -> list[Any]:
        made: list[Any] = []
        for statement in block:
            made += self._written(statement) or [statement]
        return made

    def _written(self, statement: Any) -> list[Any]:
        """The statements in the place of one that calls such a function; none of others."""
        owner = self._around[0].name.value if self._is_method() else ""
        call = first_call(statement, lambda c: self._key(c, owner) in self.found)
        if call is None or isinstance((self._around or [None])[-1], cst.ClassDef):
            return []
        key = self._key(call, owner)
        function = self.found[key]
        given = arguments(function, call, int(bool(key[0])))
        seen = function not in self._around and self._seen(function, key[0])
        if given is None or not seen or not self._may_wait(statement, call, function):
            return []
        if key[0]:
            given = [(function.params.params[0].name.value, cst.Name("self"), False), *given]
        target = self._target(statement, call, given)
        body, value = written_out(function, given, self._steady(function), self._fresh, target)
        self.taken[function] = self.taken.get(function, 0) + 1
        self._report.change(function, function.name.value, _WHY)
        return self._behind(statement, call, body, value, target)

    def _behind(self, statement: Any, call: Any, body: list[Any], value: Any, target: str) -> Any:
        """Statements, and the one that goes on with what they give."""
        small = statement.body[0]
        rest: list[Any] = []
        if not (isinstance(small, cst.Expr) and small.value is call) and not (
            target and isinstance(value, cst.Name) and value.value == target
        ):
            answer = cst.Name("None") if value is None else value
            if answer and not isinstance(answer, (cst.Name, cst.Attribute, cst.Call, cst.Tuple)):
                answer = answer.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            rest = [statement.deep_replace(call, answer).with_changes(leading_lines=())]
        elif isinstance(small, cst.Expr) and value is not None and not dotted(value):
            rest = [cst.SimpleStatementLine(body=[cst.Expr(value)])]
        made = [*body, *rest]
        if not made:
            return [cst.SimpleStatementLine(body=[cst.Pass()])]
        lines = [*statement.leading_lines, *made[0].leading_lines]
        made[0] = made[0].with_changes(leading_lines=lines)
        line = self._report.line(self._old.get(statement, statement))
        inner = [*made, *(part for one in made for part in statements(one))]
        self._report.placed.update(dict.fromkeys(inner, line))
        return made

    def _is_method(self) -> bool:
        around = self._around
        method = len(around) > 1 and isinstance(around[0], cst.ClassDef)
        if not method or not isinstance(around[1], cst.FunctionDef):
            return False
        return [p.name.value for p in around[1].params.params[:1]] == ["self"]

    def _seen(self, function: Any, owner: str) -> bool:
        """Whether what a function takes from around it is the same where it is called."""
        if any(isinstance(n, cst.ClassDef) for n in self._around[1:]):
            return False
        here: set[str] = set()
        for around in (n for n in self._around if isinstance(n, cst.FunctionDef)):
            here |= {p.name.value for p in walk(around.params) if isinstance(p, cst.Param)}
            here |= set(bound(list(getattr(around.body, "body", ()))))
        return not (free(function) | ({function.name.value} if not owner else set())) & here

    def _may_wait(self, statement: Any, call: cst.Call, function: Any) -> bool:
        """Whether what a statement reads before it calls a function is the same behind the call:
        `self.total += self.back()`."""
        small = statement.body[0]
        inside = set(walk(call))
        beside = [p for p in walk(small) if isinstance(p, cst.Attribute) and p not in inside]
        added = getattr(small, "target", None) if isinstance(small, cst.AugAssign) else None
        if isinstance(added, cst.Attribute) and not self._set_once(added.attr.value):
            return False
        return not any(part.attr.value in self._changed(function) for part in beside)

    @staticmethod
    def _changed(function: Any) -> set[str]:
        """The attributes that a function gives values."""
        held = (t for s in body_of(function) for t in walk(s))
        kinds = (cst.AssignTarget, cst.AugAssign, cst.AnnAssign)
        return {_attribute(t.target) for t in held if isinstance(t, kinds)} - {""}

    def _target(self, statement: Any, call: cst.Call, given: list[Any]) -> str:
        """The name that a call is assigned to, where the function can use it for its own."""
        small = statement.body[0]
        if not isinstance(small, cst.Assign) or small.value is not call or len(small.targets) > 1:
            return ""
        name: Any = small.targets[0].target
        taken = {n for _, expression, _ in given for n in names_in(expression)}
        inside = any(isinstance(n, cst.FunctionDef) for n in self._around)
        plain = isinstance(name, cst.Name) and name.value not in taken
        return name.value if plain and inside else ""

    def _steady(self, function: Any) -> Any:
        """Whether an argument is the same all along the function."""
        changed = self._changed(function)
        told = of_kinds(self._module, cst.Global, cst.Nonlocal)
        shared = {item.name.value for part in told for item in part.names}

        def is_steady(node: Any) -> bool:
            if self._by_hand and isinstance(node, (cst.List, cst.Tuple)):
                return all(is_steady(e.value) for e in node.elements)
            if self._by_hand and _gives_parameters(node):
                return is_steady(node.func.value)
            if isinstance(node, cst.Name):
                return self._by_hand or node.value not in shared
            if not isinstance(node, cst.Attribute) or not dotted(node):
                return False
            return node.attr.value not in changed and self._set_once(node.attr.value)

        return is_steady

    def _set_once(self, name: str) -> bool:
        """Whether only constructors, and the function around, give an attribute its values."""
        here = next((n for n in self._around if isinstance(n, cst.FunctionDef)), None)
        for function in of_kinds(self._module, cst.FunctionDef):
            if function.name.value == "__init__" or function is here:
                continue
            inner = (t for t in walk(function) if isinstance(t, (cst.AssignTarget, cst.AugAssign)))
            if any(_attribute(t.target) == name for t in inner):
                return False
        return True

    def _fresh(self, name: str) -> str:
        """A name that is not used where the call stands."""
        scope = next((n for n in self._around if isinstance(n, cst.FunctionDef)), self._module)
        if scope not in self._used:
            self._used[scope] = {n.value for n in walk(scope) if isinstance(n, cst.Name)}
        return fresh_name(name, self._used[scope])


class _Removed(cst.CSTTransformer):
    """Takes out functions, by their class and name."""

    def __init__(self, gone: set[tuple[str, str]]) -> None:
        super().__init__()
        self._gone, self._class, self._deep = gone, "", 0

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._class = node.name.value

    def leave_ClassDef(self, original_node: Any, updated_node: Any) -> Any:
        self._class = ""
        return updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return False

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        gone = (self._class, original_node.name.value) in self._gone
        return cst.RemoveFromParent() if gone else updated_node


# --- reading


def _splits(function: cst.FunctionDef) -> bool:
    """Whether a function has a backward pass without its forward pass or its step, or a step
    alone."""
    parts = [p for s in body_of(function) for p in walk(s)]
    inner = [p for p in parts if isinstance(p, cst.Call)]
    backward = [c for c in inner if is_backward(c)]
    steps = [c for c in inner if _steps(c)]
    if any(_attribute(p) == "grad" for p in parts):
        return False
    if not backward:
        return bool(steps) and not any(isinstance(p, (cst.For, cst.While)) for p in parts)
    given = {p.name.value for p in function.params.params}
    losses = {_root(c.func.value) for c in backward if isinstance(c.func, cst.Attribute)}
    return not steps or bool(losses & given - set(bound(body_of(function))))


def _updates(function: cst.FunctionDef) -> bool:
    """Whether a function reads gradients, of what it is given, and takes none."""
    parts = [p for s in body_of(function) for p in walk(s)]
    backward = any(is_backward(p) for p in parts if isinstance(p, cst.Call))
    graded = any(_attribute(p) == "grad" for p in parts)
    loops = {dotted(p.iter) for p in parts if isinstance(p, cst.For)}
    given = {p.name.value for p in function.params.params}
    singles = {dotted(p.value) for p in parts if _attribute(p) == "grad"}
    return graded and not backward and bool((loops | singles) & given)


def _gives_parameters(node: Any) -> bool:
    """`net.parameters()`."""
    call = isinstance(node, cst.Call) and not node.args
    return call and _attribute(node.func) in ("parameters", "named_parameters")


def _steps(call: cst.Call) -> bool:
    """Whether a call steps an optimizer, as its name says."""
    if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "step":
        return False
    name = dotted(call.func.value).rpartition(".")[2].lower()
    return "opt" in name or "scaler" in name


def _root(loss: Any) -> str:
    """The name of a loss, `scaler.scale(loss)` too."""
    scaled = isinstance(loss, cst.Call) and isinstance(loss.func, cst.Attribute) and loss.args
    node = loss.args[0].value if scaled and loss.func.attr.value == "scale" else loss
    return dotted(node)


def _targets(statement: Any) -> list[Any]:
    return [part for part in walk(statement) if isinstance(part, cst.AssignTarget)]


def _attribute(target: Any) -> str:
    return target.attr.value if isinstance(target, cst.Attribute) else ""


def _is_of(target: Any, name: str) -> bool:
    return isinstance(target, cst.Attribute) and dotted(target.value) == name


def _computes(call: cst.Call, name: str) -> bool:
    """Whether a call is of something that an object has: `self.net(x)`."""
    return dotted(call.func).startswith(f"{name}.")


def _stored(module: cst.Module) -> set[str]:
    """Names that the file assigns, of attributes too."""
    found = set()
    for node in of_kinds(module, cst.AssignTarget, cst.AugAssign, cst.AnnAssign):
        target = node.target
        found |= {target.value} if isinstance(target, cst.Name) else {_attribute(target)}
    for node in of_kinds(module, cst.Call):
        if dotted(node.func) == "setattr" and len(node.args) == 3:
            key = node.args[1].value
            found |= {str(key.evaluated_value)} if isinstance(key, cst.SimpleString) else set()
    return found - {""}
