"""A second call: a file has what a forward keeps in plain attributes as the first call finds it."""

from __future__ import annotations

from torch2mlx.common import options
from torch2mlx.errors import TranslationError
from torch2mlx.export.verify.comparing import agree
from torch2mlx.export.verify.running import Answer, Case, Pair


def differs_again(pair: Pair, case: Case, answer: Answer) -> str:
    """What there is to say where the forward changes attributes and the second answers of the two
    sides differ; else nothing."""
    if not answer.changed or answer.drew:
        return ""
    try:
        second = pair.torch(case, calls=2).parts
    except Exception:
        return ""  # torch has no second call
    if agree(second, pair.mlx(case, calls=2)):
        return ""
    return (
        f"the second call differs: the forward changes {', '.join(sorted(answer.changed))}, which "
        "the file has as the first call finds it: keep what later calls read in a buffer "
        "(register_buffer)"
    )


def called_again(pair: Pair, case: Case, answer: Answer) -> tuple[str, ...]:
    """What there is to note of attributes that the forward changes.

    Both sides are called twice where there are such. Raises TranslationError, with their names,
    where the second answers differ.
    """
    told = differs_again(pair, case, answer)
    if told:
        way_out = f"{options.given('check', False)} returns the translation all the same"
        raise TranslationError(f"{told}; {way_out}")
    kinds = (int, float, str)
    counted = sorted(name for name, value in answer.changed.items() if isinstance(value, kinds))
    if not counted:
        return ()
    return (
        f"the forward changes {', '.join(counted)}: the file does what the first call does, "
        "whatever the value is later",
    )
