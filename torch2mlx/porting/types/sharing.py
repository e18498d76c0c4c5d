"""Names that share a tensor. What torch changes in place changes under all of them: under other
names for the same tensor, which MLX's `x[...] = value` does too, and in its views, which are
arrays of their own in MLX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import libcst as cst

from torch2mlx.catalog.layers.entry import BUILTIN
from torch2mlx.porting.scopes.def_use import loads
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, children, walk
from torch2mlx.porting.types.kinds import Type
from torch2mlx.porting.types.places import (
    FRESH,
    READING,
    SHARED,
    Event,
    Origin,
    bodies,
    called_at_once,
    count_of,
    meets,
    parameters,
    surely,
    written,
)
from torch2mlx.porting.types.views import FIELDS, Views, changed, changes_in_place, is_data

#: Layers that may give back what they are given.
_PASSING = (
    *("Identity", "Dropout", "Sequential", "Module", "ReLU", "ELU", "SiLU", "Hard", "SELU"),
    *("Threshold", "Mish", "RReLU", "CELU"),
)
_FRESH_LAYERS = frozenset(
    name for name in BUILTIN if not any(word in name.rpartition(".")[2] for word in _PASSING)
)
_KEEPING_NOTHING = (
    *("print", "len", "range", "int", "float", "bool", "str", "abs", "min", "max"),
    *("sum", "sorted", "round", "isinstance", "type", "enumerate", "zip", "repr"),
    *("hasattr", "getattr", "super", "any", "all", "id", "format", "divmod", "pow"),
)
#: Functions that hand on what they are given, or its items.
_RELAYING = ("list", "tuple", "iter", "reversed", "enumerate", "zip", "sorted")
_HOLDING = ("torch.nn.Parameter", "torch.nn.Buffer", "torch.nn.parameter.Parameter")
_ROOTS = ("torch", "math", "numpy", "torchvision", "random", "os", "time")


class Sharing:
    """What the functions of a file share, each looked at when it is first asked about."""

    def __init__(self, module: Any, names: Names, type_of: Callable[[Any], Type]) -> None:
        self._names, self._type_of = names, type_of
        self._around: dict[Any, Any] = {}
        self._flows: dict[Any, _Flow] = {}
        self.module = module

    def owned(self, statement: Any, name: str, given: bool = False) -> bool:
        """Whether nothing but a plain name has the tensor that a statement changes; `given`: who
        called the function may have it too."""
        flow, at = self._place(statement)
        return at is None or flow.owned(at, name, given)

    def conflict(self, statement: Any, name: str) -> str:
        """Why MLX cannot change a tensor in place as torch does; "" where it can."""
        flow, at = self._place(statement)
        return "" if at is None else flow.conflict(at, name)

    def live(self, statement: Any, name: str) -> bool:
        """Whether the tensor of a plain name is read more than once from a statement on."""
        flow, at = self._place(statement)
        return at is None or flow.live(at, name) or count_of(statement, name) > 1

    def outlives(self, statement: Any, name: str, kind: str = "view") -> bool:
        """Whether a tensor is read behind a statement, here or by who holds it; of a cast, here."""
        flow, at = self._place(statement)
        return at is None or flow.outlives(at, name, kind)

    def held(self, node: Any) -> tuple[str, str]:
        """What an expression changes when it changes in place what a node gives: the name, and
        "name", "part" of what it is, a "copy" of a part, a "view" or a "cast"; ("", "") of what is
        new."""
        while changes_in_place(node) or is_data(node):
            held: Any = node.func if isinstance(node, cst.Call) else node
            node = held.value
        if isinstance(node, (cst.Name, cst.Attribute)):
            return dotted(node), "name" if dotted(node) else ""
        reader = Views(self._names, self._type_of)
        if isinstance(node, cst.Subscript):
            owner = node.value
            while isinstance(owner, cst.Subscript):
                owner = owner.value
            tensor = self._type_of(node.value).tensor
            return dotted(owner), "part" if not tensor or reader.basic(node) else "copy"
        return reader.base(node)

    def _place(self, statement: Any) -> tuple[Any, Event | None]:
        """The function that a statement is of, and where it stands there; None where that is not
        known."""
        if not self._around:
            self._enter(self.module, self.module)
        function = self._around.get(statement)
        if function is None:
            return None, None
        if function not in self._flows:
            self._flows[function] = _Flow(function, self._names, self._type_of)
        return self._flows[function], self._flows[function].places.get(statement)

    def _enter(self, node: Any, function: Any) -> None:
        waiting = [(node, function)]
        while waiting:
            now, around = waiting.pop()
            self._around[now] = around
            inner = now if isinstance(now, cst.FunctionDef) else around
            if not isinstance(now, cst.BaseExpression):
                waiting += [(child, inner) for child in children(now)]


class _Flow:
    """The names of one function, or of the file outside of functions, in the order of its text."""

    def __init__(self, function: Any, names: Names, type_of: Callable[[Any], Type]) -> None:
        self._names, self._type_of = names, type_of
        self._views = Views(names, type_of)
        self._taken: dict[str, list[Event]] = {}  # names that views are taken of -> these
        self._found: dict[tuple[str, str], list[Event]] = {}
        self.places: dict[Any, Event] = {}
        self._late: set[str] = set()  # read by functions within, which run at any time
        self._at_once = called_at_once(function)
        self._path: tuple[tuple[cst.CSTNode, int], ...] = ()
        self._loops: tuple[cst.CSTNode, ...] = ()
        self._count = self._statement_at = 0
        self._outer = isinstance(function, cst.Module)
        self._forward = not self._outer and function.name.value in ("forward", "__call__")
        self._swaps: set[int] = set()  # places of x[0], x[1] = x[1], x[0]
        if not self._outer:
            for parameter in parameters(function.params):
                self._add("set", parameter, Origin("given"))
        for statement in function.body if self._outer else function.body.body:
            self._statement(statement)

    # asking

    def owned(self, at: Event, name: str, given: bool = False) -> bool:
        """Whether a name's value was made here, or given, and has no other name at a place."""
        found = self._reaching(at, name)
        if not found or not all(self._is_new(event, given) for event in found):
            return False
        last = max((e.at for e in found if surely(e, at) and e.at < at.at), default=-1)
        kept = (e for e in self._named(name, "kept") if e.at > last)
        return not any(self._before(e, at) for e in kept)

    def _is_new(self, event: Event, given: bool) -> bool:
        """Whether a name was given a tensor without another name; what modules return may be what
        they are given."""
        if event.origin.kind != "passed":
            return event.origin.kind not in (("shared",) if given else ("shared", "given"))
        names, event = event.origin.base.split(), replace(event, at=event.statement)
        return all(
            self.owned(event, each, given) and (each == event.name or not self.live(event, each))
            for each in names
        )

    def conflict(self, at: Event, name: str) -> str:
        """What of a change in place does not reach in MLX what it reaches in torch."""
        if at.at in self._swaps:
            return f"parts of `{name}` are read and written at once: clone those that are read"
        base = self._read_base(at, at, name, set())
        if base:
            return (
                f"`{name}` is a view of `{base}`, which torch changes too: "
                f"assign to the part of `{base}`, or clone it first"
            )
        for event in self._taken.get(name, ()):
            if event.name != name and self._sees(event, at, name):
                part = "what a module holds" if event.kind == "held" else f"`{event.name}`"
                return (
                    f"{part} is a view of `{name}`, which changes here: torch changes "
                    f"both; take it again behind this line, or clone it first"
                )
        return ""

    def _read_base(self, at: Event, place: Event, name: str, seen: set[Event]) -> str:
        """What is read behind `at` of which a name's value at a place is a view; "" for nothing."""
        for event in self._reaching(place, name):
            kind, base = event.origin.kind, event.origin.base
            if event in seen or kind not in ("shared", *READING) or not base:
                continue
            seen.add(event)
            if kind in READING and base != name and self.outlives(at, base, kind):
                return base
            deeper = self._read_base(at, replace(event, at=event.statement), base, seen)
            if deeper:
                return deeper
        return ""

    def _sees(self, view: Event, at: Event, base: str) -> bool:
        """Whether a view that was taken before a place is read behind it."""
        if view.kind == "held":
            return self._before(view, at) and self._same(view, at, base)
        if not self._before(view, at) or not self.live(at, view.name):
            return False
        if view not in self._reaching(at, view.name):
            return False
        between = (e for e in self._named(base, "set") if view.at < e.at < at.at)
        return not any(surely(e, at) for e in between)

    def _same(self, one: Event, other: Event, name: str) -> bool:
        """Whether a name may have one value at two places."""
        found = self._reaching(other, name)
        return not found or any(event in found for event in self._reaching(one, name))

    def outlives(self, at: Event, name: str, kind: str = "view") -> bool:
        """Whether what a name stands for is read behind a place, here or by a caller."""
        held = (e for e in self._named(name, "held") if self._before(e, at))
        if any(self._same(e, at, name) for e in held):
            return True
        if not self._named(name, "set"):
            return True  # an attribute, or a name of the outside
        given = any(e.origin.kind == "given" for e in self._reaching(at, name))
        return self.live(at, name) or (given and kind == "view" and not self._forward)

    def live(self, at: Event, name: str) -> bool:
        """Whether a name's value at a place is read later."""
        if name in self._late:
            return True
        blocks = {block for block, _ in at.path}
        sets = [*self._named(name, "set"), *self._named(name, "branched")]
        for read in self._named(name, "read"):
            if read.at > at.at:
                between = (e for e in sets if at.at < e.at < read.at and e.block not in blocks)
                if meets(read, at) and not any(surely(e, read) for e in between):
                    return True
            shared = [loop for loop in read.loops if loop in at.loops]
            if shared and (read.at < at.at or not meets(read, at)):  # in the next turn
                between = (e for e in sets if shared[-1] in e.loops and e.at < read.at)
                if not any(surely(e, read) for e in between):
                    return True
        return False

    def _reaching(self, at: Event, name: str) -> list[Event]:
        """Where the value comes from that a name has at a place."""
        found = []
        sets = self._named(name, "set")
        for event in reversed([e for e in sets if e.at < at.at]):
            if meets(event, at):
                found.append(event)
            if surely(event, at):
                break
        else:
            found += [e for e in sets if e.at > at.at and set(e.loops) & set(at.loops)]
        return found

    def _before(self, event: Event, at: Event) -> bool:
        return (event.at < at.at and meets(event, at)) or bool(set(event.loops) & set(at.loops))

    def _named(self, name: str, kind: str) -> list[Event]:
        return self._found.get((name, kind), [])

    # reading the function

    def _add(
        self, kind: str, name: str, origin: Origin = FRESH, block: cst.CSTNode | None = None
    ) -> None:
        at = self._count
        event = Event(kind, name, at, self._path, self._loops, origin, self._statement_at, block)
        if origin.kind in READING:
            self._taken.setdefault(origin.base, []).append(event)
        self._found.setdefault((name, kind), []).append(event)
        self._count += 1

    def _placed(self, node: Any) -> None:
        self._statement_at = self._count
        self.places[node] = Event("place", "", self._count, self._path, self._loops)
        self._count += 1

    def _statement(self, node: Any) -> None:
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            if node.name.value not in self._at_once:
                self._late |= {name for name in loads(node) if "." not in name}
            return
        if isinstance(node, cst.SimpleStatementLine):
            for small in node.body:
                self._small(small, node)
            return
        self._compound(node)

    def _compound(self, node: Any) -> None:
        loop = isinstance(node, (cst.For, cst.While))
        before = self._loops
        self._loops = (*before, node) if loop else before
        for head in (getattr(node, name, None) for name in ("iter", "test", "items")):
            for part in head if isinstance(head, (list, tuple)) else [head]:
                if part is not None:
                    self._reads(part)
        if isinstance(node, cst.For):
            self._bind_items(node.target, node.iter)
        for item in getattr(node, "items", ()):
            if item.asname is not None:
                self._bind(item.asname.name, SHARED)
        for i, body in enumerate(bodies(node)):
            around = self._path
            if not isinstance(node, cst.With):
                self._path = (*around, (node, i))
            self._body(body, node)
            self._path = around
        if isinstance(node, cst.If) and node.orelse is not None:
            self._branched(node)
        self._loops = before

    def _branched(self, node: Any) -> None:
        """Notes the names that both branches of an `if` set: behind it they have new values."""
        ends = [(*self._path, (node, i)) for i in range(2)]
        for name in {name for name, kind in self._found if kind == "set"}:
            sets = (*self._named(name, "set"), *self._named(name, "branched"))
            if {e.path for e in sets}.issuperset(ends):
                self._add("branched", name, block=node)

    def _body(self, body: Any, node: Any) -> None:
        for statement in body:
            if isinstance(statement, cst.BaseSmallStatement):  # `if x: y.zero_()`
                self._small(statement, node)
            else:
                self._statement(statement)

    def _small(self, node: Any, statement: Any) -> None:
        self._reads(node)
        self._placed(statement)  # what it changes has the value that it reads
        for call in calls(node):
            self._called(call)
        for found in walk(node):
            if isinstance(found, cst.Yield) and found.value is not None:
                self._keep(found.value)
            elif isinstance(found, cst.Lambda):
                self._late |= {name for name in loads(found.body) if "." not in name}
        if isinstance(node, cst.Assign):
            for target in node.targets:
                self._assigned(target.target, node.value, len(node.targets) > 1)
        elif isinstance(node, cst.AnnAssign) and node.value is not None:
            self._assigned(node.target, node.value)

    def _called(self, call: cst.Call) -> None:
        """What a call is given gets another holder."""
        if self._names.of(call.func) in _HOLDING and call.args:
            self._hold(call.args[0].value)
        elif not self._keeps_nothing(call) and not self._is_layer(call):
            for argument in call.args:
                self._keep(argument.value)

    def _reads(self, node: Any) -> None:
        value = node.value if isinstance(node, (cst.Assign, cst.AnnAssign)) else node
        targets = [t.target for t in node.targets] if isinstance(node, cst.Assign) else []
        inner = [t for target in targets for t in written(target) if not isinstance(t, cst.Name)]
        for part in (value, *inner):
            read = set(loads(part)) if part is not None else set()
            inner_read = (self._at_once[name] for name in read if name in self._at_once)
            for name in sorted(read.union(*inner_read)):
                self._add("read", name)

    def _assigned(self, target: Any, value: Any, several: bool = False) -> None:
        """`several`: the value goes to other names as well."""
        pairs = isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple)
        if pairs and len(target.elements) == len(value.elements):
            self._swapped(target, value)
            for one, other in zip(target.elements, value.elements, strict=True):
                self._assigned(one.value, other.value)
        elif isinstance(target, cst.Name):
            origin, root = self._origin(value), changed(value)
            if origin.kind == "shared" and isinstance(root, (cst.Name, cst.Attribute)):
                self._add("kept", dotted(root))
            if not isinstance(value, (cst.Name, cst.Attribute)):
                self._keep(value)
            self._add("set", target.value, SHARED if several and origin == FRESH else origin)
        elif isinstance(target, (cst.Tuple, cst.List)):
            self._bind(target, self._item(value))
        elif isinstance(target, cst.Attribute):
            self._hold(value)
        else:
            self._keep(value)

    def _hold(self, node: Any) -> None:
        """A module gets what an expression gives, or a view of it."""
        self._keep(node)
        base, kind = self._views.base(node)
        if base or isinstance(node, (cst.Name, cst.Attribute)):
            self._add("held", "it" if base else dotted(node), Origin(kind, base) if base else FRESH)

    def _swapped(self, target: Any, value: Any) -> None:
        """x[0], x[1] = x[1], x[0]: the second value is a part of x that has changed by then."""
        written: set[str] = set()
        for one, other in zip(target.elements, value.elements, strict=True):
            if self._views.base(other.value)[0] in written:
                self._swaps.add(self._statement_at)
            if isinstance(one.value, cst.Subscript):
                written.add(dotted(one.value.value))

    def _bind(self, target: Any, origin: Origin) -> None:
        if isinstance(target, (cst.Tuple, cst.List)):
            for element in target.elements:
                self._bind(element.value, origin)
        elif isinstance(target, cst.Name):
            self._add("set", target.value, origin)

    def _bind_items(self, target: Any, value: Any) -> None:
        """Binds what a loop goes through: of `zip` and `enumerate` each name to its own items."""
        parts = [e.value for e in getattr(target, "elements", ())]
        given = [a.value for a in value.args if not a.star] if isinstance(value, cst.Call) else []
        relays = dotted(value.func) if given else ""
        if relays == "zip" and len(parts) == len(given):
            for part, one in zip(parts, given, strict=True):
                self._bind_items(part, one)
        elif relays == "enumerate" and len(parts) == 2:
            self._bind(parts[0], FRESH)
            self._bind_items(parts[1], given[0])
        else:
            self._bind(target, self._item(value))

    def _keep(self, node: Any) -> None:
        """The value of an expression gets another holder."""
        if isinstance(node, (cst.Name, cst.Attribute)):
            self._add("kept", dotted(node))
        elif isinstance(node, (cst.Tuple, cst.List, cst.Set, cst.Dict)):
            for element in node.elements:
                self._keep(element.value)
        elif isinstance(node, cst.IfExp):
            self._keep(node.body)
            self._keep(node.orelse)
        elif isinstance(node, (cst.ListComp, cst.SetComp, cst.GeneratorExp)):
            self._keep(node.elt)
        elif isinstance(node, cst.DictComp):
            self._keep(node.value)

    def _keeps_nothing(self, call: cst.Call) -> bool:
        func = call.func
        full = self._names.of(func)
        if full:
            return full.partition(".")[0] in _ROOTS
        if isinstance(func, cst.Attribute) and self._type_of(func.value).tensor:
            return True
        if self._type_of(func).name in _FRESH_LAYERS:
            return True
        return isinstance(func, cst.Name) and func.value in _KEEPING_NOTHING

    def _is_layer(self, call: cst.Call) -> bool:
        return self._type_of(call.func).name.startswith("torch.nn.")

    # where values come from

    def _item(self, value: Any) -> Origin:
        """Where the parts of a value come from."""
        if isinstance(value, cst.Call) and dotted(value.func) in _RELAYING:
            items = [self._item(a.value) for a in value.args]
            read = (o for o in items if o.kind in READING)
            return next(read, SHARED if SHARED.kind in {o.kind for o in items} else FRESH)
        made = self._origin(value)
        if made.kind in READING or not self._type_of(value).tensor:
            return made if made.kind != "fresh" or isinstance(value, cst.Call) else SHARED
        name = dotted(value)
        return Origin("view", name) if name else FRESH

    def _origin(self, value: Any) -> Origin:
        value = changed(value)
        if isinstance(value, cst.IfExp):
            both = [self._origin(value.body), self._origin(value.orelse)]
            return next((o for o in both if o.kind != "fresh"), FRESH)
        if isinstance(value, cst.Name):
            return Origin("shared", value.value)
        if isinstance(value, cst.Attribute) and value.attr.value not in FIELDS:
            return SHARED if dotted(value) else FRESH
        if isinstance(value, cst.Subscript) and not self._type_of(value.value).tensor:
            return SHARED
        base, kind = self._views.base(value)
        if base:
            return Origin(kind, base)
        if isinstance(value, cst.ListComp) and isinstance(value.elt, cst.Name):
            same = dotted(value.for_in.target) == value.elt.value
            return self._item(value.for_in.iter) if same else SHARED
        return self._result(value) if isinstance(value, cst.Call) else FRESH

    def _result(self, call: cst.Call) -> Origin:
        """Where the result of a call comes from."""
        if isinstance(call.func, cst.Name) and call.func.value in _RELAYING:
            return self._item(call)
        if "dropout" in self._names.of(call.func):  # in evaluation it is what it is given
            given = dotted(call.args[0].value) if call.args else ""
            return Origin("shared", given) if given else FRESH
        return FRESH if self._keeps_nothing(call) else self._passed(call)

    def _passed(self, call: cst.Call) -> Origin:
        """Where the result of a call comes from: of a module's part from what that is given."""
        given = [dotted(a.value) for a in call.args if isinstance(a.value, cst.Name)]
        part = dotted(call.func).startswith("self.") and len(given) == len(call.args)
        return Origin("passed", " ".join(given)) if part and given else SHARED
