"""Ranks and dtypes that the program is for: both sides are run with others where the forward asks
for them, and what differs there is a check of the file."""

from __future__ import annotations

import dis
import warnings
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from torch2mlx.export.capture.asked_kinds import Asked
from torch2mlx.export.capture.guards import Kind
from torch2mlx.export.capture.other_kinds import of_other_dtypes, of_other_ranks
from torch2mlx.export.capture.sizes import mapped
from torch2mlx.export.verify.comparing import agree
from torch2mlx.export.verify.judging import judge
from torch2mlx.export.verify.running import Case, Pair, raised

Way = tuple[Any, ...]
#: Dtypes of which MLX's users have one where torch's have the other.
_WHOLE = ("int64", "int32")


class Outcome(Enum):
    """What both sides do with some inputs."""

    ALIKE = "both answer alike"
    DIFFERS = "both answer, and differ"
    ALONE = "torch answers alone"
    REFUSED = "the model's own code raises, and MLX answers"
    ANSWERED = "torch raises, and MLX answers"
    NEITHER = "both raise"


def fixed_kinds(pair: Pair, case: Case, traced: Any, changes: bool) -> tuple[Kind, ...]:
    """The ranks and dtypes that arguments must have, since the two sides differ at others.
    `changes`: whether the forward changes what stays between calls."""
    trial = _Trial(pair, case, changes)
    return tuple([*_ranks(trial, traced.asked), *_dtypes(trial, traced.asked)])


class _Trial:
    """Both sides with other arguments in place of some."""

    def __init__(self, pair: Pair, case: Case, changes: bool) -> None:
        self._pair, self._case, self._changes = pair, case, changes
        self.arrays = {way: x for way, x in self._given() if hasattr(x, "unsqueeze")}

    def _given(self) -> list[tuple[Way, Any]]:
        found: list[tuple[Way, Any]] = []
        self._changed(lambda way, leaf: found.append((way, leaf)))
        return found

    def _changed(self, change: Callable[[Way, Any], Any]) -> Case:
        args, kwargs = mapped(self._pair.model, self._case.args, self._case.kwargs, change)
        return Case(args, kwargs)

    def _with(self, others: dict[Way, Any]) -> Case:
        return self._changed(lambda way, leaf: others.get(way, leaf))

    def outcomes(
        self, tries: Sequence[dict[Way, Any]], decides: bool, carefully: bool = False
    ) -> Iterator[tuple[dict[Way, Any], Outcome]]:
        """What both do with other arguments. `decides`: it matters what MLX does where torch
        raises; `carefully`: outputs that are unstable are alike."""
        cases = [self._with(others) for others in tries]
        for others, case, error in zip(tries, cases, self._errors(cases), strict=True):
            if error is None:
                yield others, self._compared(case, carefully)
            elif not (decides or _of_model(error)) or not self._answers(case):
                yield others, Outcome.NEITHER
            else:
                yield others, Outcome.REFUSED if _of_model(error) else Outcome.ANSWERED

    def _errors(self, cases: Sequence[Case]) -> list[Exception | None]:
        """What torch raises. A forward that changes what stays between calls, and may raise for
        that, is brought back after each of them."""
        model, graded = self._pair.model, self._pair.graded
        if not self._changes:
            return raised(model, cases, graded)
        return [error for case in cases for error in raised(model, [case], graded)]

    def _compared(self, case: Case, carefully: bool) -> Outcome:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = self._pair.torch(case)
        except Exception:  # of a model that is another one at its second call
            return Outcome.NEITHER
        try:
            if carefully or answer.drew:
                alike = judge(self._pair, case, None, answer).ok
            else:
                alike = agree(answer.parts, self._pair.mlx(case))
            return Outcome.ALIKE if alike else Outcome.DIFFERS
        except Exception:  # whatever MLX raises; other structures and shapes are errors too
            return Outcome.DIFFERS if self._answers(case) else Outcome.ALONE

    def _answers(self, case: Case) -> bool:
        try:
            self._pair.mlx(case)
        except Exception:  # whatever it raises
            return False
        return True


def _of_model(error: BaseException) -> bool:
    """Whether an error was raised by a statement of the model, or a table has no entry."""
    if isinstance(error, (KeyError, AssertionError, NotImplementedError)):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    own = str(frame.f_globals.get("__name__", "")).partition(".")[0] != "torch"
    return own and frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _ranks(trial: _Trial, asked: Sequence[Asked]) -> Iterator[Kind]:
    together = _together(trial)
    for way, x in trial.arrays.items():
        about = [one for one in asked if one.kind == "rank" and way in one.ways]
        decides = any(one.decides for one in about)
        found: dict[int, set[Outcome]] = {}
        tries = [{way: other} for other in of_other_ranks(x, decides)] if about else []
        for others, outcome in trial.outcomes(tries, decides):
            found.setdefault(others[way].ndim, set()).add(outcome)
        for step, outcome in together.items():
            if about or outcome is Outcome.DIFFERS:
                found.setdefault(x.ndim + step, set()).add(outcome)
        wrong, alike = _sorted(found, decides)
        if wrong:
            line = next((one.line for one in about if one.decides), about[0].line if about else "")
            yield Kind(way, "rank", x.ndim, tuple(alike), tuple(wrong), line)


def _together(trial: _Trial) -> dict[int, Outcome]:
    """What both do where all arguments have an axis less, or more, in front."""
    arrays, tries = trial.arrays, {}
    if arrays and all(x.ndim and x.shape[0] for x in arrays.values()):
        tries[-1] = {way: x[0] for way, x in arrays.items()}
    if arrays:
        tries[1] = {way: x[None] for way, x in arrays.items()}
    found = trial.outcomes(list(tries.values()), False, carefully=True)
    return dict(zip(tries, (outcome for _, outcome in found), strict=True))


def _sorted(outcomes: dict[Any, set[Outcome]], decides: bool) -> tuple[set[Any], set[Any]]:
    """The ranks at which the file would be wrong, and those at which it is right. Where nothing is
    decided by ranks, an error of MLX's says enough."""
    bad = {Outcome.DIFFERS}
    bad |= {Outcome.ALONE, Outcome.REFUSED, Outcome.ANSWERED} if decides else set()
    answered = {Outcome.DIFFERS, Outcome.ALONE, Outcome.ALIKE}
    wrong, alike = set(), set()
    for one, seen in outcomes.items():
        if seen & {Outcome.DIFFERS, Outcome.ALONE} & bad or (seen & bad and not seen & answered):
            wrong.add(one)
        elif Outcome.ALIKE in seen:
            alike.add(one)
    return wrong, alike


def _dtypes(trial: _Trial, asked: Sequence[Asked]) -> Iterator[Kind]:
    for way, x in trial.arrays.items():
        about = [one for one in asked if one.kind == "dtype" and way in one.ways]
        if not about:
            continue
        found: dict[str, set[Outcome]] = {}
        tries = [{way: other} for other in of_other_dtypes(x)]
        for others, outcome in trial.outcomes(tries, False):
            found.setdefault(_name(others[way]), set()).add(outcome)
        bad = {Outcome.DIFFERS, Outcome.ALONE, Outcome.REFUSED}
        wrong = [name for name, seen in found.items() if seen & bad and not _width(x, name, seen)]
        if wrong:
            right = [n for n, seen in found.items() if Outcome.ALIKE in seen and n not in wrong]
            own = _name(x)
            right = [n for n in _widths([own, *right], (own, *wrong)) if n != own]
            wrong = _widths(wrong, (own, *right))
            yield Kind(way, "dtype", own, _called(right), _called(wrong), about[0].line)


def _widths(names: list[str], others: Sequence[str]) -> list[str]:
    """Names of dtypes, whole numbers of the other width beside those of one."""
    more = [n for n in _WHOLE if set(names) & set(_WHOLE) and n not in (*names, *others)]
    return [*names, *more]


def _called(names: Sequence[str]) -> tuple[str, ...]:
    """MLX's names of dtypes."""
    return tuple("bool_" if name == "bool" else name for name in names)


def _width(x: Any, name: str, seen: set[Outcome]) -> bool:
    """Whether it is a matter of 32 bits for 64 alone, that MLX's users have where torch's have 64:
    an error of the model's."""
    return _name(x) in _WHOLE and name in _WHOLE and Outcome.DIFFERS not in seen


def _name(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")
