"""torch's ctc_loss while a model is traced: one operator, since shapes inside of torch's own depend
on the values of the lengths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch2mlx.export.capture.patched import replaced

NAMESPACE = "torch2mlx_ctc"
_GIVEN = "Tensor log_probs, Tensor targets, {kind} input_lengths, {kind} target_lengths"
_OPTIONS = "SymInt blank, int reduction, bool zero_infinity"


@contextmanager
def ctc_as_operator() -> Iterator[None]:
    """While open, torch.ctc_loss, which torch's function and layer call, is that operator."""
    import torch

    _define()
    with replaced(torch, "ctc_loss", _loss):
        yield


def _loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> Any:
    import torch

    arrays = isinstance(input_lengths, torch.Tensor)
    run = getattr(torch.ops, NAMESPACE).loss if arrays else getattr(torch.ops, NAMESPACE).listed
    given = (log_probs, targets, input_lengths, target_lengths)
    return run(*given, blank, reduction, zero_infinity)


@cache
def _define() -> Any:
    """The operators; what is returned keeps them alive."""
    import torch

    library = torch.library.Library(NAMESPACE, "DEF")
    original = torch.ctc_loss
    for name, kind in (("loss", "Tensor"), ("listed", "SymInt[]")):
        given = _GIVEN.format(kind=kind)
        library.define(f"{name}({given}, {_OPTIONS}) -> Tensor")
        library.impl(name, original, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", _shape, lib=library)
    return library


def _shape(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: Any,
    reduction: int,
    zero_infinity: bool,
) -> Any:
    import torch

    torch._check(log_probs.dtype in (torch.float32, torch.float64))
    torch._check(log_probs.dim() in (2, 3))
    batch = log_probs.shape[1:-1]
    if batch and targets.dim() == 2:
        torch._check(targets.size(0) == batch[0])
    each = reduction == 0
    return log_probs.new_empty(batch if each else ())
