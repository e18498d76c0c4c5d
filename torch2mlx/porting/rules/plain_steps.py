"""Passes over a file before its training steps are found, which give these their plain form."""

from __future__ import annotations

from typing import Any

from torch2mlx.porting.report import Report
from torch2mlx.porting.rules.in_place_functions import MARK, WithoutInPlaceFunctions
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.training.closures import WithoutClosures
from torch2mlx.porting.training.collectives import WithoutCollectives
from torch2mlx.porting.training.derivatives import Derivatives
from torch2mlx.porting.training.early_branches import EarlyBranches
from torch2mlx.porting.training.free_parameters import KIND, FreeParameters
from torch2mlx.porting.training.group_parameters import GroupParameters
from torch2mlx.porting.training.scalers import WithoutScalers
from torch2mlx.porting.training.separate_lists import SeparateLists
from torch2mlx.porting.training.separate_optimizers import SeparateOptimizers
from torch2mlx.porting.training.small_functions import WithoutSmallFunctions
from torch2mlx.porting.training.step_functions import with_steps_whole, with_updates_whole
from torch2mlx.porting.training.zeroed_by_hand import ZeroedByHand, single_parameters

#: A word of the sources that a pass is about, and the pass; in this order.
_PASSES = (
    ("distributed", WithoutCollectives),
    (".scale(", WithoutScalers),
    (".step(", WithoutClosures),
    (".zero_grad(", WithoutSmallFunctions),
    (".backward(", EarlyBranches),
)


def with_plain_steps(module: Any, names: Any, text: str, report: Report) -> Any:
    """The file without functions in place, loss scalers, closures and autograd.grad, and with its
    free parameters in modules."""
    module, zeroed = _without_free_parameters(module, names, text, report)
    words = f"{text} .zero_grad(" if zeroed else text
    if MARK.search(text):
        module = _passed(module, WithoutInPlaceFunctions(names), text, report)
    if "param_groups" in text and "params" in text:
        module = _passed(module, GroupParameters(names, report), text, report)
    if "optim" in text:
        module = _separated(module, names, text, report)
    for word, passes in _PASSES:
        if word in words:
            module = _passed(module, passes(report), text, report)
        if passes is WithoutSmallFunctions and ".backward(" in text:
            module = with_steps_whole(module, report, text)
    if "autograd" in text:
        module = _passed(module, Derivatives(names, report), text, report)
    return module


def _without_free_parameters(
    module: Any, names: Any, text: str, report: Report
) -> tuple[Any, bool]:
    """The file with its free parameters in modules, and whether gradients that it sets to zero
    itself were found."""
    graded = ".grad" in text
    if graded:
        module = with_updates_whole(module, report, text)
    if "requires_grad" in text or "Parameter" in text:
        free = FreeParameters(module, names, report)
        if free.found:
            module = _passed(module, free, text, report)
    if not graded:
        return module, False
    single = single_parameters(module, KIND)
    zeroed = _passed(module, ZeroedByHand(names, report, single), text, report)
    return zeroed, zeroed is not module


def _separated(module: Any, names: Any, text: str, report: Report) -> Any:
    """The file with a name of its own for each list of parameters, and for each optimizer."""
    lists = SeparateLists(module, report)
    if lists.found:
        module = _passed(module, lists, text, report)
    return _passed(module, SeparateOptimizers(module, names, report), text, report)


def _passed(module: Any, rules: Any, text: str, report: Report) -> Any:
    made = passed(module, rules)
    if made is not module:
        report.follow(made, text)
    return made
