"""Ways to trace a model, tried in turn: what all lengths free is refused, or turns out wrong, may
be right with fewer of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch2mlx.errors import Code, ExportError, TranslationError, UnsupportedOperatorError
from torch2mlx.export.capture.failures import untraceable
from torch2mlx.export.capture.freedom import Way
from torch2mlx.export.capture.kept_lengths import NumbersAsked

T = TypeVar("T")


def attempted(
    make: Callable[[Way], T], ways: Sequence[Way], model: Any
) -> tuple[T, tuple[str, ...]]:
    """The first that can be made, with what there is to note of those before it. A length that is
    the key of a dict, as in functools.lru_cache, is known to the strict tracer alone, which is then
    asked next.

    Raises the first refusal where all ways are refused, and
    ExportError, with the line and torch's words, where torch.export takes none.
    """
    said: list[str] = []
    problems: list[Exception] = []
    refusal: TranslationError | None = None
    waiting = list(ways)
    while waiting:
        way = waiting.pop(0)
        try:
            return _freest(make, way), _notes(said, way)
        except ExportError as problem:
            said.append(f"{way}: {problem}")
            problems.append(_cause(problem))
            if way.dynamic and not way.strict and _hashes_a_length(problems[-1]):
                waiting.insert(0, replace(way, strict=True))
        except TranslationError as problem:
            refusal = refusal or problem
            said.append(f"{way}: {_short(problem)}")
            if problem.settled or _lacking(problem):
                break
    if refusal is not None:
        raise refusal
    raise untraceable(model, problems)


def _freest(make: Callable[[Way], T], way: Way) -> T:
    """What is made with lengths that stay lengths where numbers are made of them; where that cannot
    be traced, or turns out wrong, what is made without."""
    try:
        return make(way)
    except NumbersAsked as asked:
        places = asked.places
    try:
        return make(replace(way, kept=places))
    except TranslationError as problem:
        if problem.settled or _lacking(problem):
            raise
        return make(replace(way, kept=()))


def _cause(problem: ExportError) -> Exception:
    """What torch.export itself raised."""
    cause = problem.__cause__
    if isinstance(cause, Exception) and not isinstance(cause, ExportError):
        return cause
    return problem


def _hashes_a_length(problem: Exception) -> bool:
    """Whether it was raised where Python asks a free length for its hash."""
    import torch

    frames = [frame for frame, _ in traceback.walk_tb(problem.__traceback__)]
    last = frames[-1] if frames else None
    return last is not None and last.f_code is torch.SymInt.__hash__.__code__


def _notes(said: Sequence[str], way: Way) -> tuple[str, ...]:
    return (*said, f"translated with {way}") if said else ()


def _short(problem: TranslationError) -> str:
    """The first thing that an error says."""
    if isinstance(problem, UnsupportedOperatorError):
        return problem.findings[0]
    return str(problem).split("\n")[0][:300]


def _lacking(problem: TranslationError) -> bool:
    """Whether operators are unknown, which other shapes do not change."""
    refused = problem.unsupported if isinstance(problem, UnsupportedOperatorError) else ()
    return any(one.code is Code.NO_LOWERING for one in refused)
