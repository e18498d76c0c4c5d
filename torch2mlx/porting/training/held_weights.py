"""Names that hold the weights of a model, and are read after these have changed.

What torch changes in place MLX's optimizers replace: `w = model.fc.weight` has torch's next value
behind a step, and MLX's first. Such a name is written out where it is read, or refused.

params = list(model.parameters())           for x in data:
for x in data:                        ->        loss = f(model(x), list(model.parameters()))
    loss = f(model(x), params)                  ...
    ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import calls, children, code, of_kinds, walk
from torch2mlx.porting.training.holding import Holding, names_in
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.views import is_data

#: What asks for a parameter itself, or for what does not change.
_UNCHANGING = frozenset(
    [
        *("grad", "requires_grad", "shape", "dtype", "device", "ndim", "is_leaf", "numel", "size"),
        *("dim", "requires_grad_", "register_hook", "retain_grad", "keys", "is_cuda", "nelement"),
    ]
)
_OF_PARAMETERS = ("torch.nn.utils.clip_grad", "torch.optim.", "torch.autograd.grad", "torch.amp.")
_ADDING = ("append", "add", "extend", "insert", "update", "setdefault", "clear")
_PLAIN = ("len", "id", "isinstance", "type", "hasattr")
State = dict[str, dict[Any, bool]]  # name -> statement that gave it weights -> whether they changed


class HeldWeights:
    """Where names of a file hold weights that have changed: by the statement that gave them."""

    def __init__(self, module: cst.Module, types: Types) -> None:
        self.module, self.types = module, types
        self.holding = Holding(module, types)
        self.functions: dict[str, list[Any]] = {}
        for function in of_kinds(module, cst.FunctionDef):
            self.functions.setdefault(function.name.value, []).append(function)
        self.updating = self._all_updating()
        self.attributes: dict[tuple[str, str], Any] = {}  # of a class -> statement
        self.entries: dict[Any, State] = {}  # of functions, by what their callers give
        self.found: dict[Any, tuple[str, set[Any]]] = {}  # statement -> name, where it is read
        self.shared: dict[Any, str] = {}  # statement -> weight whose numbers become another's too
        if self.updating:
            self._read()

    def _read(self) -> None:
        for _ in range(3):
            before = (len(self.attributes), len(self.holding.giving), len(self.entries))
            self.found = {}
            _Block(self, "", self.module).run(self.module.body, {})
            for kind, function in _owned(self.module, ""):
                _Block(self, kind, function).function(function)
            if before == (len(self.attributes), len(self.holding.giving), len(self.entries)):
                return

    def _all_updating(self) -> set[str]:
        """The functions that change weights, and "" where the file itself does."""
        found: set[str] = set()
        while True:
            more = {
                name
                for name, nodes in [*self.functions.items(), ("", [self.module])]
                if name not in found and any(self._updates(n, found) for n in nodes)
            }
            if not more:
                return found
            found |= more

    def _updates(self, node: Any, known: set[str]) -> bool:
        body = node.body if isinstance(node, cst.FunctionDef) else node
        return any(self.updates(call, known) for call in calls(body))

    def updates(self, call: cst.Call, known: set[str]) -> bool:
        """Whether a call changes weights."""
        func = call.func
        if isinstance(func, cst.Name):
            return func.value in known
        if not isinstance(func, cst.Attribute):
            return False
        name, owner = func.attr.value, self.types.of(func.value)
        if name == "step":
            spelled = dotted(func.value).lower()
            return owner.kind == "optimizer" or "optim" in spelled or spelled.endswith("opt")
        if name == "load_state_dict":
            return owner.kind != "optimizer" and "opt" not in dotted(func.value).lower()
        return name in known and name in self.functions and owner.kind != "optimizer"


def _owned(node: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """All functions with the class that they are a method of, "" of others."""
    for child in children(node):
        if isinstance(child, cst.ClassDef):
            yield from _owned(child, child.name.value)
        elif isinstance(child, cst.FunctionDef):
            yield kind, child
            yield from _owned(child, kind)
        elif not isinstance(child, cst.BaseExpression):
            yield from _owned(child, kind)


class _Block:
    """Goes through the statements of a function, or of the file."""

    def __init__(self, file: HeldWeights, kind: str, function: Any) -> None:
        self.file, self.kind, self.node = file, kind, function
        self.state: State = {}
        self._statement: Any = None
        self._jumps: list[State] = []
        self._rebound: set[str] = set()  # loop variables whose `data` gets another tensor

    def function(self, function: Any) -> None:
        """A function's own body, with what its callers give and its class keeps."""
        entry = {name: dict(kept) for name, kept in self.file.entries.get(function, {}).items()}
        for (kind, attribute), statement in self.file.attributes.items():
            if kind == self.kind and not _gives(function, statement):
                entry[f"self.{attribute}"] = {statement: True}
        body = function.body.body
        self.run(body, entry)

    def run(self, body: Sequence[Any], state: State) -> State:
        self.state = state
        self._statements(body)
        return self.state

    def _statements(self, body: Sequence[Any]) -> None:
        for statement in body:
            if isinstance(statement, cst.SimpleStatementLine):
                self._statement = statement
                for small in statement.body:
                    self._small(small)
            elif isinstance(statement, cst.BaseSmallStatement):
                self._small(statement)
            else:
                self._compound(statement)

    def _compound(self, statement: Any) -> None:
        if isinstance(statement, (cst.For, cst.While)):
            self._loop(statement)
        elif isinstance(statement, cst.If):
            self._if(statement)
        elif isinstance(statement, cst.With):
            for item in statement.items:
                self._reads(item.item)
            self._statements(statement.body.body)
        elif isinstance(statement, (cst.Try, cst.TryStar)):
            self._try(statement)
        elif isinstance(statement, cst.FunctionDef):
            self._defaults(statement)

    def _if(self, node: Any) -> None:
        if not isinstance(node.test, (cst.Name, cst.UnaryOperation)):
            self._reads(node.test)
        integers = any(
            isinstance(n, cst.Name) and n.value in ("is_floating_point", "dtype")
            for n in walk(node.test)
        )
        before = _copied(self.state)
        self._statements(node.body.body)
        after, self.state = self.state, before
        if isinstance(node.orelse, cst.If):
            self._if(node.orelse)
        elif (
            node.orelse is not None and not integers
        ):  # what is no number with a point is no weight
            self._statements(node.orelse.body.body)
        self.state = _joined(after, self.state)

    def _try(self, node: Any) -> None:
        self._statements(node.body.body)
        after = _copied(self.state)
        for handler in node.handlers:
            self._statements(handler.body.body)
            after = _joined(after, self.state)
        self.state = after
        for last in (node.orelse, node.finalbody):
            if last is not None:
                self._statements(last.body.body)

    def _loop(self, node: Any) -> None:
        over = node.iter if isinstance(node, cst.For) else None
        if over is None:
            self._reads(node.test)
        outer, self._jumps = self._jumps, []
        rebound, self._rebound = self._rebound, self._rebound | set(_data_rebound(node.body))
        for _ in range(2):  # the second time with what the first one left
            before = _copied(self.state)
            if over is not None:
                self._bind(node.target, over, node)
            self._statements(node.body.body)
            for jump in (before, *self._jumps):
                self.state = _joined(self.state, jump)
        self._jumps, self._rebound = outer, rebound
        if node.orelse is not None:
            self._statements(node.orelse.body.body)

    def _bind(self, target: Any, over: Any, statement: Any) -> None:
        """The names of a loop over `over`, which holds weights maybe."""
        self._reads(over, iterated=True)
        kept = self._kept(over) or {statement: False}
        holding = set(self.file.holding.given(target, over, self._known))
        for name in names_in(target):
            self.state.pop(name, None)
            if name in holding:
                self.state[name] = dict(kept)

    def _known(self, name: str) -> bool:
        return name in self.state

    def _kept(self, node: Any) -> dict[Any, bool]:
        """What gave weights to the names in an expression."""
        found: dict[Any, bool] = {}
        for part in walk(node):
            for key, stale in self.state.get(dotted(part), {}).items() if dotted(part) else ():
                found[key] = found.get(key, False) or stale
        return found

    def _small(self, node: Any) -> None:
        if isinstance(node, (cst.Break, cst.Continue)):
            self._jumps.append(_copied(self.state))
        elif isinstance(node, cst.Return) and node.value is not None:
            holds = self.file.holding.holds(node.value, self._known)
            if holds and isinstance(self.node, cst.FunctionDef) and not self.kind:
                self.file.holding.giving.add(self.node.name.value)
            self._reads(node.value)
        elif isinstance(node, (cst.Assign, cst.AnnAssign)) and node.value is not None:
            self._assign(node)
        else:
            self._reads(node)
        self._calls(node)

    def _assign(self, node: Any) -> None:
        targets = (
            [t.target for t in node.targets] if isinstance(node, cst.Assign) else [node.target]
        )
        holds = self.file.holding.holds(node.value, self._known)
        kept = self._kept(node.value) if holds else {}
        self._reads(node.value, iterated=holds)
        for target in targets:
            if isinstance(target, (cst.Tuple, cst.List)):
                self._unpacked(target, node.value)
                continue
            name = dotted(target)
            if is_data(target) and holds and not self._same_weight(target, node.value):
                self.file.shared[self._statement] = code(target)
            if isinstance(target, cst.Subscript):
                self._reads(target.slice[0])
                self._put(dotted(target.value), node.value, holds)
            elif name and "." not in name:
                self.state.pop(name, None)
                if holds:
                    self.state[name] = {self._statement: False, **kept}
            elif holds and name.startswith("self.") and name.count(".") == 1:
                self._attribute(name)

    def _same_weight(self, target: Any, value: Any) -> bool:
        """Whether a value is made of the weight itself, or of what is a copy by then."""
        own = code(target.value)
        expressions = (n for n in walk(value) if isinstance(n, cst.BaseExpression))
        return any(code(n) == own for n in expressions)

    def _unpacked(self, target: Any, value: Any) -> None:
        parts = value.elements if isinstance(value, (cst.Tuple, cst.List)) else ()
        pairs = zip(target.elements, parts, strict=False) if parts else ()
        whole = not parts and self.file.holding.holds(value, self._known)
        kept = {self._statement: False, **self._kept(value)} if whole else {}
        for name in names_in(target):
            self.state.pop(name, None)
            if whole:
                self.state[name] = dict(kept)
        for one, other in pairs:
            if isinstance(one.value, cst.Name) and self.file.holding.holds(
                other.value, self._known
            ):
                self.state[one.value.value] = {self._statement: False}

    def _put(self, name: str, value: Any, holds: bool) -> None:
        """A container gets an item: weights, or what is no longer theirs."""
        data = {dotted(n) for n in walk(value)} & self._rebound
        if not holds or data or not name:
            return
        if name.startswith("self.") and name.count(".") == 1:
            self._attribute(name)
        elif "." not in name:
            # what the container has from an earlier turn may have changed by now
            self.state.setdefault(name, {}).setdefault(self._statement, False)

    def _attribute(self, name: str) -> None:
        if self.kind:
            self.file.attributes.setdefault((self.kind, name.partition(".")[2]), self._statement)
            self.state[name] = {self._statement: False}

    def _calls(self, node: Any) -> None:
        for call in calls(node):
            func = call.func
            if isinstance(func, cst.Attribute) and func.attr.value in _ADDING:
                for argument in call.args:
                    holds = self.file.holding.holds(argument.value, self._known)
                    self._put(dotted(func.value), argument.value, holds)
            self._give(call)
            if self.file.updates(call, self.file.updating):
                self._update(call)

    def _update(self, call: cst.Call) -> None:
        """Weights change: all of them by a step; by `model.load_state_dict(state)` those of the
        model, but not to what `state` does not have."""
        loaded = isinstance(call.func, cst.Attribute) and call.func.attr.value == "load_state_dict"
        given = {dotted(n) for argument in call.args for n in walk(argument)} if loaded else set()
        root = dotted(call.func).partition(".")[0] if loaded else ""
        for name, kept in self.state.items():
            for statement in kept if name not in given else ():
                names = {n.value for n in walk(statement) if isinstance(n, cst.Name)}
                kept[statement] |= not root or bool(names & {root, "self"}) or root == "self"

    def _give(self, call: cst.Call) -> None:
        """What a function of the file is given, and what of its surroundings it reads."""
        name = dotted(call.func).rpartition(".")[2]
        for function in self.file.functions.get(name, ()):
            parameters = [p.name.value for p in function.params.params]
            if "." in dotted(call.func) and parameters[:1] == ["self"]:
                parameters = parameters[1:]
            for place, argument in enumerate(call.args):
                word = argument.keyword.value if argument.keyword is not None else ""
                key = word or (parameters[place] if place < len(parameters) else "")
                kept = self._kept(argument.value) if not argument.star else {}
                if kept and self.file.holding.holds(argument.value, self._known):
                    entry = self.file.entries.setdefault(function, {}).setdefault(key, {})
                    entry.update({statement: False for statement in kept if statement not in entry})
            self._outer(function)

    def _outer(self, function: Any) -> None:
        """Names of the surroundings that a function reads when it is called."""
        own = {p.name.value for p in function.params.params}
        own |= {n for a in walk(function.body) for n in _bound(a)}
        entry = {n: k for n, k in self.state.items() if n not in own and "." not in n}
        if entry and any(isinstance(n, cst.Name) and n.value in entry for n in walk(function.body)):
            kept = self.file.entries.setdefault(function, {})
            for name, statements in entry.items():
                known = kept.setdefault(name, {})
                for statement, stale in statements.items():
                    known[statement] = known.get(statement, False) or stale

    # --- reading

    def _reads(self, node: Any, iterated: bool = False) -> None:
        """Notes the names in an expression that hold changed weights; `iterated`: the expression
        itself hands them on."""
        name = dotted(node) if isinstance(node, (cst.Name, cst.Attribute)) else ""
        if name in self.state:
            if not iterated:
                self._read(name, node)
        elif isinstance(node, cst.Attribute):
            if node.attr.value not in _UNCHANGING:
                self._reads(node.value, iterated)
        elif isinstance(node, cst.Call):
            self._read_call(node, iterated)
        elif isinstance(node, (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)):
            self._read_comprehension(node)
        elif isinstance(node, cst.Lambda):
            self._read_late(node)
        elif not isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            hands_on = iterated and isinstance(node, (cst.Subscript, cst.IfExp))
            for child in () if _asks_which(node) else children(node):
                self._reads(child, hands_on)

    def _read_call(self, node: cst.Call, iterated: bool) -> None:
        func, full = node.func, self.file.types.names.of(node.func)
        hands_on = iterated and self.file.holding.holds(node, self._known)
        if full.startswith(_OF_PARAMETERS) or dotted(func) in _PLAIN:
            return
        if isinstance(func, cst.Name) and func.value in self.state:
            self._read(func.value, func)
        if isinstance(func, cst.Attribute) and func.attr.value not in (*_UNCHANGING, *_ADDING):
            self._reads(func.value, hands_on)
        for argument in node.args:
            self._reads(argument.value, hands_on)

    def _read_late(self, node: cst.Lambda) -> None:
        """What a lambda reads, whenever it is called."""
        own = {p.name.value for p in walk(node.params) if isinstance(p, cst.Param)}
        before = self.state
        late = {name: kept for name, kept in before.items() if name not in own}
        self.state = {name: dict.fromkeys(kept, True) for name, kept in late.items()}
        self._reads(node.body)
        self.state = before

    def _defaults(self, function: cst.FunctionDef) -> None:
        """Parameters that hold weights since their function was made."""
        for parameter in function.params.params:
            given = parameter.default
            if given is not None and self.file.holding.holds(given, self._known):
                entry = self.file.entries.setdefault(function, {})
                entry.setdefault(parameter.name.value, {})[function] = True

    def _read_comprehension(self, node: Any) -> None:
        over, before = node.for_in, _copied(self.state)
        while over is not None:
            self._bind(over.target, over.iter, self._statement)
            for test in over.ifs:
                self._reads(test.test)
            over = over.inner_for_in
        hands_on = self.file.holding.holds(node, self._known)
        parts = (node.key, node.value) if isinstance(node, cst.DictComp) else (node.elt,)
        for part in parts:
            self._reads(part, hands_on)
        self.state = before

    def _read(self, name: str, node: Any) -> None:
        for statement, stale in self.state[name].items():
            if stale and isinstance(statement, (cst.SimpleStatementLine, cst.FunctionDef)):
                self.file.found.setdefault(statement, (name, set()))[1].add(node)


def _asks_which(node: Any) -> bool:
    """Whether a comparison is about objects, not about numbers: `best is None`."""
    compared = node.comparisons if isinstance(node, cst.Comparison) else ()
    return any(isinstance(c.operator, (cst.Is, cst.IsNot)) for c in compared)


def _gives(function: Any, statement: Any) -> bool:
    return any(part is statement for part in walk(function))


def _bound(node: Any) -> Iterator[str]:
    if isinstance(node, (cst.AssignTarget, cst.For, cst.CompFor)):
        yield from names_in(node.target)


def _data_rebound(body: Any) -> Iterator[str]:
    """Names whose `data` gets another tensor in a block: what they had is no longer the weight."""
    for node in walk(body):
        if isinstance(node, cst.AssignTarget):
            owner, _, last = dotted(node.target).rpartition(".")
            if last == "data":
                yield owner


def _copied(state: State) -> State:
    return {name: dict(kept) for name, kept in state.items()}


def _joined(one: State, other: State) -> State:
    made = _copied(one)
    for name, kept in other.items():
        into = made.setdefault(name, {})
        for statement, stale in kept.items():
            into[statement] = into.get(statement, False) or stale
    return made
