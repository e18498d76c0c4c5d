"""A second call: what a forward keeps outside of its buffers, the file has as the first call finds
it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.common import options
from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.sizes import Shapes, other_sizes
from torch2mlx.export.verify.chance import alike_after
from torch2mlx.export.verify.comparing import agree
from torch2mlx.export.verify.later_calls import differs_later
from torch2mlx.export.verify.running import Answer, Case, Pair
from torch2mlx.export.verify.unrun import told_of


def differs_again(pair: Pair, case: Case, answer: Answer, shapes: Shapes) -> str:
    """What there is to say where the forward changes what stays between calls, and later answers
    of the two sides differ: the second, after a first call with the same inputs or with others, of
    other sizes too (`shapes` says which lengths are free), or one that torch alone gives otherwise;
    else nothing."""
    if not answer.changed:
        return ""
    if not all(_same_after(pair, case, earlier, answer) for earlier in (case, _others(case))):
        later = "the second call"
    elif not all(_same_after(pair, case, e, answer) for e in _sized(pair, case, answer, shapes)):
        later = "a call after one of another size"
    else:
        later = differs_later(pair, case, answer)
    return told_of(later, answer.changed) if later else ""


def _same_after(pair: Pair, case: Case, earlier: Case, answer: Answer) -> bool:
    """Whether both sides answer alike after an earlier call; also where torch has no second."""
    try:
        second = pair.torch(case, before=(earlier,)).parts
    except Exception:  # whatever the model raises
        return True
    if "torch" not in answer.drew:
        return agree(second, pair.mlx(case, before=(earlier,)))
    alike = alike_after(pair, case, (earlier,))
    if alike is not None:
        return alike
    # both calls of torch drew the same numbers, so what it keeps makes the difference
    return agree(second, answer.parts) or answer.changed.keys() <= _registered(pair.model)


def _sized(pair: Pair, case: Case, answer: Answer, shapes: Shapes) -> Iterator[Case]:
    """The same inputs in the other sizes that both sides take, where a forward keeps what is no
    tensor: a length, or what was made of one."""
    if all(name in _registered(pair.model) for name in answer.changed):
        return
    for one in other_sizes(pair.model, case.args, case.kwargs, shapes):
        found = Case(one.args, one.kwargs)
        try:
            pair.torch(found)
            pair.mlx(found)
        except Exception:  # whatever the model raises, or the file's own checks
            continue
        yield found


def _registered(model: Any) -> set[str]:
    """The names of tensors that a file follows."""
    return {name for name, _ in (*model.named_parameters(), *model.named_buffers())}


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


def called_again(pair: Pair, case: Case, answer: Answer, shapes: Shapes) -> tuple[str, ...]:
    """What there is to note of what the forward changes.

    Both sides are called twice where there are such. Raises TranslationError, with their names,
    where the second answers differ.
    """
    told = differs_again(pair, case, answer, shapes)
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
