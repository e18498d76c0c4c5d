"""The file for all sizes: numbers become what the constructor is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.printing.wrap import wrapped
from torch2mlx.export.sizes.aligning import Hole
from torch2mlx.export.sizes.expressions import Expression
from torch2mlx.export.sizes.fields import Field
from torch2mlx.export.sizes.heads import Head
from torch2mlx.export.sizes.lines import NUMBER, Statement
from torch2mlx.export.sizes.series import MARK
from torch2mlx.export.structure.parameter_names import free_name

_INIT = "__init__"
_SUPER = "super().__init__()"


@dataclass
class _Class:
    """What a class of the file is made with: `needs` are arguments of the model, in order; `own`
    its other arguments; `attributes` the numbers that its methods read, by expression."""

    name: str
    needs: dict[str, str] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, Expression]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    has_init: bool = False
    #: Whether it is made of the root class: it holds what that takes.
    derived: bool = False

    def names(self, expression: Expression) -> dict[Field, str]:
        """The texts of an expression's fields in the constructor."""
        return {f: self.needs[f.way[0]] + f.text[len(str(f.way[0])) :] for f in expression.fields}

    def text(self, expression: Expression) -> str:
        """An expression in the constructor."""
        return expression.text(self.names(expression))


class Rewriting:
    """One file, its numbers that have an expression, and what its root class takes."""

    def __init__(
        self,
        file: Sequence[Statement],
        found: Mapping[Hole, Expression],
        head: Head,
        models: Sequence[Any],
        lists: Sequence[Field] = (),
    ) -> None:
        self._file, self._head, self._models = file, head, models
        self._lists = [Expression("{0}", (one,), ()) for one in lists]
        self._found: dict[int, dict[int, Expression]] = {}
        for hole, expression in found.items():
            self._found.setdefault(hole.statement, {})[hole.place] = expression
        names = [s.place[0] for s in file if s.place[0]]
        self._classes = {name: _Class(name) for name in dict.fromkeys(names)}
        self._calls = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, self._classes))})\((\)?)")
        whole = any(s.texts[0].startswith("class Model(") for s in file)
        self._standard = [] if whole else head.imports()
        self._whole = whole
        starts = ("class ", "def ")
        self._first = next(i for i, s in enumerate(file) if s.texts[0].startswith(starts))
        self._read_classes()
        self._spread()
        #: Functions of the file that read settings, with what they take of them.
        self._functions: dict[str, list[str]] = {}
        for i, statement in enumerate(file):
            kind, function = statement.place
            if not kind and function and any(c.derived for c in self._classes.values()):
                read = {f.way[0] for e in self._found.get(i, {}).values() for f in e.fields}
                known = self._functions.get(function, [])
                wanted = [p for p in head.parameters if p in read or p in known]
                self._functions.update({function: wanted} if wanted else {})
            for expression in (*self._found.get(i, {}).values(), *self._told(statement)):
                self._attribute(statement, expression, i)

    def _told(self, statement: Statement) -> list[Expression]:
        """The lists of settings that a statement reads."""
        return [self._lists[int(n)] for text in statement.texts for n in MARK.findall(text)]

    def source(self) -> str:
        """The file."""
        blocks = [block for i, s in enumerate(self._file) for block in self._statement(i, s)]
        return "\n".join([self._file[0].raw, *blocks]) + "\n"

    def _read_classes(self) -> None:
        import mlx.nn as nn

        known = set(dir(nn.Module))
        for statement in self._file:
            made = self._classes.get(statement.place[0])
            if made is None:
                continue
            text = statement.written({})
            made.derived |= text.startswith(f"class {made.name}({self._head.name})")
            made.taken |= {*known, *re.findall(r"self\.(\w+) = ", text), statement.place[1]}
            if text.startswith(f"def {_INIT}("):
                made.has_init = True
                inner = text[len(f"def {_INIT}(self") : text.rindex(")")]
                made.own = tuple(part.strip() for part in inner.split(",") if part.strip())

    def _spread(self) -> None:
        """What classes need, their own numbers and those of the classes that they make."""
        wanted: dict[str, set[str]] = {name: set() for name in self._classes}
        makes: dict[str, set[str]] = {name: set() for name in self._classes}
        for i, statement in enumerate(self._file):
            name = statement.place[0]
            if name:
                held = [*self._found.get(i, {}).values(), *self._told(statement)]
                wanted[name] |= {f.way[0] for e in held for f in e.fields}
                calls = self._calls.findall(statement.written({}))
                makes[name] |= {called for called, _ in calls if called != name}
        for _ in self._classes:
            for name, inner in makes.items():
                wanted[name] |= {w for called in inner for w in wanted[called]}
        wanted[self._head.name] = set(self._head.parameters)
        for made in self._classes.values():
            plain = {text.partition("=")[0] for text in made.own}
            order = [p for p in self._head.parameters if p in wanted[made.name]]
            for parameter in order:
                taken = plain | set(made.needs.values())
                if made.derived:
                    made.needs[parameter] = f"self.{parameter}"
                    continue
                made.needs[parameter] = free_name(
                    f"model_{parameter}" if parameter in plain else parameter, taken
                )

    def _attribute(self, statement: Statement, expression: Expression, index: int) -> None:
        """Names the attribute for a number of a method."""
        kind, method = statement.place
        if not kind or method == _INIT or self._classes[kind].derived:
            return
        made = self._classes[kind]
        if _key(expression) in made.attributes:
            return
        name = free_name(self._named(kind, expression, statement, index), made.taken)
        made.taken.add(name)
        made.attributes[_key(expression)] = (name, expression)

    def _named(self, kind: str, e: Expression, statement: Statement, index: int) -> str:
        """What torch's module calls a number; else the field; else the keyword it is given by."""
        found = _attribute_of(self._models, kind, e.values) if e.values else ""
        if found or e.form == "{0}":
            return found or e.fields[0].name
        for place, other in self._found.get(index, {}).items():
            keyword = re.search(r"(\w+)=$", statement.texts[place])
            if other is e and keyword:
                return keyword.group(1)
        usual = {"[": "frequencies", "** -0.5": "scale", "// 2": "half"}
        return next((name for part, name in usual.items() if part in e.form), "size")

    def _statement(self, i: int, statement: Statement) -> Iterator[str]:
        """The lines of one statement, and those that come with it."""
        if i == 0:
            return
        made = self._classes.get(statement.place[0])
        text = statement.written({})
        yield from [""] * statement.blank
        if i == self._first:
            yield from self._settings()
        special = self._special(statement, text, made)
        yield from self._written(i, statement, made) if special is None else special
        if made is not None and text.startswith("class ") and not made.has_init:
            yield from self._constructor(made)

    def _special(
        self, statement: Statement, text: str, made: _Class | None
    ) -> Iterable[str] | None:
        """The lines for statements that are others in the file for all sizes; None for the rest."""
        if text.startswith(("import ", "from ")):
            return self._imports(text)
        if made is None:
            load = (statement.place[1], text) == ("load", f"model = {self._head.name}()")
            return self._head.loaded() if load else None
        if made.derived:
            given = ", ".join(self._head.parameters)
            return [f"        super().__init__({given})"] if text == _SUPER else None
        if (made.name, text) == ("ModelArgs", "model_type: str"):
            return [statement.raw, *self._head.declared()]
        if text.startswith(f"def {_INIT}("):
            return self._signature(made)
        if text == _SUPER and statement.place[1] == _INIT:
            return [f"        {_SUPER}", *_assigned(made)]
        return None

    def _imports(self, text: str) -> Iterator[str]:
        """An import, and before the first what `load` and settings need."""
        if text == "from dataclasses import dataclass" and not self._standard:
            names = ["dataclass", *["field"] * any("field(" in d for d in self._head.declared())]
            yield f"from dataclasses import {', '.join(names)}"
            return
        if self._standard:
            more = [*self._standard, *[text] * (text == "import math")]
            yield from sorted(more, key=lambda line: (line.startswith("from"), line))
            self._standard = []
            if text == "import math":
                return
            yield ""
        yield text

    def _settings(self) -> Iterator[str]:
        """The classes of settings, before the first of the file."""
        for text in [] if self._whole else self._head.classes():
            yield from text.rstrip("\n").split("\n")
            yield from ("", "")

    def _signature(self, made: _Class) -> list[str]:
        if made.name == self._head.name:
            return [*wrapped(f"def {_INIT}(self, {', '.join(self._head.shown())}):", 4)] + [
                line for text in self._head.checks() for line in [f"        {text}"]
            ]
        arguments = "".join(f", {name}" for name in (*made.needs.values(), *made.own))
        return wrapped(f"def {_INIT}(self{arguments}):", 4)

    def _constructor(self, made: _Class) -> Iterator[str]:
        """A constructor for a class that had none."""
        if made.needs:
            yield from self._signature(made)
            yield f"        {_SUPER}"
            yield from _assigned(made)

    def _values(self, i: int, statement: Statement, made: _Class | None) -> dict[int, str]:
        """What stands in the place of numbers."""
        values: dict[int, str] = {}
        for place, expression in self._found.get(i, {}).items():
            if made is None and self._functions.get(statement.place[1]) is None:
                raise TranslationError(f"a function has a number of the sizes: {statement.raw}")
            if made is None or statement.place[1] == _INIT or made.derived:
                names = {f: f.text for f in expression.fields}
                text = expression.text(names) if made is None else made.text(expression)
                values[place] = text if _alone(statement, place) else _factor(expression, text)
            else:
                values[place] = f"self.{made.attributes[_key(expression)][0]}"
        return values

    def _written(self, i: int, statement: Statement, made: _Class | None) -> list[str]:
        values = self._values(i, statement, made)
        if any(statement.numbers[place].quoted for place in values):
            return _quoted(statement, values)
        before = statement.written({})
        text = statement.written(values)
        if made is not None:
            inside = statement.place[1] == _INIT or (made.derived and statement.indent > 0)
            text = MARK.sub(lambda m: self._list(m, made, inside), text)
            text = self._calls.sub(lambda m: self._call(m, made), text) if inside else text
        text = self._with_functions(text, made)
        if text == before:
            return statement.raw.split("\n")
        return wrapped(text, statement.indent)

    def _with_functions(self, text: str, made: _Class | None) -> str:
        """Functions that read the settings take them, where the model itself calls them."""
        for name, parameters in self._functions.items():
            given = ", ".join(parameters)
            if made is None and text.startswith(f"def {name}("):
                text = text.replace(f"{name}(", f"{name}({given}, ", 1)
            elif made is not None and made.derived:
                held = ", ".join(f"self.{parameter}" for parameter in parameters)
                text = re.sub(rf"(?<![\w.]){name}\(", f"{name}({held}, ", text)
        return text

    def _list(self, match: re.Match[str], made: _Class, inside: bool) -> str:
        """A list of the settings; `inside` the constructor."""
        expression = self._lists[int(match.group(1))]
        return made.text(expression) if inside else f"self.{made.attributes[_key(expression)][0]}"

    def _call(self, match: re.Match[str], made: _Class) -> str:
        """The call of a class, with what it needs."""
        name, end = match.group(1), match.group(2)
        given = ", ".join(made.needs[parameter] for parameter in self._classes[name].needs)
        comma = ", " if given and not end else ""
        return f"{name}({given}{comma}{end}"


def _key(expression: Expression) -> str:
    return expression.form + repr([f.way for f in expression.fields])


def _assigned(made: _Class) -> Iterator[str]:
    for name, expression in made.attributes.values():
        yield from wrapped(f"self.{name} = {made.text(expression)}", 8)


def _alone(statement: Statement, place: int) -> bool:
    """Whether a number is an argument or an item, and no part of an expression."""
    before, after = statement.texts[place], statement.texts[place + 1]
    return bool(re.search(r"[(\[{,=]\s*$", before)) and bool(re.match(r"\s*[)\]},]|$", after))


def _factor(expression: Expression, text: str) -> str:
    return text if expression.bare else f"({text})"


def _quoted(statement: Statement, values: Mapping[int, str]) -> list[str]:
    """A statement of which a string says a number, in its own lines."""
    rows, place = [], 0
    for row in statement.raw.split("\n"):
        made, at, said = "", 0, False
        for match in NUMBER.finditer(row):
            number = statement.numbers[place]
            text = values.get(place, number.text)
            if number.quoted and place in values:
                text, said = f"{{{text}}}", True
            made += row[at : match.start()] + text
            at, place = match.end(), place + 1
        made += row[at:]
        rows.append(re.sub(r'(^\s*|\()"', r'\1f"', made, count=1) if said else made)
    return rows


def _attribute_of(models: Sequence[Any], kind: str, values: Sequence[Any]) -> str:
    """The attribute of a class's modules that has these values in the models."""
    modules = [
        next((m for m in model.modules() if type(m).__name__ == kind), None) for model in models
    ]
    if None in modules:
        return ""
    for name in vars(modules[0]):
        held = [vars(module).get(name) for module in modules]
        if all(type(h) in (int, float) and h == v for h, v in zip(held, values, strict=True)):
            return name.strip("_")
    return ""
