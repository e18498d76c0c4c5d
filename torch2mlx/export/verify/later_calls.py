"""Calls far from the first: whether what a forward counts ever matters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch2mlx.export.verify.comparing import agree
from torch2mlx.export.verify.outputs import Parts, kept, parts_of
from torch2mlx.export.verify.preserved import preserved, registered
from torch2mlx.export.verify.running import Answer, Case, Pair, own_inputs, plainly

#: Calls in a row that are compared with the first.
CALLS = 12
#: What counters are set to afterwards, for forwards that ask `n % 100 == 0` or `n > warmup`.
FAR = (99, 100, 999, 1000, 9999, 10_000)
_PLAIN = (int, float, str, list, dict, set, deque)


def differs_later(pair: Pair, case: Case, answer: Answer) -> str:
    """Which later call torch answers otherwise than the first, its parameters, its buffers and the
    random streams being brought back before each; "" where there is none.

    What a model raises later is no answer. Nothing is run where the forward changes tensors alone.
    """
    import torch

    if not any(isinstance(value, _PLAIN) for value in answer.changed.values()):
        return ""
    with preserved(pair.model), plainly(), torch.set_grad_enabled(pair.graded), pair.filled():
        return next(_others(pair.model, case), "")


def _others(model: Any, case: Case) -> Iterator[str]:
    back, before = registered(model), {}
    first = _answer(model, case, back)
    for number in range(2, CALLS + 1):
        before = dict(_numbers(model))
        if not _alike(first, _answer(model, case, back)):
            yield f"call {number}"
    counters = [place for place, value in _numbers(model) if before.get(place, value) != value]
    for value in FAR if counters else ():
        for path, name in counters:
            setattr(model.get_submodule(path), name, value)
        if not _alike(first, _answer(model, case, back)):
            yield f"a call at {counters[0][1]} = {value}"


def _answer(model: Any, case: Case, back: Sequence[Callable[[], None]]) -> Parts | None:
    """What a model answers, with its buffers then, which are brought back; None where it raises."""
    args, kwargs = own_inputs(case)
    try:
        parts = [*parts_of(model(*args, **kwargs)), *model.named_buffers()]
        return kept(parts)
    except Exception:  # whatever the model raises
        return None
    finally:
        for one in back:
            one()


def _alike(first: Parts | None, other: Parts | None) -> bool:
    return first is None or other is None or agree(first, other)


def _numbers(model: Any) -> Iterator[tuple[tuple[str, str], int]]:
    """The whole numbers among the attributes of modules, by path and name."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, int) and not isinstance(value, bool):
                yield (path, name), value
