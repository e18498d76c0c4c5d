"""Which calls move running statistics, and which of their arguments these are."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted

#: Functions that move what they are given -> the places of the two statistics and of the switch.
MOVING = {
    "torch.nn.functional.batch_norm": (1, 2, 5),
    "torch.batch_norm": (3, 4, 5),
    "torch.nn.functional.instance_norm": (1, 2, 5),
    "torch.instance_norm": (3, 4, 5),
}
_NAMES = ("running_mean", "running_var")
_SWITCHES = ("training", "use_input_stats")


def is_statistic(argument: cst.Arg, place: int, full: str) -> bool:
    """Whether the argument at a place of a call of such a function is one of the statistics."""
    if argument.keyword is not None:
        return argument.keyword.value in _NAMES
    return place in MOVING[full][:2]


def stays(given: Sequence[cst.Arg], full: str) -> bool:
    """Whether a call of such a function with these arguments surely moves nothing."""
    for i, argument in enumerate(given):
        named = argument.keyword is not None and argument.keyword.value in _SWITCHES
        if named or (argument.keyword is None and i == MOVING[full][2]):
            return dotted(argument.value) == "False"
    return full == "torch.nn.functional.batch_norm" and not any(a.star for a in given)
