"""What is known of the types of a file: of its expressions, functions and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.types.kinds import UNKNOWN, Type

Env = dict[str, Type]


@dataclass
class Foreign:
    """Of names that are imported: kinds of classes, their fields, what calls give."""

    kinds: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Env] = field(default_factory=dict)
    returns: dict[str, Type] = field(default_factory=dict)
    given: dict[str, Env] = field(default_factory=dict)  # what files beside call this file's with
    passes_by: bool = False  # whether a forward passes by a module of its class in some steps


@dataclass(eq=False)
class Types:
    """The types of one file. `types` has a Type for every expression that was reached, by node."""

    names: Names
    foreign: Foreign = field(default_factory=Foreign)  # of the names imported from files beside
    answers: Mapping[str, Type] = field(default_factory=dict)  # by ids of questions
    heard: set[str] = field(default_factory=set)  # answers whose names the source has
    denied: dict[str, Type] = field(default_factory=dict)  # answers that the source contradicts
    unknown: dict[cst.CSTNode, str] = field(default_factory=dict)  # names -> function or class
    types: dict[cst.CSTNode, Type] = field(default_factory=dict)
    arguments: dict[str, Env] = field(default_factory=dict)  # of functions, by qualified name
    returns: dict[str, Type] = field(default_factory=dict)
    attributes: dict[str, Env] = field(default_factory=dict)  # of classes
    globals: Env = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)  # functions by the same keys
    _derived: dict[tuple[str, tuple[str, ...]], bool] = field(default_factory=dict)

    def told_of(self, place: str, name: str, known: Type) -> Type:
        """The type of a name of a function or class, which an answer may tell."""
        identifier = f"{place}.{name}" if place else name
        answer = self.answers.get(identifier)
        if answer is None:
            return known
        self.heard.add(identifier)
        if known.kind not in ("unknown", "none", answer.kind):
            self.denied[identifier] = known
        return answer

    def answered(self, place: str, known: Env) -> Env:
        """Types of the names of a function, class or, without a `place`, file that were told."""
        head = f"{place}." if place else ""
        names = [a.removeprefix(head) for a in self.answers if a.startswith(head)]
        return {
            name: self.answers[head + name]
            for name in names
            if "." not in name and known.get(name, UNKNOWN).kind in ("unknown", "none")
        }

    def of(self, node: Any) -> Type:
        """The type of an expression; unknown for what was never reached."""
        return self.types.get(node, UNKNOWN)

    def is_module_class(self, name: str) -> bool:
        """Whether a class of the file is an nn.Module."""
        return self.derives(name, ("torch.nn.Module", "torch.nn.Sequential"))

    def is_function_class(self, name: str) -> bool:
        """Whether a class of the file is an autograd.Function."""
        return self.derives(name, ("torch.autograd.Function",))

    def full(self, node: Any) -> str:
        """The full name of an import; empty for what is known of files beside this one."""
        beside = isinstance(node, cst.Name) and (
            node.value in self.foreign.kinds or node.value in self.foreign.returns
        )
        return "" if beside else self.names.of(node)

    def is_class(self, name: str) -> bool:
        """Whether a name is a class of the file, or of one beside it."""
        return name in self.names.classes or name in self.foreign.kinds

    def derives(self, name: str, bases: tuple[str, ...]) -> bool:
        """Whether a class has one of these among its bases, and theirs."""
        if (name, bases) not in self._derived:
            self._derived[name, bases] = self._derives(name, bases)
        return self._derived[name, bases]

    def _derives(self, name: str, bases: tuple[str, ...]) -> bool:
        if name in self.foreign.kinds:
            return bool(self.foreign.kinds[name] == "module" and "torch.nn.Module" in bases)
        node = self.names.classes.get(name)
        for base in node.bases if node is not None else ():
            full = self.names.of(base.value)
            if full in bases or (full.startswith("torch.nn.") and bases[0].startswith("torch.nn")):
                return True
            if dotted(base.value) != name and self.derives(dotted(base.value), bases):
                return True
        return False
