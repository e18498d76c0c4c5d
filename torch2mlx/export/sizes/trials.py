"""The files of a model at several sizes: which are of one program, and what makes them others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.sizes.aligning import Hole, alike
from torch2mlx.export.sizes.deciding import Decision, decisions
from torch2mlx.export.sizes.fields import Field, Way, is_kinds
from torch2mlx.export.sizes.lines import Statement, statements
from torch2mlx.export.sizes.probing import Prober, is_power
from torch2mlx.export.sizes.reading import Sized
from torch2mlx.export.sizes.series import MARK, with_series, with_tables

#: So many may be of another program, before it is an error.
_OTHERS = 5
#: So many show that a program is one for powers of two.
_SHOWN = 3


class OtherProgram(TranslationError):
    """The program is another at other sizes."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A model at some sizes, and its file."""

    at: Sized
    made: Any
    file: Sequence[Statement]


class Trials:
    """Files of one program at several sizes. `lists` are the ways to lists of kinds of layers.

    `needed`: the program has to be that of the model's own size, which cannot be run.
    """

    def __init__(
        self,
        prober: Prober,
        make: Callable[[Any, Any, Any], Any],
        own: tuple[Sized, Any],
        needed: bool = False,
    ) -> None:
        self._prober, self._make, self._needed = prober, make, needed
        self.lists = [f.way for f in prober.recipe.fields() if is_kinds(f.value)]
        self._known: dict[Trial, set[Decision]] = {}
        self._alone: dict[Way, Trial | None] = {}
        self._small: Trial | None = None
        self._own = self.trial(*own)
        self._groups = [[self._own]]

    @property
    def all(self) -> list[Trial]:
        """The files of the program that most of them have."""
        if self._needed:
            return self._groups[0]
        return max(self._groups, key=len)

    @property
    def others(self) -> list[Trial]:
        """Files of other programs, but for the model's own."""
        return [t for group in self._groups for t in group if t not in (*self.all, self._own)]

    @property
    def own(self) -> bool:
        """Whether they are of the program of the model's own size."""
        return self._own in self.all

    def need_own(self) -> None:
        """From now on the program is that of the model's own size."""
        self._needed = True
        for other in self.others:
            self._prober.other(other.at.values)

    def twos(self) -> list[Field]:
        """Fields that are powers of two in this program, and are not in others."""
        return [
            field
            for field in self._prober.fields
            if field.way not in self._prober.depths
            and all(is_power(t.at.values.get(field.way)) for t in self.all)
            and sum(not is_power(t.at.values.get(field.way)) for t in self.others) >= _SHOWN
            and not any(is_power(t.at.values.get(field.way)) for t in self.others)
        ]

    def decisions(self) -> list[Decision]:
        """What the model compares at all sizes of the program."""
        found = [self._decided(trial) for trial in self.all]
        return sorted(set.intersection(*found), key=lambda one: one.text)

    def one_sided(self) -> list[tuple[Decision, bool]]:
        """Comparisons that came out alike at all sizes: the other side is not known."""
        outcomes = [(d, {d.at(t.at.values) for t in self.all}) for d in self.decisions()]
        return [(d, bool(seen.pop())) for d, seen in outcomes if len(seen) == 1]

    def split(self) -> list[tuple[Decision, bool]]:
        """A comparison that comes out otherwise at some of the sizes, with what comes of it in the
        model; nothing where there is none."""
        every = [trial for group in self._groups for trial in group]
        for one in self.decisions():
            usual = one.at(self._own.at.values)
            if usual is not None and any(one.at(t.at.values) != usual for t in every):
                return [(one, usual)]
        return []

    def _decided(self, trial: Trial) -> set[Decision]:
        if trial is self._own and self._needed:  # larger than memory
            others = [other for other in self.all if other is not trial]
            return self._decided(others[0]) if others else set()
        if trial not in self._known:
            found = decisions(self._prober.recipe, self._prober.fields, trial.at)
            self._known[trial] = found
        return self._known[trial]

    def again(self) -> None:
        """Forgets what was drawn: fields stay as they are from now on."""
        kept = [t for group in self._groups for t in group if self._prober.holds(t.at.values)]
        self._groups = [[self._own]]
        for one in kept:
            if one is not self._own:
                self._group(one)

    def used_lists(self) -> list[Way]:
        """The lists of kinds that the file is told by."""
        text = "".join(part for statement in self.all[0].file for part in statement.texts)
        return [self.lists[int(number)] for number in dict.fromkeys(MARK.findall(text))]

    def trial(self, at: Sized, made: Any) -> Trial:
        """A size with its file."""
        values = {f.way: f.value for f in self._prober.recipe.at(at.values).fields()}
        file = with_tables(with_series(statements(made.source), self.lists, values))
        return Trial(at, made, file)

    def next(self) -> None:
        """Another size.

        Raises TranslationError where there is none, OtherProgram where too many are of others.
        """
        at = self._prober.next()
        self.add(at, self._make(at.model, at.args, at.kwargs))

    def at(self, sizes: Sized) -> Trial:
        """The file at sizes that were not drawn."""
        return self.trial(sizes, self._make(sizes.model, sizes.args, sizes.kwargs))

    def add(self, at: Sized, made: Any) -> None:
        """A size with what was made of it."""
        if getattr(made, "_made", made).constants:
            raise TranslationError("constants that are too large to print have one size")
        trial = self.trial(at, made)
        group = self._group(trial)
        if group is not self.all and (self._needed or len(self.all) > 1):
            self._prober.other(at.values)
        if len(self.others) > _OTHERS:
            raise OtherProgram(_apart(self.others[0], self.all[0]))

    def _group(self, trial: Trial) -> list[Trial]:
        for group in self._groups:
            if _alike(trial, group[0]):
                group.append(trial)
                return group
        self._groups.append([trial])
        return self._groups[-1]

    def causes(self, hole: Hole | None) -> list[Field]:
        """The fields that a number of the file depends on, or its program: with another value of
        one alone it is another."""
        return [field for field in self._prober.fields if self._changes(field, hole)]

    def _changes(self, field: Field, hole: Hole | None) -> bool:
        usual = self._beside()
        if field.way not in self._alone:
            at = self._prober.alone(field, usual.at.values)
            self._alone[field.way] = None
            if at is not None:
                made = self._make(at.model, at.args, at.kwargs)
                self._alone[field.way] = self.trial(at, made)
        one = self._alone[field.way]
        if one is None:
            return False
        if not _alike(one, usual):
            return True
        if hole is None:
            return False
        texts = [t.file[hole.statement].numbers[hole.place].text for t in (one, usual)]
        return texts[0] != texts[1]

    def _beside(self) -> Trial:
        """The size that others are compared with in which one field is another: the model's own,
        or a small one, where the model may be larger than memory."""
        if self._prober.empty and self._small is None:
            self._small = next((t for t in self.all if t is not self._own), None)
        return self._small or self._own


def _apart(one: Trial, other: Trial) -> str:
    """Where two programs are not the same."""
    try:
        list(alike([one.file, other.file]))
    except TranslationError as error:
        return str(error)
    return ""


def _alike(one: Trial, other: Trial) -> bool:
    return not _apart(one, other)
