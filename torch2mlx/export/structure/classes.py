"""Module classes of the emitted file: one for each torch class and structure.

Instances whose text agrees but for numbers in their constructors share a class; the numbers that
differ become its parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch2mlx.export.ir.name_allocator import usable
from torch2mlx.export.ir.render import literal
from torch2mlx.export.structure.methods import Method

#: A number in a constructor that may differ between instances: its keyword, its value.
Hole = tuple[str, Any]


class Option(NamedTuple):
    """A keyword argument of a constructor: printed where it is not the default (`shown`), or where
    it is another in another instance of the class."""

    name: str
    value: Any
    shown: bool


@dataclass
class Construct:
    """A constructor's text in parts: strings and holes."""

    parts: list[str | Hole | Option] = field(default_factory=list)

    def add(self, *parts: str | Hole | Option) -> Construct:
        """Appends; answers itself."""
        self.parts += parts
        return self

    def extend(self, other: Construct) -> Construct:
        """Appends another's parts."""
        self.parts += other.parts
        return self

    def template(self) -> tuple[str, ...]:
        """The text without the values of holes."""
        return tuple(p if isinstance(p, str) else f"\0{p[0]}" for p in self.parts)

    def holes(self) -> list[Hole | Option]:
        """The holes in order."""
        return [p for p in self.parts if not isinstance(p, str)]

    def text(self, names: Mapping[int, str] | None = None, start: int = 0) -> str:
        """The text; hole i is printed as names[i] where it has one."""
        out, i = [], start
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            name = (names or {}).get(i)
            i += 1
            if not isinstance(part, Option):
                out.append(name or literal(part[1]))
            elif part.shown or name:
                before = "" if "".join(out).endswith("(") else ", "
                out.append(f"{before}{part.name}={name or literal(part.value)}")
        return "".join(out)


@dataclass
class Instance:
    """One module of the tree: its class's name in torch, its attributes, its methods."""

    kind: str
    attributes: list[tuple[str, Construct]]
    methods: list[tuple[str, Method]]
    buffers: tuple[str, ...] = ()

    def signature(self) -> Any:
        """What instances of one class have in common."""
        built = tuple((name, made.template()) for name, made in self.attributes)
        return self.kind, built, tuple(self.methods), self.buffers

    def holes(self) -> list[Hole | Option]:
        """All holes, in order."""
        return [hole for _, made in self.attributes for hole in made.holes()]


@dataclass
class ClassText:
    """A class: its instances so far, its name, and which holes are parameters."""

    name: str
    instances: list[Instance] = field(default_factory=list)
    parameters: dict[int, str] = field(default_factory=dict)

    def settle(self) -> None:
        """Decides the parameters: holes that differ; equal ones share a name."""
        columns = [tuple(h[1] for h in i.holes()) for i in self.instances]
        names = [h[0] for h in self.instances[0].holes()]
        by_values: dict[tuple[Any, ...], str] = {}
        taken: set[str] = set()
        for i, name in enumerate(names):
            values = tuple(column[i] for column in columns)
            if len({repr(v) for v in values}) == 1:
                continue
            key = tuple(repr(v) for v in values)
            if key not in by_values:
                unique, n = name, 2
                while unique in taken:
                    unique, n = f"{name}_{n}", n + 1
                taken.add(unique)
                by_values[key] = unique
            self.parameters[i] = by_values[key]

    def arguments(self) -> list[str]:
        """Names of the parameters, in order."""
        return list(dict.fromkeys(self.parameters.values()))

    def construct(self, instance: Instance) -> Construct:
        """The call that makes one instance."""
        holes = instance.holes()
        made = Construct([f"{self.name}("])
        for n, name in enumerate(self.arguments()):
            index = next(i for i, parameter in self.parameters.items() if parameter == name)
            made.add(", " if n else "", (name, holes[index][1]))
        return made.add(")")


class ClassTable:
    """Classes in the order they are needed: those that others use come first."""

    def __init__(self, functions: Collection[str] = ()) -> None:
        self._by_signature: dict[Any, ClassText] = {}
        self._names: set[str] = set(functions)
        self.order: list[ClassText] = []

    def file(self, instances: list[Instance]) -> dict[int, ClassText]:
        """Classes for the instances of one level of the tree, by id of the instance."""
        found = {}
        fresh: list[ClassText] = []
        for instance in instances:
            signature = instance.signature()
            if signature not in self._by_signature:
                made = ClassText(self._unique(instance.kind))
                self._by_signature[signature] = made
                fresh.append(made)
                self.order.append(made)
            known = self._by_signature[signature]
            known.instances.append(instance)
            found[id(instance)] = known
        for made in fresh:
            made.settle()
        return found

    def _unique(self, kind: str) -> str:
        name = usable(kind if kind not in ("Linear",) else f"Plain{kind}", self._names)
        self._names.add(name)
        return name
