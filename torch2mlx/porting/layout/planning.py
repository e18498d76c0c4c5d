"""The layout of a file: every class is read until nothing more has to keep torch's layout."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import libcst as cst

from torch2mlx.porting.layout.layout_inference import Promote, read_method
from torch2mlx.porting.layout.module_inference import followed
from torch2mlx.porting.layout.protocols import Calling
from torch2mlx.porting.layout.queries import (
    attributes,
    compared,
    has_images,
    hides,
    method,
    parameters,
)
from torch2mlx.porting.layout.reading import File, Reading
from torch2mlx.porting.layout.tables import FLEXIBLE, RIGID
from torch2mlx.porting.layout.values import PLAIN, Immovable, Pending, Plan, Protocol, Value
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import of_kinds, walk
from torch2mlx.porting.types.known import Types

_ROUNDS = 30


def planned(module: cst.Module, names: Names, inference: Types, shown: set[str]) -> Plan:
    """What to do for channels last. `shown`: classes that other files use."""
    if not has_images(module, names) or hides(module):
        return Plan()
    planner = _Planner(module, names, inference, shown)
    for _ in range(_ROUNDS):
        if not planner.round():
            return planner.plan()
    return Plan()


class _Planner:
    def __init__(self, module: Any, names: Names, inference: Types, shown: set[str]) -> None:
        self.module, self.names, self.inference = module, names, inference
        self.run = followed(module, names, inference.is_module_class)
        self.members = self.run.members
        self.classes = [n for n in names.classes if inference.is_module_class(n)]
        told = {n for n in self.classes if names.classes[n].decorators}  # kept in some list
        self.calling = Calling(self.members.held, self.members.outer | shown | told)
        self.calling.demoted |= self.members.leaked
        self.parts: dict[tuple[str, str], Plan] = {}
        self.waiting: set[str] = set()  # classes whose protocol was asked too early
        self.asked = attributes(module)
        self._chains()
        named = of_kinds(module, cst.Attribute)
        for name in self.classes:
            node = method(names.classes[name], "forward")
            self.calling.parameters[name] = parameters(node) if node is not None else []
            self._private(name, named)
            if node is None and "" not in self.members.held.get(name, {}):
                self.calling.outer.add(name)
            several = name in self.run.several
            if (
                several
                or self._derives(name)
                or (node is not None and node.params.star_kwarg is not None)
            ):
                self._keep(name)

    def _private(self, name: str, named: list[cst.Attribute]) -> None:
        """Methods that are named with an underscore, and called by their own class alone."""
        inside = {n for n in walk(self.names.classes[name].body)}
        for node in self.names.classes[name].body.body:
            own = isinstance(node, cst.FunctionDef) and re.match("_[^_]", node.name.value)
            if not own or node.decorators or node.params.star_kwarg is not None:
                continue
            uses = [n for n in named if n.attr.value == node.name.value]
            if all(n in inside and dotted(n.value) == "self" for n in uses):
                key = f"{name}.{node.name.value}"
                self.calling.private.add(key)
                self.calling.parameters[key] = parameters(node)

    def _inner(self, name: str, method: str) -> str:
        """The key of a method's protocol; "" of what is called from where it is not seen."""
        if method == "forward":
            return "" if name in self.calling.outer else name
        key = f"{name}.{method}"
        return key if key in self.calling.private else ""

    def _derives(self, name: str) -> bool:
        """Whether a class has a base, or is one, that may hold modules too."""
        known = ("torch.nn.Module", "torch.nn.Sequential")
        bases = [b.value for b in self.names.classes[name].bases]
        unknown = any(self.names.of(b) not in known and dotted(b) != "object" for b in bases)
        others = (b.value for n in self.classes for b in self.names.classes[n].bases)
        return unknown or any(dotted(b) == name for b in others)

    def _keep(self, name: str) -> None:
        """A class keeps torch's layout, and all that it holds."""
        self.calling.outer.add(name)
        self.calling.private = {k for k in self.calling.private if k.partition(".")[0] != name}
        for member in self.members.held.get(name, {}).values():
            self.calling.demote(member)

    def _chains(self) -> None:
        self.calling.outer_chains = set(self.members.outer_chains)

    def _state(self) -> tuple[Any, ...]:
        c, b = self.calling, self.members
        counts = (len(c.demoted), len(c.outer), len(c.opened), len(c.outer_chains))
        return (*counts, dict(c.protocols), len(b.leaked), len(b.outer), len(b.outer_chains))

    def round(self) -> bool:
        """Reads everything once; whether something was decided."""
        before = self._state()
        self.parts, self.waiting = {}, set()
        for name in self.classes:
            self._read_class(name)
        for chain in self.members.outer_chains.values():
            with suppress(Pending):
                self.calling.start(chain)
        for name in [n for n in self.calling.outer if "" in self.members.held.get(n, {})]:
            self.calling.demote(self.members.held[name][""])
        if not self.waiting:  # then every method was read to its end
            self._unseen()
        self.calling.demoted |= self.members.leaked
        self.calling.outer |= self.members.outer
        self.calling.outer_chains |= set(self.members.outer_chains)
        if self._state() != before:
            return True
        self.calling.outer |= self.waiting  # classes and methods that need one another
        self.calling.private -= self.waiting
        return bool(self.waiting)

    def _unseen(self) -> None:
        """Attributes that were read where it was not followed."""
        for node, name in self.asked:
            if node not in self.members.understood:
                for held in self.members.held.values():
                    if name in held:
                        self.calling.demote(held[name])

    def _read_class(self, name: str) -> None:
        methods = [
            n
            for n in self.names.classes[name].body.body
            if isinstance(n, cst.FunctionDef) and n.name.value != "__init__"
        ]
        for node in methods:
            key = self._inner(name, node.name.value)
            try:
                self.parts[name, node.name.value] = self._read_method(name, node, key)
            except Pending as found:
                self.waiting.add(str(found))
            except (Immovable, RecursionError):
                self._keep(name)
                return

    def _reading(self, name: str, promoted: set[str]) -> Reading:
        return Reading(File(self.names, self.inference, self.calling, self.run), name, promoted)

    def _read_method(self, name: str, node: cst.FunctionDef, key: str) -> Plan:
        names = parameters(node)
        promoted: set[str] = set()
        wanted: dict[str, int] = {}
        plain, known = not key, False
        for _ in range(_ROUNDS):
            reading = self._reading(name, promoted - set(names))
            reading.answers_plain = plain
            # first it is asked which arguments are images; then the others surely are none
            given = {n: Value(origins=frozenset() if known else frozenset([n])) for n in names}
            given |= {n: Value("last", rank=rank) for n, rank in wanted.items()}
            try:
                read_method(reading, node, given)
            except Promote as found:
                if str(found) in names:
                    wanted.setdefault(str(found), 0)
                promoted |= reading.promoted
                continue
            more = {n: rank for n, rank in reading.wanted.items() if n not in wanted}
            wanted |= more
            if not known:
                known, first = not more, reading
                continue
            if key and not plain and not _agree(reading.answers):
                plain = True
                continue
            alike = bool(key) and not wanted and self._alike(key, node, first)
            return self._result(key, node, reading, wanted, (bool(key) and not plain, alike))
        raise Immovable

    def _result(
        self,
        key: str,
        node: Any,
        reading: Reading,
        wanted: dict[str, int],
        ways: tuple[bool, bool],
    ) -> Plan:
        answers, alike = ways
        if key:
            answer = reading.answers[0][1] if answers and reading.answers else PLAIN
            answer = Value(answer.kind, answer.items, answer.rank)
            self.calling.protocols[key] = Protocol(frozenset(wanted), answer, alike)
        elif wanted:
            defaults = {p.name.value for p in node.params.params if p.default is not None}
            if defaults & set(wanted) or node.params.posonly_params:
                raise Immovable
            turned = {n: wanted[n] for n in parameters(node) if n in wanted}
            reading.plan.heads[node] = turned
        return reading.plan

    def _alike(self, name: str, node: Any, reading: Reading) -> bool:
        """Whether a class treats every item of its argument alike."""
        names = self.calling.parameters.get(name, [])
        if len(names) != 1 or "." in name or not reading.answers or reading.plan != Plan():
            return False
        held = (part for m in self.members.held.get(name, {}).values() for part in m.walk())
        if any(part.name in FLEXIBLE for part in held):
            return False  # they are made for one layout
        if any(value.origins != frozenset(names) for _, value in reading.answers):
            return False
        other = self._reading(name, set())
        other.answers_plain = False
        try:
            read_method(other, node, {names[0]: Value("last")})
        except (Immovable, Promote):
            return False
        return other.plan == Plan() and all(value.last for _, value in other.answers)

    def plan(self) -> Plan:
        """All that was decided."""
        made, calling = Plan(), self.calling
        for part in self.parts.values():
            made.wraps |= part.wraps
            made.ranks |= part.ranks
            made.axes |= part.axes
            made.dropped |= part.dropped
            made.spatial |= part.spatial
            made.unpacked |= part.unpacked
            made.heads |= part.heads
            made.sites |= part.sites
        for site, name in self.members.visited.items():
            opened = name in ("Flatten", "Unflatten") and site in calling.opened
            if (name in RIGID or name in FLEXIBLE or opened) and site not in calling.demoted:
                made.sites.add(site)
        if made.sites:
            made.sites |= compared(self.module, self.names)
        for site, chain in self.members.outer_chains.items():
            if any(part.site in made.sites for part in chain.walk()):
                begins = calling.start(chain)
                made.chains[site] = (begins == "last", calling.flow(chain, begins) == "last")
        inner = {n: p for n, p in calling.protocols.items() if n not in calling.outer}
        made.classes = {n: p for n, p in inner.items() if p.last and "." not in n}
        return made


def _agree(answers: list[tuple[Any, Value]]) -> bool:
    kinds = {(v.kind, tuple(i.kind for i in v.items)) for _, v in answers}
    return len(kinds) <= 1
