"""What the file's root class takes: the torch class's own arguments, and objects of settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch2mlx.export.ir.render import literal
from torch2mlx.export.printing.wrap import wrapped
from torch2mlx.export.sizes.deciding import Decision
from torch2mlx.export.sizes.fields import Field, Recipe, is_kinds

#: So many checks are statements of their own; more are rows.
_FEW = 2
_PLAIN = (bool, int, float, str, type(None), list, tuple, dict)
FROM_DICT = '''
    @classmethod
    def from_dict(cls, config):
        """The fields among those of a config.json."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})
'''


@dataclass(frozen=True)
class Head:
    """The constructor of the root class `name`. `used`: the fields that its numbers are made of;
    `fixed`: those that must be what they were."""

    name: str
    recipe: Recipe
    used: Sequence[Field]
    fixed: Sequence[Field]
    #: How many items arguments have, by their text.
    lengths: Mapping[str, int]
    #: Pairs of fields that have to be equal.
    ties: Sequence[tuple[Field, Field]] = ()
    #: Fields that have to be powers of two.
    twos: Sequence[Field] = ()
    #: Comparisons of fields, with what has to come of them.
    decided: Sequence[tuple[Decision, bool]] = ()

    def imports(self) -> list[str]:
        """What the file imports of Python's own for `load` and for settings."""
        classes = "\n".join(self.classes())
        names = [
            "dataclass",
            *["field"] * ("field(" in classes),
            *["fields"] * ("fields(" in classes),
        ]
        found = [f"from dataclasses import {', '.join(names)}"] if classes else []
        return ["import json", *found]

    @property
    def parameters(self) -> list[str]:
        """Names of what the constructor takes, in order."""
        given = self.recipe.arguments
        names = [n for n, v in given.items() if n in self.recipe.settings or isinstance(v, _PLAIN)]
        return [self.recipe.settings.get(name, name) for name in names]

    def shown(self) -> list[str]:
        """The parameters with torch's defaults."""
        known = inspect.signature(self.recipe.kind).parameters
        shown = []
        for name in self.parameters:
            default = known[name].default if name in known else inspect.Parameter.empty
            plain = default is not inspect.Parameter.empty and isinstance(default, _PLAIN)
            shown.append(f"{name}={literal(default)}" if plain else name)
        return shown

    def checks(self) -> list[str]:
        """Statements that refuse other values of what is fixed."""
        rows = [_row(f) for f in self.fixed]
        rows += [(other.name, other.text, one.text) for one, other in self.ties]
        rows += [(f.name, f.text, f"2 ** ({f.text}.bit_length() - 1)") for f in self.twos]
        rows += [(one.text, f"({one.text})", repr(outcome)) for one, outcome in self.decided]
        rows += [(text, text, literal(length)) for text, length in self.lengths.items()]
        if len(rows) > _FEW:
            listed = [f'    ("{name}", {text}, {value}),' for name, text, value in rows]
            return [
                "for name, given, made in (",
                *listed,
                "):",
                "    if given != made:",
                '        raise ValueError(f"{name} is {given!r}, translated for {made!r}")',
            ]
        lines = []
        read = {one.text for one, _ in self.ties}
        read |= {value for _, text, value in rows if text in value}
        for name, text, value in rows:
            known = f"{{{_inner(value)}!r}}" if value in read else _inner(value)
            told = f"{name} is {{{_inner(text)}!r}}, translated for {known}"
            sign = "is not" if value in ("None", "True", "False") else "!="
            lines += [f"if {text} {sign} {value}:", f'    raise ValueError(f"{told}")']
        return lines

    def loaded(self) -> Iterator[str]:
        """Statements of `load` that make the model."""
        yield '    with open(f"{folder}/config.json") as file:'
        yield '        arguments = json.load(file)["arguments"]'
        for kind, name in self.kinds().items():
            yield f'    arguments["{name}"] = {kind}(**arguments["{name}"])'
        yield f"    model = {self.name}(**arguments)"

    @property
    def settings(self) -> dict[str, str]:
        """The classes of the arguments that are settings, by the argument."""
        return {shown: kind for kind, shown in self.kinds().items()}

    def kinds(self) -> dict[str, str]:
        """The classes of settings in the file, each with the argument that it is."""
        return {
            "ModelArgs" if shown != name else type(self.recipe.arguments[name]).__name__: shown
            for name, shown in self.recipe.settings.items()
        }

    def classes(self) -> Iterator[str]:
        """The classes of settings: fields with the values that the model was made with."""
        for kind, shown in self.kinds().items():
            lines = ["@dataclass", f"class {kind}:", *self._declared(shown)]
            yield "\n".join(lines) + "\n" + (FROM_DICT if kind == "ModelArgs" else "")

    def declared(self) -> list[str]:
        """The fields of the model's settings."""
        return [line for shown in self.recipe.settings.values() for line in self._declared(shown)]

    def _declared(self, shown: str) -> list[str]:
        name = next(n for n, s in self.recipe.settings.items() if s == shown)
        return [
            line
            for key, value in self.held(name, shown).items()
            for line in wrapped(f"{key}: {_kind(value)} = {_default(value)}", 4)
        ]

    def held(self, name: str, shown: str) -> dict[str, Any]:
        """The fields of one argument of settings, with their values: those that the file reads, of
        a configuration of transformers, which has many."""
        owner = self.recipe.arguments[name]
        tied = [field for pair in self.ties for field in pair]
        tied += [*self.twos, *(field for one, _ in self.decided for field in one.fields)]
        read = {
            f.way[1] for f in (*self.used, *self.fixed, *tied) if f.settings and f.way[0] == shown
        }
        known = owner if isinstance(owner, Mapping) else vars(owner)
        if shown == name:
            return {k: v for k, v in known.items() if isinstance(v, _PLAIN)}
        return {key: value for key, value in known.items() if key in read}

    def arguments(self, recipe: Recipe) -> dict[str, Any]:
        """What the emitted class is made with for a recipe of the same class, as config.json has
        it."""
        found: dict[str, Any] = {}
        for name, value in recipe.arguments.items():
            shown = recipe.settings.get(name)
            if shown is not None:
                own = replace(self, recipe=recipe)
                found[shown] = own.held(name, shown)
            elif name in self.parameters:
                found[name] = value
        return found


def _row(field: Field) -> tuple[str, str, str]:
    """The name, the text and the value of what is checked of a field."""
    if is_kinds(field.value) and len(set(field.value)) == 1:
        return field.name, f"set({field.text})", f"{{{literal(field.value[0])}}}"
    return field.name, field.text, literal(field.value)


def lengths_of(recipe: Recipe, fields: Sequence[Field]) -> dict[str, int]:
    """How many items the lists and tuples hold that fields are in, by their text."""
    found = {}
    names = {shown: name for name, shown in recipe.settings.items()}
    for field in fields:
        value = recipe.arguments[names.get(str(field.way[0]), str(field.way[0]))]
        start = 2 if field.settings else 1
        if field.settings:
            value = (
                value[field.way[1]] if isinstance(value, Mapping) else getattr(value, field.way[1])
            )
        for depth, key in enumerate(field.way[start:], start):
            if isinstance(value, (list, tuple)):
                owner = Field(field.way[:depth], value, field.settings)
                found[f"len({owner.text})"] = len(value)
            value = value[key]
    return found


def _inner(text: str) -> str:
    return text.replace('"', "'")


def _kind(value: Any) -> str:
    return "int | None" if value is None else type(value).__name__


def _default(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"field(default_factory=lambda: {literal(value)})"
    return literal(value)
