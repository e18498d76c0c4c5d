"""What a model answers, part by part: arrays and plain values by their place, those of two models
put side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from torch2mlx.errors import VerificationError
from torch2mlx.export.ir.structures import numpy_of

#: Parts of an answer by their place in the whole: [("logits", array), ("[1]", 3), ...].
Parts = list[tuple[str, Any]]

_STEP = re.compile(r"\[\d+\]|[^.\[\]]+")


def parts_of(answer: Any) -> Parts:
    """Everything in an answer: arrays, plain values (numbers, texts, None), and containers that
    hold nothing as an empty tuple."""
    return list(_parts(answer, ""))


def is_array(part: Any) -> bool:
    """Whether a part is an array of either framework, and no plain value."""
    return hasattr(part, "dtype") and hasattr(part, "shape")


def arrays_among(parts: Parts) -> list[Any]:
    """The arrays, in order."""
    return [part for _, part in parts if is_array(part)]


def values_of(part: Any) -> Any:
    """A part's numbers as a numpy array."""
    return numpy_of(part) if is_array(part) else np.asarray(part)


def turned(parts: Parts, ends: Any) -> Parts:
    """MLX's answer in torch's layout; `ends` counts arrays alone."""
    found, place = [], 0
    for name, part in parts:
        if is_array(part):
            part, place = ends.result(place, part), place + 1
        found.append((name, part))
    return found


def kept(parts: Parts) -> Parts:
    """torch's answer as it is now, whatever is written to its tensors later."""
    return [(n, p.detach().clone() if hasattr(p, "detach") else p) for n, p in parts]


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    items = None if is_array(value) else _items(value)
    if items is None:
        yield name, value
    elif not items:
        yield name, ()
    for step, item in items or ():
        joined = f"{name}.{step}" if name and not step.startswith("[") else f"{name}{step}"
        yield from _parts(item, joined)


def _items(value: Any) -> list[tuple[str, Any]] | None:
    """What a container holds, with the step to each; None of what is no container."""
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return [(key, getattr(value, key)) for key in value.__dataclass_fields__]
    return _registered(value)


def _registered(value: Any) -> list[tuple[str, Any]] | None:
    """What an object of a class holds that torch's pytree knows."""
    if type(value).__module__.split(".")[0] in ("builtins", "mlx"):
        return None
    from torch.utils import _pytree as pytree

    known = pytree.SUPPORTED_NODES.get(type(value))
    if known is None:
        return None
    return [(f"[{i}]", item) for i, item in enumerate(known.flatten_fn(value)[0])]


def paired(wanted: Parts, got: Parts) -> list[tuple[str, Any, Any]]:
    """Parts of two answers side by side: (name, torch's, MLX's).

    Parts are found by their names; where one side has names and the other numbers, as of a
    dataclass and a tuple, by their places. Raises VerificationError with the names of what one of
    the two lacks.
    """
    theirs, ours = dict(wanted), dict(got)
    if theirs.keys() == ours.keys() and [n for n, _ in wanted] != [n for n, _ in got]:
        return [(name, part, ours[name]) for name, part in wanted]
    if theirs.keys() != ours.keys() and not _same_places(wanted, got):
        raise VerificationError(_unlike(wanted, got))
    return [(name, a, b) for (name, a), (_, b) in zip(wanted, got, strict=True)]


def _same_places(wanted: Parts, got: Parts) -> bool:
    if len(wanted) != len(got):
        return False
    return all(_same_place(a, b) for (a, _), (b, _) in zip(wanted, got, strict=True))


def _same_place(a: str, b: str) -> bool:
    """Whether two ways differ only in that one has a name where the other has a number; so does a
    single part with a name and the answer that is this part itself."""
    steps, others = _STEP.findall(a), _STEP.findall(b)
    if not steps or not others:
        return not any(step.startswith("[") for step in (*steps, *others))
    pairs = zip(steps, others, strict=False)
    return len(steps) == len(others) and all(
        one == other or one.startswith("[") != other.startswith("[") for one, other in pairs
    )


def _unlike(wanted: Parts, got: Parts) -> str:
    theirs, ours = [n for n, _ in wanted], [n for n, _ in got]
    lacks, more = [n for n in theirs if n not in ours], [n for n in ours if n not in theirs]
    told = [f"MLX does not give {_listed(lacks)}"] if lacks else []
    told += [f"torch does not give {_listed(more)}"] if more else []
    return f"torch gives {_count(theirs)}, MLX {_count(ours)}: {'; '.join(told)}"


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} output{'' if len(names) == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name or "the answer itself as one value" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
