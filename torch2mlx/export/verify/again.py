"""A second call: what a forward keeps outside of its buffers, the file has as the first call finds
it."""

from __future__ import annotations

from typing import Any

from torch2mlx.common import options
from torch2mlx.errors import TranslationError
from torch2mlx.export.verify.comparing import agree
from torch2mlx.export.verify.running import Answer, Case, Pair


def differs_again(pair: Pair, case: Case, answer: Answer) -> str:
    """What there is to say where the forward changes what stays between calls, and the second
    answers of the two sides differ, after a first call with the same inputs or with others; else
    nothing."""
    if not answer.changed or answer.drew:
        return ""
    if all(_same_after(pair, case, earlier) for earlier in (case, _others(case))):
        return ""
    return (
        f"the second call differs: the forward changes {', '.join(sorted(answer.changed))}, which "
        "the file has as the first call finds it: keep what later calls read in a buffer "
        "(register_buffer) of a module that is held once, and write to it with copy_"
    )


def _same_after(pair: Pair, case: Case, earlier: Case) -> bool:
    """Whether both sides answer alike after an earlier call; also where torch has no second."""
    try:
        second = pair.torch(case, before=(earlier,)).parts
    except Exception:  # whatever the model raises
        return True
    return agree(second, pair.mlx(case, before=(earlier,)))


def _others(case: Case) -> Case:
    """The same inputs with other numbers: floating-point ones halved, all in reverse order."""
    import torch
    from torch.utils import _pytree as pytree

    def other(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.ndim or leaf.dtype == torch.bool:
            return leaf
        turned = leaf.detach().flip(-1)
        return turned / 2 if leaf.is_floating_point() or leaf.is_complex() else turned

    args, kwargs = pytree.tree_map(other, (tuple(case.args), dict(case.kwargs)))
    return Case(args, kwargs)


def called_again(pair: Pair, case: Case, answer: Answer) -> tuple[str, ...]:
    """What there is to note of what the forward changes.

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
