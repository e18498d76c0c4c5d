"""Parameters that modules are given: new ones, those of other modules, and what may be either.

In torch a parameter that two modules have is one, and a parameter over the numbers of another one
changes with it. In MLX each module has an array of its own as soon as an optimizer has stepped. So
what is no new parameter has to be a tie that is understood, or it is refused.

p = nn.Parameter(torch.zeros(3, 3))         p = nn.Parameter(torch.zeros(3, 3))
self.a.weight = p                     ->    self.a.weight = p
self.b.weight = p                           self.b.weight = self.a.weight
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import libcst as cst

from torch2mlx.catalog.layers.turned import TURNED
from torch2mlx.errors import Code
from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.traversal import code, of_kinds
from torch2mlx.porting.training.origins import PARAMETER, Origin, Origins
from torch2mlx.porting.training.overlaps import LOOPS, Overlaps
from torch2mlx.porting.training.read_later import ReadLater
from torch2mlx.porting.types.attributes import is_weight
from torch2mlx.porting.types.callers import Callers, last
from torch2mlx.porting.types.kinds import Type
from torch2mlx.porting.types.known import Types

_TWICE = "a parameter under two names: kit.tying.tie(root, alias, name)"
_NUMBERS = (
    "`{0}` becomes the very numbers of another weight, and changes with it: copy_ or clone() "
)
_NUMBERS += "takes their values"
_OF_TORCH = "the parameters that torch's module keeps by name: setattr, named_parameters()"
_OTHERWISE = "a parameter under two names, which MLX has in other layouts or under other names"
_REPLACED = "a layer whose parameter another one has is replaced: tie the new one behind this line"
_PLAIN_LAYERS = ("torch.nn.Linear", "torch.nn.Embedding", "torch.nn.LayerNorm")
_OF_DICT = re.compile(r"__dict__|\bvars\(")
_FOLDED = "`{0}` has one number at several places, which change together: clone() takes the values"
_LATER = "`{0}` trains the numbers of `{1}`, which is read behind that: clone() takes the values"
_BUFFERS = ("torch.nn.Buffer", "torch.nn.parameter.Buffer")
_LISTS = ("torch.nn.ParameterList", "torch.nn.ParameterDict")


@dataclass(frozen=True, eq=False)
class Given:
    """A place where something becomes a parameter of a module. `kind`: "object" of what a layer's
    parameter is set to, "kept" of another attribute, "numbers" of what a new parameter, or `data`,
    is made over, "buffer" of what is held beside parameters. `part`: which place of its statement
    it is."""

    kind: str
    statement: Any
    target: Any
    value: Any
    part: int = 0


class GivenParameters:
    """Finds those of a file, and says of their statements what they become: another value, or why
    they are refused."""

    def __init__(self, module: cst.Module, types: Types) -> None:
        self._types = types
        self._callers = Callers(module, types)
        self._origins = Origins(types, self._callers)
        self._overlaps, self._later = Overlaps(self._callers), ReadLater(self._callers)
        self.values: dict[Any, Any] = {}  # statement -> what it assigns
        self.tied: dict[Any, tuple[Any, Any]] = {}  # statement -> target, source
        self.refused: dict[Any, str] = {}
        self._reached: dict[Any, list[tuple[Given, Origin]]] = {}
        self._new: list[Given] = []  # layers' parameters that are new ones
        steps = (n for n in of_kinds(module, cst.Attribute) if n.attr.value in ("step", "backward"))
        self._trains = next(steps, None) is not None
        for node in of_kinds(module, cst.Attribute):
            if node.attr.value == "_parameters" and self._callers.statement(node) is not None:
                self.refused[self._callers.statement(node)] = _OF_TORCH
        for given in self._numbered(module):
            if given.statement not in self.refused and self._lasts(given):
                self._decide(given)
        for held in self._reached.values():
            self._shared(held)
        self.tied = {line: pair for line, pair in self.tied.items() if line not in self.refused}
        self.untied = dict(self._untied()) if self.tied else {}  # statement -> target
        if self.tied:
            self._replaced(module)

    def _lasts(self, given: Given) -> bool:
        """Whether weights may be trained behind a place: not where the file alone runs it, and
        trains nothing."""
        inside = isinstance(self._callers.scope(given.value), cst.FunctionDef)
        return given.kind != "numbers" or inside or self._trains

    # --- finding

    def _numbered(self, module: cst.Module) -> Iterator[Given]:
        counts: Counter[Any] = Counter()
        for given in self._all(module):
            yield replace(given, part=counts[given.statement])
            counts[given.statement] += 1

    def _all(self, module: cst.Module) -> Iterator[Given]:
        for line in of_kinds(module, cst.SimpleStatementLine):
            for small in line.body:
                if isinstance(small, (cst.Assign, cst.AnnAssign)) and small.value is not None:
                    yield from self._assigned(small, line)
        for node in of_kinds(module, cst.For):
            yield from self._targets(node.target, node.iter, node)
        for call in of_kinds(module, cst.Call):
            yield from self._of_call(call)
            yield from self._of_buffer(call)

    def _assigned(self, made: Any, line: Any) -> Iterator[Given]:
        targets = (
            [t.target for t in made.targets] if isinstance(made, cst.Assign) else [made.target]
        )
        for target in targets:
            yield from self._targets(target, made.value, line)

    def _targets(self, target: Any, value: Any, line: Any) -> Iterator[Given]:
        if isinstance(target, (cst.Tuple, cst.List)):
            parts = target.elements
            listed = isinstance(value, (cst.Tuple, cst.List)) and len(value.elements) == len(parts)
            for i, part in enumerate(parts):
                inner = value.elements[i].value if listed else value
                yield from self._targets(part.value, inner, line)
        elif isinstance(target, cst.Attribute):
            kind = self._kind(target)
            if kind:
                yield Given(kind, line, target, value)
        elif isinstance(target, cst.Subscript) and _OF_DICT.search(code(target.value)):
            yield Given("kept", line, target, value)

    def _kind(self, target: cst.Attribute) -> str:
        name, owner = target.attr.value, self._types.of(target.value)
        if name == "data":
            inner = target.value
            of_layer = isinstance(inner, cst.Attribute) and self._origins.is_parameter(inner)
            return "numbers" if of_layer else ""
        if owner.kind not in ("module", "unknown", "instance"):
            return ""
        own = dotted(target.value) == "self"
        if not (self._in_module(target) if own else self._may_be_module(owner)):
            return ""
        if name in ("weight", "bias") or is_weight(name) or name in self._origins.own:
            return "object"
        known = owner.kind == "module" or dotted(target.value) == "self"
        return "kept" if known else ""

    def _may_be_module(self, owner: Type) -> bool:
        named = owner.name in self._types.names.classes
        return not named or self._types.is_module_class(owner.name)

    def _in_module(self, node: Any) -> bool:
        function = self._callers.scope(node)
        while isinstance(function, cst.FunctionDef):
            kind = self._callers.class_of(function)
            if kind is not None:
                return self._types.is_module_class(kind.name.value)
            function = self._callers.scope(function)
        return False

    def _of_call(self, call: cst.Call) -> Iterator[Given]:
        full, given = self._types.names.of(call.func), call.args
        line = self._callers.statement(call)
        if line is None or not given:
            return
        if full == PARAMETER:
            named = (a.value for a in given if a.keyword is not None and a.keyword.value == "data")
            yield Given("numbers", line, call, next(named, given[0].value))
        elif full in _LISTS:
            yield from self._listed(line, call, given[0].value)
        elif full == "copy.copy" and self._types.of(given[0].value).kind in ("module", "modules"):
            self.refused[line] = "a copy that shares its parameters with the module: copy.deepcopy"
        elif isinstance(call.func, cst.Attribute):
            name = call.func.attr.value
            if name in ("register_parameter", "__setattr__") and len(given) > 1:
                yield Given("kept", line, call, given[-1].value)
            elif name == "append" and self._types.of(call.func.value).name in _LISTS:
                yield from self._listed(line, call, given[0].value)
        elif dotted(call.func) == "setattr" and len(given) == 3:
            yield Given("kept", line, call, given[2].value)

    def _of_buffer(self, call: cst.Call) -> Iterator[Given]:
        line, given = self._callers.statement(call), call.args
        registered = last(call.func) == "register_buffer"
        made = self._types.names.of(call.func) in _BUFFERS
        if line is not None and len(given) > int(registered) and (registered or made):
            yield Given("buffer", line, call, given[int(registered)].value)

    def _listed(self, line: Any, call: cst.Call, value: Any) -> Iterator[Given]:
        """What a list of parameters is given: it makes parameters of tensors."""
        several = isinstance(value, (cst.List, cst.Tuple, cst.Dict))
        for one in [e.value for e in value.elements] if several else [value]:
            made = not any(o.parameter for o in self._origins.of(one))
            yield Given("numbers" if made else "kept", line, call, one)

    # --- deciding

    def _decide(self, given: Given) -> None:
        origins = self._origins.of(given.value)
        if given.kind == "object":
            self._object(given, origins)
        weights = [o for o in origins if o.kind == "weight" and not self._same(given, o)]
        if given.kind == "kept" and any(not o.view for o in weights):
            self.refused[given.statement] = _TWICE
        elif given.kind in ("numbers", "buffer") and weights:
            self.refused[given.statement] = _NUMBERS.format(code(given.target))
        elif given.kind == "numbers" and any(self._overlaps.folded(o.steps) for o in origins):
            self.refused[given.statement] = _FOLDED.format(code(given.target))
        later = self._later_names(given, origins) if given.statement not in self.refused else ""
        if later:
            self.refused[given.statement] = _LATER.format(code(given.target), later)
        for origin in origins:
            if given.statement not in self.refused and self._counts(given, origin):
                key = (origin.node, origin.returned)
                self._reached.setdefault(key, []).append((given, origin))

    def _later_names(self, given: Given, origins: frozenset[Origin]) -> str:
        """The tensor of a parameter's numbers that is read when these are trained."""
        made = (o for o in origins if given.kind == "numbers" and o.kind == "new")
        return next((name for o in made if (name := self._later.name(o.node))), "")

    def _object(self, given: Given, origins: frozenset[Origin]) -> None:
        """What a layer's parameter is set to: what is new, nothing, or a tie. A view is no
        parameter: torch lets it take the place of what is none."""
        fine = all(o.kind in ("plain", "new") or (o.view and o.kind != "weight") for o in origins)
        if fine and origins:
            self._new += [given] if any(o.parameter for o in origins) else []
            return
        only = next(iter(origins)) if len(origins) == 1 else None
        if only is not None and _is_given_back(given, only):
            return
        if only is None or only.kind != "weight" or only.view or only.through or only.at:
            self.refused[given.statement] = _TWICE
        elif code(only.node) != code(given.target):
            self._tie(given, only.node)

    def _tie(self, given: Given, source: Any) -> None:
        """A parameter that is another one of the same module: the two are tied, where they are the
        same when the statement runs."""
        small = given.statement.body[0] if _is_line(given.statement) else None
        targets = small.targets if isinstance(small, cst.Assign) else ()
        alone = len(targets) == 1 and targets[0].target is given.target
        near = self._callers.scope(source) is self._callers.scope(given.target)
        if not isinstance(source, cst.Attribute) or not alone or not near:
            self.refused[given.statement] = _TWICE
        elif not self._alike(given.target, source):
            self.refused[given.statement] = _OTHERWISE
        else:
            self.tied[given.statement] = (given.target, source)

    def _alike(self, target: Any, source: Any) -> bool:
        """Whether MLX has the arrays of two parameters under torch's names, and in one layout; of
        two `weight`s that is looked at when the program runs."""
        names = [node.attr.value for node in (target, source)]
        if any(map(is_weight, names)):
            return False
        layer, other = (self._types.of(node.value).name for node in (target, source))
        if names[0] == names[1]:
            turned = any(kind.removeprefix("torch.nn.") in TURNED for kind in (layer, other))
            return not (layer and other and layer != other and turned)
        return layer in _PLAIN_LAYERS or dotted(target.value) == "self"

    def _same(self, given: Given, origin: Origin) -> bool:
        """Whether a value is the very weight that is set: `p.data = p.data.to(device)`."""
        target, small = given.target, given.statement.body[0] if _is_line(given.statement) else None
        if isinstance(small, cst.Assign) and small.value is target:
            target = small.targets[0].target  # m.weight = nn.Parameter(m.weight.half())
        while isinstance(target, cst.Attribute) and target.attr.value == "data":
            target = target.value
        return not origin.through and code(target) == code(origin.node)

    def _counts(self, given: Given, origin: Origin) -> bool:
        """Whether the places are to be counted where something becomes a parameter, or is held
        beside the parameters of a module."""
        return origin.node is not None and origin.kind in ("new", "unknown", "given")

    def _several(self, origin: Origin) -> bool:
        """Whether one place of the source makes several things."""
        held = self._callers.bindings(self._callers.scope(origin.node))
        return origin.kind != "new" or bool(held.loops(origin.node))

    # --- what becomes several parameters

    def _shared(self, held: list[tuple[Given, Origin]]) -> None:
        """Ties what one new parameter was given to, or refuses what shares numbers."""
        parts = [self._overlaps.separating(o.steps, self._several(o)) for _, o in held]
        meeting: list[set[int]] = []  # places that have numbers of each other
        for i in range(len(held)):
            others = [
                j for j in range(i) if self._meet(held[i], held[j], parts[i], parts[j], parts)
            ]
            joined = [group for group in meeting if group & set(others)]
            alone = not _is_held(*held[i]) and self._repeats(*held[i])
            if others or alone:
                meeting = [group for group in meeting if group not in joined]
                meeting.append({i, *others}.union(*joined))
        for group in meeting:
            self._tied_or_refused([held[i] for i in sorted(group)])

    def _meet(self, one: tuple[Given, Origin], other: tuple[Given, Origin], *parts: Any) -> bool:
        """Whether two places may have numbers of each other, one of them as a parameter."""
        if _is_held(*one) and _is_held(*other):
            return False
        turns = any(isinstance(t, LOOPS) for _, o in (one, other) for t in o.through)
        if self._place(*one) == self._place(*other) and not turns:
            return False
        return not self._overlaps.apart(*parts)

    def _tied_or_refused(self, held: list[tuple[Given, Origin]]) -> None:
        ordered = sorted(held, key=lambda pair: self._number(pair[0]))
        first = ordered[0][0]
        if self._excluding(ordered):
            return
        kept = [pair for pair in ordered if not _is_held(*pair)]
        whole = len(kept) == len(ordered)
        whole = whole and all(self._follows(first, given, origin) for given, origin in ordered)
        beside = [pair for pair in ordered if _is_held(*pair)]
        wrong = beside if beside and len(kept) == 1 else ordered
        for given, origin in ordered[1:] if whole else wrong:
            if whole:
                self._tie(given, first.target)
            else:
                numbers = given.kind == "numbers" or _is_held(given, origin)
                why = _NUMBERS.format(code(given.target)) if numbers else _TWICE
                self.refused[given.statement] = why

    def _place(self, given: Given, origin: Origin) -> tuple[Any, ...]:
        """What becomes a parameter, told by its function, the calls of it, and its text."""
        calls = [c for c in origin.through if isinstance(c, cst.Call)]
        text = code(given.statement).strip()
        return self._callers.scope(given.value), text, given.part, *calls

    def _number(self, given: Given) -> int:
        held = self._callers.bindings(self._callers.scope(given.value))
        return held.order.get(given.statement, 0)

    def _excluding(self, ordered: list[tuple[Given, Origin]]) -> bool:
        """Whether only one of the places is reached."""
        scopes = {self._callers.scope(given.value) for given, _ in ordered}
        if len(scopes) > 1 or any(self._repeats(*pair) for pair in ordered):
            return False
        held = self._callers.bindings(scopes.pop())
        givens = [given.statement for given, _ in ordered]
        return all(held.exclude(a, b) for i, a in enumerate(givens) for b in givens[:i])

    def _follows(self, first: Given, given: Given, origin: Origin) -> bool:
        """Whether a place can have what the first one was given, by the first one's name."""
        if given.kind == "numbers" or origin.view or origin.through or origin.at:
            return False
        if not isinstance(given.target, cst.Attribute) or self._repeats(given, origin):
            return False
        scope = self._callers.scope(first.value)
        if scope is not self._callers.scope(given.value):
            return False
        if given is not first and given.kind != "object":
            return False
        return self._callers.bindings(scope).leads(first.statement, given.statement)

    # --- what ties end with

    def _untied(self) -> Iterator[tuple[Any, Any]]:
        """Where a layer that may be tied is given a new parameter."""
        names = {pair[0].attr.value for pair in self.tied.values()}
        names |= {pair[1].attr.value for pair in self.tied.values()}
        texts = {code(node) for pair in self.tied.values() for node in pair}
        for given in self._new:
            own = dotted(given.target.value) == "self" and code(given.target) not in texts
            before = all(self._leads(given.statement, line) for line in self.tied)
            named = _is_line(given.statement) and given.target.attr.value in names
            if named and not own and not before:
                yield given.statement, given.target

    def _leads(self, one: Any, other: Any) -> bool:
        """Whether a statement stands before another one of its function, out of loops."""
        scope = self._callers.scope(one)
        held = self._callers.bindings(scope)
        same = scope is self._callers.scope(other) and not held.loops(one)
        return same and held.order[one] < held.order[other]

    def _replaced(self, module: cst.Module) -> None:
        """Refuses a layer that takes the place of one that is tied: torch's optimizer goes on with
        the parameter, which no module of MLX's has any longer."""
        for made in of_kinds(module, cst.SimpleStatementLine):
            small = made.body[0]
            targets = small.targets if isinstance(small, cst.Assign) else ()
            for target in (t.target for t in targets):
                layer = isinstance(target, cst.Attribute) and made not in self.tied
                if layer and any(self._replaces(made, target, line) for line in self.tied):
                    self.refused.setdefault(made, _REPLACED)

    def _replaces(self, made: Any, target: Any, tie: Any) -> bool:
        parts = [f"{code(node.value)}." for node in self.tied[tie]]
        scope = self._callers.scope(made)
        if scope is self._callers.scope(tie):
            within = any(part.startswith(f"{code(target)}.") for part in parts)
            return within and not self._leads(made, tie)
        named = any(f".{target.attr.value}." in part for part in parts)
        if not named or self._types.of(made.body[0].value).kind not in ("module", "modules"):
            return False
        method = isinstance(scope, cst.FunctionDef) and self._callers.class_of(scope) is not None
        if not method or dotted(target.value) != "self":
            return True
        return scope.name.value != "__init__" and bool(self._callers.calls_of(scope))

    def _repeats(self, given: Given, origin: Origin) -> bool:
        """Whether a place is reached several times with what was made once."""
        made = origin.node
        home = self._callers.scope(made)
        renewed = self._callers.bindings(home).loops(made)
        renewed |= {part for part in origin.through if not isinstance(part, LOOPS)}
        renewed |= self._overlaps.renewed(origin.steps, self._several(origin))
        for call in origin.returned:
            renewed |= self._callers.bindings(self._callers.scope(call)).loops(call)
        calls = [c for c in origin.through if isinstance(c, cst.Call)]
        for node in (given.value, *calls):
            held = self._callers.bindings(self._callers.scope(node))
            if held.loops(node) - renewed:
                return True
        scope = self._callers.scope(given.value)
        if home is scope or calls:
            return False
        callers = self._callers.calls_of(scope)
        around = (self._callers.bindings(self._callers.scope(c)).loops(c) for c in callers)
        return len(callers) > 1 or any(around)


def _is_given_back(given: Given, origin: Origin) -> bool:
    """Whether a function that is called here gives the very weight back that it is given, and that
    is set: `a.weight = filled(a.weight, values)`."""
    whole = origin.kind == "weight" and not origin.view and not origin.at
    here = bool(origin.through) and all(through is given.value for through in origin.through)
    return whole and here and code(origin.node) == code(given.target)


def _is_held(given: Given, origin: Origin) -> bool:
    """Whether a place holds a tensor beside the parameters of a module."""
    return given.kind == "buffer" or (given.kind != "numbers" and not origin.parameter)


def _is_line(statement: Any) -> bool:
    return isinstance(statement, cst.SimpleStatementLine)


def with_ties(module: cst.Module, types: Types, report: Report) -> cst.Module:
    """The file, in which each parameter that a module is given is a new one or a tie."""
    found = GivenParameters(module, types)
    for statement, why in found.refused.items():
        report.refuse(statement, why, code=Code.UNCLEAR)
    if not found.tied and not found.refused:
        return module
    made: cst.Module = passed(module, _Written(found))
    return made


class _Written(cst.CSTTransformer):
    """Writes ties by names, and has what is refused not run."""

    def __init__(self, found: GivenParameters) -> None:
        super().__init__()
        self._found = found

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        if original_node in self._found.refused:
            return _raised(original_node, updated_node, self._found.refused[original_node])
        if original_node in self._found.tied:
            source, small = self._found.tied[original_node][1], updated_node.body[0]
            if code(small.value) != code(source):
                return updated_node.with_changes(body=[small.with_changes(value=source)])
        if original_node in self._found.untied:
            target = self._found.untied[original_node]
            what = f'{KIT}.tying.untie({code(target.value)}, "{target.attr.value}")\n'
            lines = [cst.parse_statement(what), updated_node.with_changes(leading_lines=())]
            lines[0] = lines[0].with_changes(leading_lines=updated_node.leading_lines)
            return cst.FlattenSentinel(lines)
        return updated_node


def _raised(original: Any, updated: Any, why: str) -> Any:
    """What a statement that is refused is when it runs."""
    small = original.body[0]
    what = code(small.targets[0].target) if isinstance(small, cst.Assign) else "parameter"
    text = repr(f"{what}: {why}")
    made: Any = cst.parse_statement(f"raise NotImplementedError({text})\n")
    return made.with_changes(leading_lines=updated.leading_lines)
