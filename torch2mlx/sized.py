"""Driver: a translation whose numbers are expressions of what the model is made with, found by
comparing the files of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch2mlx.common.options import given as said
from torch2mlx.common.options import option
from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.lower.parameters import printing
from torch2mlx.export.sizes.aligning import Hole, alike, holes
from torch2mlx.export.sizes.expressions import Expression, Expressions
from torch2mlx.export.sizes.fields import Field, Recipe, Way, is_kinds, recipe_of
from torch2mlx.export.sizes.heads import Head, lengths_of
from torch2mlx.export.sizes.inputs import Inputs
from torch2mlx.export.sizes.lines import Statement, statements
from torch2mlx.export.sizes.probing import Prober
from torch2mlx.export.sizes.reading import Sized
from torch2mlx.export.sizes.relevance import relevant
from torch2mlx.export.sizes.rewriting import Rewriting
from torch2mlx.export.sizes.series import MARK, with_series, with_tables
from torch2mlx.export.state.generating import proved
from torch2mlx.export.verify.entry import given
from torch2mlx.export.verify.other_sizes import judged_at
from torch2mlx.export.verify.running import Case, Pair

if TYPE_CHECKING:
    from torch2mlx.translator import Translation

#: Sizes that are compared at first, and at most.
_FEWEST, _MOST = 2, 6
#: So many items of a constant are written into the files, to be compared.
_TABLE = 1024
#: So many may be of another program, before it is an error.
_SKIPPED = 3


@dataclass(frozen=True)
class _Trial:
    """A model at some sizes, and its file."""

    at: Sized
    made: Translation
    file: Sequence[Statement]


@dataclass(frozen=True)
class _File:
    """The file for all sizes; what its root class takes; a size that shows that it is right; what
    there is to say of it."""

    source: str
    head: Head
    proof: _Trial
    notes: tuple[str, ...] = ()


class _Unfit(TranslationError):
    """A number that no expression gives, or several do, with its place in the file."""

    def __init__(self, told: str, hole: Hole) -> None:
        super().__init__(told)
        self.hole = hole


def sized(
    model: Any, args: Any, kwargs: Any, make: Callable[[Any, Any, Any], Translation]
) -> Translation:
    """The translation for all sizes; `make` translates at one.

    Raises TranslationError where a number is no expression of what the model is made with, and
    where more than numbers is another at another size.
    """
    recipe, model = recipe_of(model)
    model, args, kwargs = given("translate", model, args, kwargs)
    with printing(_TABLE):
        own = make(model, args, kwargs)
        inputs = Inputs(args, kwargs)
        made = _file(recipe, Sized({}, model, args, kwargs), own, own.name, inputs, make)

    def at(one: Translation, values: Mapping[Any, Any]) -> Translation:
        held, kinds = made.head.arguments(recipe.at(values)), made.head.settings
        return one.holding(replace(one, source=made.source, arguments=held, settings=kinds))

    proof = made.proof
    _right(proof.at.model, at(proof.made, proof.at.values), proof.at.args, proof.at.kwargs)
    here = at(own, {})
    _right(model, here, args, kwargs)
    return replace(here, notes=(*here.notes, *made.notes))


def sized_language(
    model: Any, make: Callable[[Any], Any], formed: Callable[[Any, Any], Any]
) -> Any:
    """The file of a language model for all sizes; `make` makes that of one and compares it,
    `formed` that of another size in the form of the first.

    Raises TranslationError as `sized` does.
    """
    recipe, model = recipe_of(model)
    with printing(_TABLE):
        return _language(recipe, model, make, formed)


def _language(
    recipe: Recipe, model: Any, make: Callable[[Any], Any], formed: Callable[[Any, Any], Any]
) -> Any:
    import torch

    own = make(model)
    tokens = {model.main_input_name: torch.arange(10).reshape(2, 5) % 7, "use_cache": False}
    root = own.source.rpartition("class Model(")[2].partition(")")[0]
    inputs = Inputs((), tokens, follow=False)
    at = Sized({}, model, (), tokens)
    made = _file(recipe, at, own, root, inputs, lambda m, a, k: formed(m, own))
    proof = replace(made.proof.made, source=made.source)
    proved(made.proof.at.model, proof.module)
    here = replace(own, source=made.source)
    proved(model, here.module)
    return replace(here, notes=(*here.notes, *made.notes))


def _file(
    recipe: Recipe, at: Sized, own: Any, root: str, inputs: Inputs, make: Callable[..., Any]
) -> _File:
    """The file for all sizes of what `make` makes at one; `inputs` are those of other sizes."""
    prober = Prober(recipe, at.model, inputs)
    values = {field.way: field.value for field in recipe.fields()}
    begun = (replace(at, values=values), own)
    trials, (found, proof), pinned = _fitted_or_pinned(prober, make, begun)
    first, lists = trials.all[0], trials.used_lists()
    used = list(dict.fromkeys(f for e in found.values() for f in e.fields))
    used += [f for f in recipe.fields() if f.way in lists]
    fixed = relevant(recipe, prober.fields, trials.all[-1].at)
    fixed = [f for f in dict.fromkeys((*pinned, *fixed)) if f.way not in lists]
    head = Head(root, recipe, used, fixed, lengths_of(recipe, (*used, *fixed)))
    models = [trial.at.model for trial in trials.all if trial is not proof]
    told = [f for f in recipe.fields() if f.way in trials.lists]
    source = Rewriting(first.file, found, head, models, told).source()
    return _File(source, head, proof, tuple(pinned.values()))


def _fitted_or_pinned(
    prober: Prober, make: Callable[..., Any], own: tuple[Sized, Any]
) -> tuple[_Trials, tuple[dict[Hole, Expression], _Trial], dict[Field, str]]:
    """Files at several sizes, the expressions of their numbers with a size that shows that they are
    right, and the fields that stay as they are, with the reason: what numbers without an
    expression depend on.

    Raises TranslationError where none would be left to be another.
    """
    pinned: dict[Field, str] = {}
    while True:
        trials = _Trials(prober, make, own)
        try:
            return trials, _fitted(trials, prober), pinned
        except _Unfit as error:
            causes = trials.causes(error.hole)
            if not causes or len(causes) == len(prober.fields):
                raise
            prober.pin(causes)
            said = "is a constant of the file, which is checked where a model is made"
            pinned |= {f: f"{f.text} {said}: {error}" for f in causes}


def refuse_sizes(**asked: bool) -> None:
    """Raises TranslationError for an option that is not taken with sizes=True."""
    for name, wanted in asked.items():
        if wanted:
            raise TranslationError(f"{option(name)} is not taken with {said('sizes', True)}")


class _Trials:
    """Files of one program at several sizes. `lists` are the ways to lists of kinds of layers."""

    def __init__(
        self,
        prober: Prober,
        make: Callable[[Any, Any, Any], Translation],
        own: tuple[Sized, Translation],
    ) -> None:
        self._prober, self._make, self._left = prober, make, _SKIPPED
        self.lists = [f.way for f in prober.recipe.fields() if is_kinds(f.value)]
        self._own = self.trial(*own)
        self.all: list[_Trial] = []

    def used_lists(self) -> list[Way]:
        """The lists of kinds that the file is told by."""
        text = "".join(part for statement in self.all[0].file for part in statement.texts)
        return [self.lists[int(number)] for number in dict.fromkeys(MARK.findall(text))]

    def trial(self, at: Sized, made: Translation) -> _Trial:
        """A size with its file."""
        values = {f.way: f.value for f in self._prober.recipe.at(at.values).fields()}
        file = with_tables(with_series(statements(made.source), self.lists, values))
        return _Trial(at, made, file)

    def causes(self, hole: Hole) -> list[Field]:
        """The fields that a number of the file depends on: with another value of one alone it is
        another, or the program is."""
        if not _alike(self.all[0], self._own):
            return []
        usual = self._own.file[hole.statement].numbers[hole.place].text
        found = []
        for field in self._prober.fields:
            at = self._prober.alone(field)
            if at is None:
                continue
            one = self.trial(at, self._make(at.model, at.args, at.kwargs))
            same = _alike(one, self._own)
            if not same or one.file[hole.statement].numbers[hole.place].text != usual:
                found.append(field)
        return found

    def next(self) -> _Trial:
        """Another size. Raises TranslationError where there is none of the same program."""
        while True:
            at = self._prober.next()
            made = self._make(at.model, at.args, at.kwargs)
            if getattr(made, "_made", made).constants:
                raise TranslationError("constants that are too large to print have one size")
            trial = self.trial(at, made)
            if not self.all and _alike(trial, self._own):
                self.all.append(self._own)
            if not self.all or _alike(trial, self.all[0]):
                self.all.append(trial)
                return trial
            self._left -= 1
            if not self._left:
                list(alike([trial.file, self.all[0].file]))  # says where it is another


def _alike(one: _Trial, other: _Trial) -> bool:
    try:
        return bool(list(alike([one.file, other.file])))
    except TranslationError:
        return False


def _fitted(trials: _Trials, prober: Prober) -> tuple[dict[Hole, Expression], _Trial]:
    """An expression for each number that differs, and a size that shows they are right: one that
    they were not found with."""
    while len(trials.all) < _FEWEST:
        trials.next()
    while True:
        known = list(trials.all)
        found, unclear = _expressions(known, prober.fields)
        proof = trials.next()
        if unclear is None and _agrees(proof, known[0], found):
            return found, proof
        if len(trials.all) > _MOST:
            raise unclear or TranslationError("no expressions of the sizes give its numbers")


def _expressions(
    trials: Sequence[_Trial], fields: Sequence[Field]
) -> tuple[dict[Hole, Expression], _Unfit | None]:
    """An expression for each number, and what is not clear about one.

    Raises _Unfit for a number that none gives.
    """
    known = Expressions(fields, [trial.at.values for trial in trials])
    found: dict[Hole, Expression] = {}
    unclear = None
    for hole in holes([trial.file for trial in trials]):
        fitting = known.of(hole.values)
        where = trials[0].file[hole.statement]
        line = f"{'.'.join(filter(None, where.place))}: `{where.written({})}`"
        if not fitting:
            told = " and ".join(hole.values)
            raise _Unfit(
                f"in {line}: {told} at other sizes is no expression of "
                f"{', '.join(f.text for f in fields)}",
                hole,
            )
        if len(fitting) > 1:
            texts = [e.text({f: f.text for f in e.fields}) for e in fitting]
            said = f"{texts[0]} and {texts[1]} both give {', '.join(hole.values)}"
            unclear = _Unfit(f"in {line}: {said}", hole)
        found[hole] = fitting[0]
    return found, unclear


def _agrees(proof: _Trial, first: _Trial, found: Mapping[Hole, Expression]) -> bool:
    """Whether a file has the numbers that the expressions give, and else those of the first."""
    places = {(hole.statement, hole.place): e for hole, e in found.items()}
    for i, (other, one) in enumerate(alike([proof.file, first.file])):
        for j, (number, usual) in enumerate(zip(other.numbers, one.numbers, strict=True)):
            expression = places.get((i, j))
            if expression is None and number.text != usual.text:
                return False
            if expression is not None and not expression.gives(number.text, proof.at.values):
                return False
    return True


def _right(model: Any, made: Translation, args: Any, kwargs: Any) -> None:
    """Raises TranslationError where the file for all sizes answers otherwise than torch."""
    shown = ", ".join(f"{k}={v!r}" for k, v in made.arguments.items())
    case = Case(args, kwargs, f"with {shown}")
    try:
        found = judged_at(Pair(model, made.module, made.ends, made.graded), case, None)
    except ValueError as error:  # of MLX, for weights of other shapes
        raise TranslationError(f"{case.label} the file has other weights: {error}") from error
    except VerificationError as error:
        raise TranslationError(f"MLX answers otherwise than torch {error}") from error
    wrong = [o for o in found.outputs if o.verdict == "differs"]
    if wrong or not found.outputs:
        told = "; ".join(map(str, wrong[:3] or found.notes))
        raise TranslationError(f"{case.label} MLX answers otherwise than torch: {told}")
