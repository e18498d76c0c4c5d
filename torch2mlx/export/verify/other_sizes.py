"""The sizes that `verify` compares besides that of its inputs: shorter, longer, and those asked
for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.capture.sizes import Shapes, Sized, given_sizes, other_sizes
from torch2mlx.export.verify.faults import short
from torch2mlx.export.verify.judging import Judgement, judge
from torch2mlx.export.verify.refusing import refusal
from torch2mlx.export.verify.running import Answer, Case, Pair

Judge = Callable[[Pair, Case, float | None, Answer], Judgement]


def cases(
    model: Any, args: Any, kwargs: Any, shapes: Shapes, sizes: Sequence[Any] | None
) -> Iterator[Case]:
    """The inputs as they are, then in other sizes: `sizes`, or what the free lengths allow.

    Raises VerificationError for sizes that are not those of the inputs.
    """
    yield Case(args, kwargs)
    try:
        if sizes is None:
            made = other_sizes(model, args, kwargs, shapes)
        else:
            made = given_sizes(model, args, kwargs, sizes, shapes)
        for one in made:
            yield _case(one)
    except ValueError as error:
        raise VerificationError(str(error)) from error


def _case(one: Sized) -> Case:
    less = None if one.less is None else _case(one.less)
    return Case(one.args, one.kwargs, f"at {one.label}", less)


def right_at_another(pair: Pair, args: Any, kwargs: Any, shapes: Shapes) -> None:
    """Compares the first other size that both sides have.

    Raises TranslationError where they differ there, or MLX's side raises.
    """
    for one in other_sizes(pair.model, args, kwargs, shapes):
        if _right(pair, _case(one)).outputs:
            return


def right_at(pair: Pair, case: Case, shapes: Shapes, sizes: Sequence[Any]) -> tuple[str, ...]:
    """Compares the sizes that were asked for; what there is to say of each.

    Raises TranslationError where the two sides differ, or MLX's side raises, and for sizes that
    are not those of the inputs.
    """
    notes: list[str] = []
    try:
        for one in given_sizes(pair.model, case.args, case.kwargs, sizes, shapes):
            found = _right(pair, _case(one))
            unclear = f" in {len(found.outputs)} outputs; {found.unclear} are not clear"
            agrees = f"at {one.label}: agrees with torch{unclear if found.unclear else ''}"
            notes += [agrees] if found.outputs else []
            notes += found.notes
    except TranslationError:
        raise
    except ValueError as error:
        raise TranslationError(str(error)) from error
    return tuple(notes)


def _right(pair: Pair, case: Case) -> Judgement:
    """One case. Raises TranslationError where the sides differ, or MLX's side raises."""
    try:
        case, found = judged_near(pair, case, None)
    except VerificationError as error:
        raise TranslationError(f"MLX answers otherwise than torch {error}") from error
    except Exception as error:
        raise TranslationError(f"{case.label} MLX's side raises: {short(error)}") from error
    wrong = [output for output in found.outputs if output.verdict == "differs"]
    if wrong:
        told = "; ".join(str(output) for output in wrong[:3])
        raise TranslationError(f"{case.label} MLX answers otherwise than torch: {told}")
    return found


def judged_near(
    pair: Pair, case: Case, tolerance: float | None, judged: Judge = judge
) -> tuple[Case, Judgement]:
    """One case of another size; where torch raises for it, the one that changes less."""
    found = judged_at(pair, case, tolerance, judged)
    if not found.raised or case.less is None:
        return case, found
    less = judged_at(pair, case.less, tolerance, judged)
    return case.less, replace(less, notes=(*found.notes, *less.notes))


def judged_at(pair: Pair, case: Case, tolerance: float | None, judged: Judge = judge) -> Judgement:
    """One case of another size. Where torch has no answer, or the file says that it is for other
    lengths, that is a note; so is what cannot be told right from wrong at a repeated input."""
    try:
        answer = pair.torch(case)
    except Exception as error:  # whatever the model raises for such a size
        note = f"{case.label}: not compared, torch raises {short(error)}"
        return Judgement((), (note,), raised=True)
    try:
        found = judged(pair, case, tolerance, answer)
    except Exception as error:
        told = refusal(pair.module, error)
        if told is not None:
            return Judgement((), (f"{case.label}: refused, {told}",))
        if isinstance(error, VerificationError):
            raise VerificationError(f"{case.label}: {error}") from error
        raise
    clear = tuple(o for o in found.outputs if o.verdict in ("equal", "differs"))
    unclear = [f"{case.label}: {o}" for o in found.outputs if o not in clear]
    return Judgement(clear, (*found.notes, *unclear), unclear=len(unclear))
