"""Module classes of the emitted file: one for each torch class and structure.

Instances of one torch class share a class of the file where their methods do the same, numbers
aside; the numbers that differ, in constructors and in methods, become its parameters, and so do
children that are made in different ways.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch2mlx.export.ir.name_allocator import usable
from torch2mlx.export.ir.outline import Outline
from torch2mlx.export.ir.regions import Region
from torch2mlx.export.ir.render import literal
from torch2mlx.export.structure.methods import Method
from torch2mlx.export.structure.parameter_names import free_name, torch_name

#: A number, or how a child is made, that may differ between instances: its keyword, its value.
Hole = tuple[str, Any]


#: How the part of a comprehension begins that says how often.
REPEATED = " for _ in range("


class Option(NamedTuple):
    """A keyword argument of a constructor: printed where it is not the default (`shown`), or where
    it is another in another instance of the class."""

    name: str
    value: Any
    shown: bool


@dataclass
class Construct:
    """A constructor's text in parts: strings and holes; with `maker` that of a function which makes
    the same."""

    parts: list[str | Hole | Option] = field(default_factory=list)
    maker: bool = False

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

    def key(self) -> tuple[tuple[str, ...], str]:
        """What is equal of texts that are made alike: the template, and the values of the holes."""
        return self.template(), repr(self.holes())

    def holes(self) -> list[Hole | Option]:
        """The holes in order."""
        return [p for p in self.parts if not isinstance(p, str)]

    def repeated(self) -> set[int]:
        """Which holes, by their place, a comprehension makes anew each time."""
        found: set[int] = set()
        open_brackets: list[list[int]] = [[]]
        i = 0
        for part in self.parts:
            if not isinstance(part, str):
                open_brackets[-1].append(i)
                i += 1
                continue
            if part.startswith(REPEATED):
                found |= set(open_brackets[-1])
            for sign in part:
                if sign in "([{":
                    open_brackets.append([])
                elif sign in ")]}" and len(open_brackets) > 1:
                    inner = open_brackets.pop()
                    open_brackets[-1] += inner
        return found

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
                out.append(name or shown(part[1]))
            elif part.shown or name:
                before = "" if "".join(out).endswith("(") else ", "
                out.append(f"{before}{part.name}={name or shown(part.value)}")
        return "".join(out)


def maker_of(made: Construct) -> Construct:
    """A function without arguments that makes what a constructor's text does: the class itself
    where that is enough."""
    name, brackets, rest = made.text().partition("()")
    if brackets and not rest:
        return Construct([name], maker=True)
    return Construct(["lambda: ", *made.parts], maker=True)


def _is_made(value: Any) -> bool:
    return isinstance(value, Construct) and not value.maker


def shown(value: Any) -> str:
    """The value of a hole as text."""
    return value.text() if isinstance(value, Construct) else literal(value)


@dataclass
class Instance:
    """One module of the tree: its attributes, those last that are tensors; its methods."""

    module: Any
    children: list[tuple[str, Construct]]
    tensors: list[tuple[str, Construct]]
    methods: list[tuple[str, Region, Outline]]
    buffers: tuple[str, ...] = ()
    #: Children that others of its class have, and that are None here.
    without: set[str] = field(default_factory=set)

    def leaves_out(self) -> bool:
        """Whether some call has no use for a result that others of its class have."""
        return any(region.leaves_out() for _, region, _ in self.methods)

    @property
    def attributes(self) -> list[tuple[str, Construct]]:
        """All of them."""
        return [*self.children, *self.tensors]

    def signature(self) -> Any:
        """What instances of one class have in common."""
        children = tuple(name for name, _ in self.children)
        tensors = tuple((name, made.template()) for name, made in self.tensors)
        methods = tuple((name, outline.shape()) for name, _, outline in self.methods)
        return type(self.module), children, tensors, methods, self.buffers

    def holes(self) -> list[Hole | Option]:
        """All holes of attributes, in order, then the numbers of the methods."""
        made = [hole for _, made in self.attributes for hole in made.holes()]
        return [*made, *self.numbers()]

    def numbers(self) -> list[Hole]:
        """Numbers of the methods, in order."""
        steps = (step for _, _, outline in self.methods for step in outline.steps)
        return [("size", number) for step in steps for number in step.numbers]


@dataclass(eq=False)
class ClassText:
    """A class: its instances so far, its name, which holes are parameters, and its methods."""

    name: str
    instances: list[Instance] = field(default_factory=list)
    parameters: dict[int, str] = field(default_factory=dict)
    methods: list[tuple[str, Method]] = field(default_factory=list)
    #: Parameters that are functions which make a child: it has several, and each is one of its own.
    makers: set[str] = field(default_factory=set)

    def settle(self) -> None:
        """Decides the parameters: holes that differ; equal ones share a name."""
        self._whole_children()
        columns = [tuple(h[1] for h in i.holes()) for i in self.instances]
        modules = [i.module for i in self.instances]
        first = len(columns[0]) - len(self.instances[0].numbers())
        places: dict[tuple[str, ...], list[int]] = {}
        for i, values in enumerate(zip(*columns, strict=True)):
            if len({repr(v) for v in values}) > 1:
                places.setdefault(tuple(map(repr, values)), []).append(i)
        taken: set[str] = set()
        for where in places.values():
            values = tuple(column[where[0]] for column in columns)
            usual = self.instances[0].holes()[where[0]][0]
            held = self._held() if where[-1] >= first else frozenset()
            name = free_name(torch_name(modules, values) or usual, taken | held)
            taken.add(name)
            self.parameters.update(dict.fromkeys(where, name))
            several = len(where) > 1 or where[0] in self._repeated()
            if several and any(_is_made(value) for value in values):
                self.makers.add(name)
        self.parameters = dict(sorted(self.parameters.items()))

    def _repeated(self) -> set[int]:
        """Holes of attributes that a comprehension makes more than once."""
        found, at = set(), 0
        for _, made in self.instances[0].attributes:
            found |= {at + i for i in made.repeated()}
            at += len(made.holes())
        return found

    def holes_named(self) -> dict[int, str]:
        """What stands in the place of each hole that is a parameter, in the constructor."""
        makers = self.makers
        return {i: f"{n}()" if n in makers else n for i, n in self.parameters.items()}

    def _held(self) -> frozenset[str]:
        """Names that no number may have as an attribute."""
        import mlx.nn as nn

        return frozenset((*dir(nn.Module), *(name for name, _ in self.instances[0].attributes)))

    def _whole_children(self) -> None:
        """Children that are made in different ways become parameters themselves."""
        for i, (name, _) in enumerate(self.instances[0].children):
            if len({each.children[i][1].template() for each in self.instances}) > 1:
                for each in self.instances:
                    each.children[i] = (name, Construct([(name, each.children[i][1])]))

    def optional(self) -> list[str]:
        """Children that are None in some instances."""
        names = {name for each in self.instances for name in each.without}
        return [name for name, _ in self.instances[0].children if name in names]

    def attribute_parameters(self) -> dict[int, str]:
        """Of the numbers of methods, by their place among these, those that are parameters."""
        instance = self.instances[0]
        first = len(instance.holes()) - len(instance.numbers())
        return {i - first: name for i, name in self.parameters.items() if i >= first}

    def _arguments(self) -> dict[str, int]:
        """Names of the parameters and where each is first, those last that may be left out."""
        places: dict[str, int] = {}
        for i, name in self.parameters.items():
            places.setdefault(name, i)
        names = sorted(places, key=lambda name: name in self.optional())
        return {name: places[name] for name in names}

    def arguments(self) -> list[str]:
        """The parameters, in order, as the constructor takes them."""
        left_out = self.optional()
        return [f"{name}=None" if name in left_out else name for name in self._arguments()]

    def construct(self, instance: Instance) -> Construct:
        """The call that makes one instance."""
        holes, left_out = instance.holes(), self.optional()
        made = Construct([f"{self.name}("])
        for n, (name, i) in enumerate(self._arguments().items()):
            value = holes[i][1]
            if name in self.makers:
                value = maker_of(value)
            if name in left_out:
                made.add(Option(name, value, name in self.makers or shown(value) != "None"))
            else:
                made.add(", " if n else "", (name, value))
        return made.add(")")


class ClassTable:
    """Classes in the order they are needed: those that others use come first."""

    def __init__(self, functions: Collection[str] = ()) -> None:
        self._names: set[str] = set(functions)
        self.order: list[ClassText] = []

    def file(self, instances: list[Instance]) -> dict[int, ClassText]:
        """Classes for the instances of one level of the tree, by id of the instance."""
        fresh: dict[Any, ClassText] = {}
        for instance in instances:
            signature = instance.signature()
            if signature not in fresh:
                fresh[signature] = ClassText(self._unique(type(instance.module).__name__))
            fresh[signature].instances.append(instance)
        _give_methods(fresh)
        for made in fresh.values():
            made.instances.sort(key=Instance.leaves_out)
            made.settle()
        self.order += fresh.values()
        return {id(instance): text for text in fresh.values() for instance in text.instances}

    def _unique(self, kind: str) -> str:
        name = usable(kind if kind not in ("Linear",) else f"Plain{kind}", self._names)
        self._names.add(name)
        return name


def _give_methods(fresh: dict[Any, ClassText]) -> None:
    """Gives modules whose results nobody reads the methods of those that are made as they are: the
    method that they share with others calls them all the same."""
    called = [text for text in fresh.values() if text.instances[0].methods]
    for signature, text in list(fresh.items()):
        if text in called:
            continue
        for instance in list(text.instances):
            pairs = ((other, each) for other in called for each in other.instances)
            other, like = next((p for p in pairs if _made_as(instance, p[1])), (None, None))
            if other is not None and like is not None:
                text.instances.remove(instance)
                instance.children, instance.methods = list(like.children), like.methods
                other.instances.append(instance)
        if not text.instances:
            del fresh[signature]


def _made_as(instance: Instance, other: Instance) -> bool:
    """Whether a module that is never called is made as another one is, but for children without
    weights, which only a call asks for."""
    same = type(instance.module) is type(other.module) and instance.buffers == other.buffers
    tensors = _told(instance.tensors) == _told(other.tensors)
    more = {name for name, _ in _told(other.children) - _told(instance.children)}
    held = dict(other.module.named_children())
    weightless = all(name in held and not any(held[name].state_dict()) for name in more)
    return same and tensors and weightless and _told(instance.children) <= _told(other.children)


def _told(attributes: list[tuple[str, Construct]]) -> set[tuple[str, Any]]:
    return {(name, made.key()) for name, made in attributes}
