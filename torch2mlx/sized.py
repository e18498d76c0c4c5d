"""Driver: a translation whose numbers are expressions of what the model is made with, found by
comparing the files of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch2mlx.common.options import given as said
from torch2mlx.common.options import option
from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.capture.empty_weights import is_empty
from torch2mlx.export.lower.parameters import printing
from torch2mlx.export.sizes.deciding import Decision
from torch2mlx.export.sizes.fields import Field, Recipe, recipe_of
from torch2mlx.export.sizes.fitting import Fitted, Still, Unfit, fitted
from torch2mlx.export.sizes.heads import Head, lengths_of
from torch2mlx.export.sizes.inputs import Inputs
from torch2mlx.export.sizes.probing import Prober
from torch2mlx.export.sizes.reading import Sized
from torch2mlx.export.sizes.relevance import relevant
from torch2mlx.export.sizes.rewriting import Rewriting
from torch2mlx.export.sizes.trials import OtherProgram, Trial, Trials
from torch2mlx.export.state.generating import proved
from torch2mlx.export.structure.constructors import numbers_told
from torch2mlx.export.verify.entry import given
from torch2mlx.export.verify.other_sizes import judged_at
from torch2mlx.export.verify.running import Case, Pair

if TYPE_CHECKING:
    from torch2mlx.translator import Translation

#: What is noted of a model without values.
_UNTRIED = (
    "the model had shapes alone: the file was compared with torch at other sizes, and its numbers "
    "with those of this one"
)
#: So many items of a constant are written into the files, to be compared.
_TABLE = 1024


@dataclass(frozen=True)
class _File:
    """The file for all sizes; what its root class takes; a size that shows that it is right; what
    there is to say of it."""

    source: str
    head: Head
    proof: Trial
    notes: tuple[str, ...] = ()


class _Wrong(TranslationError):
    """The file answers otherwise at sizes at which torch's program is another."""


def sized(
    model: Any, args: Any, kwargs: Any, make: Callable[[Any, Any, Any], Translation]
) -> Translation:
    """The translation for all sizes; `make` translates at one.

    Raises TranslationError where a number is no expression of what the model is made with, and
    where more than numbers is another at another size.
    """
    recipe, model = recipe_of(model)
    model, args, kwargs = given("translate", model, args, kwargs)
    with printing(_TABLE), numbers_told():
        own = make(model, args, kwargs)
        prober = Prober(recipe, model, Inputs(args, kwargs))
        begun = (_begun(recipe, model, args, kwargs), own)
        trials = Trials(prober, make, begun, needed=is_empty(model))

        def at(one: Translation, file: _File, values: Mapping[Any, Any]) -> Translation:
            held, kinds = file.head.arguments(recipe.at(values)), file.head.settings
            return one.holding(replace(one, source=file.source, arguments=held, settings=kinds))

        def right(trial: Trial, file: _File) -> None:
            given = trial.at.args, trial.at.kwargs
            _right(trial.at.model, at(trial.made, file, trial.at.values), *given)

        made = _file(prober, trials, own.name, right)
    here = at(own, made, {})
    if is_empty(model):
        here.built(hollow=True)
        return here.noted((*made.notes, _UNTRIED))
    _right(model, here, args, kwargs)
    return replace(here, notes=(*here.notes, *made.notes))


def _begun(recipe: Recipe, model: Any, args: Any, kwargs: Any) -> Sized:
    """The model at its own size."""
    return Sized({field.way: field.value for field in recipe.fields()}, model, args, kwargs)


def sized_language(
    model: Any, make: Callable[[Any], Any], formed: Callable[[Any, Any], Any]
) -> Any:
    """The file of a language model for all sizes; `make` makes that of one and compares it,
    `formed` that of another size in the form of the first.

    Raises TranslationError as `sized` does.
    """
    recipe, model = recipe_of(model)
    with printing(_TABLE), numbers_told():
        return _language(recipe, model, make, formed)


def _language(
    recipe: Recipe, model: Any, make: Callable[[Any], Any], formed: Callable[[Any, Any], Any]
) -> Any:
    import torch

    tokens = {model.main_input_name: torch.arange(10).reshape(2, 5) % 7, "use_cache": False}
    prober = Prober(recipe, model, Inputs((), tokens, follow=False))
    empty = is_empty(model)
    first = prober.next() if empty else _begun(recipe, model, (), tokens)
    like = make(first.model)
    own = formed(model, like) if empty else like
    root = own.source.rpartition("class Model(")[2].partition(")")[0]
    begun = (_begun(recipe, model, (), tokens), own)
    trials = Trials(prober, lambda m, a, k: formed(m, like), begun, needed=empty)
    if empty:
        trials.add(first, like)

    def right(trial: Trial, file: _File) -> None:
        proved(trial.at.model, replace(trial.made, source=file.source).module)

    made = _file(prober, trials, root, right)
    here = replace(own, source=made.source)
    if empty:
        return replace(_loading(here), notes=(*here.notes, *made.notes, _UNTRIED))
    proved(model, here.module)
    return replace(here, notes=(*here.notes, *made.notes))


def _loading(made: Any) -> Any:
    """A language model whose file takes its weights. Raises TranslationError where it does not."""
    try:
        made.module  # noqa: B018
    except ValueError as error:  # of MLX, for weights of other shapes
        raise TranslationError(f"the file has other weights: {error}") from error
    return made


def _file(
    prober: Prober, trials: Trials, root: str, right: Callable[[Trial, _File], None]
) -> _File:
    """The file for all sizes. `right` raises TranslationError where it answers otherwise than torch
    at a size.

    Fields on which a number without an expression depends, or the program, stay as they are.
    """
    pinned: dict[Field, str] = {}
    while True:
        try:
            return _tried(prober, trials, root, right, pinned)
        except (Unfit, Still, OtherProgram, _Wrong) as error:
            if not trials.own:
                trials.need_own()
                continue
            twos = trials.twos()
            split = [] if twos else trials.split()
            prober.twos += twos
            prober.decided += split
            causes = [] if twos or split else _causes(prober, trials, error)
            prober.pin(causes)
            trials.again()
            said = "is a constant of the file, which is checked where a model is made"
            pinned |= {f: f"{f.text} {said}: {error}" for f in causes}


def _causes(prober: Prober, trials: Trials, error: TranslationError) -> list[Field]:
    """The fields that something that has no expression depends on; raises the error again where
    none would be left to be another."""
    if isinstance(error, Still):
        causes = list(error.fields)
    else:
        causes = trials.causes(getattr(error, "hole", None))
    if not causes or len(causes) == len(prober.fields):
        raise error
    return causes


def _tried(
    prober: Prober,
    trials: Trials,
    root: str,
    right: Callable[[Trial, _File], None],
    pinned: Mapping[Field, str],
) -> _File:
    """The file, compared at a size that it was not found with, at those of other programs, and on
    the other side of what the model compares."""
    fit = fitted(trials, prober)
    fixed = relevant(prober.recipe, prober.fields, fit.proof.at)
    made = _written(prober, trials, root, fit, (*pinned, *fixed))
    for other in trials.others:
        try:
            right(other, made)
        except TranslationError as error:
            raise _Wrong(f"the program is another at another size: {error}") from error
    right(made.proof, made)
    decided = [*prober.decided]
    for decision, outcome in trials.one_sided():
        if (decision, outcome) not in decided and not _either(
            prober.where(decision, not outcome), trials, made, right
        ):
            decided.append((decision, outcome))
    made = _written(prober, trials, root, fit, (*pinned, *fixed), decided)
    return replace(made, notes=tuple(pinned.values()))


def _either(
    other: Sized | None, trials: Trials, made: _File, right: Callable[[Trial, _File], None]
) -> bool:
    """Whether the file is right on the other side of a comparison too."""
    if other is None:
        return False
    try:
        right(trials.at(other), made)
    except TranslationError:
        return False
    return True


def _written(
    prober: Prober,
    trials: Trials,
    root: str,
    fit: Fitted,
    fixed: Iterable[Field],
    decided: Sequence[tuple[Decision, bool]] = (),
) -> _File:
    """The file, not compared."""
    recipe, first, lists = prober.recipe, trials.all[0], trials.used_lists()
    used = list(dict.fromkeys(f for e in fit.found.values() for f in e.fields))
    used += [f for f in recipe.fields() if f.way in lists]
    left = list({f.way: f for f in fixed if f.way not in lists}.values())
    lengths = lengths_of(recipe, (*used, *left))
    head = Head(root, recipe, used, left, lengths, fit.ties, prober.twos, decided)
    models = [trial.at.model for trial in trials.all if trial is not fit.proof]
    told = [f for f in recipe.fields() if f.way in trials.lists]
    source = Rewriting(first.file, fit.found, head, models, told).source()
    return _File(source, head, fit.proof)


def refuse_sizes(**asked: bool) -> None:
    """Raises TranslationError for an option that is not taken with sizes=True."""
    for name, wanted in asked.items():
        if wanted:
            raise TranslationError(f"{option(name)} is not taken with {said('sizes', True)}")


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
