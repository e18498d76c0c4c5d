"""Batch norms with momentum=None while a model is traced.

torch reads the number of batches as a Python number there, which torch.export cannot trace. A
number stands in for the momentum, by which the lowering knows such a call.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: No one writes this momentum by hand.
STAND_IN = 0.1000000149011611938
_AS_TORCH = re.compile(r"1(\.0?)?\s*/\s*float\(self\.num_batches_tracked\)|super\(\)\.forward\(")


@contextmanager
def standing_in_for_none(model: Any) -> Iterator[None]:
    """While open, batch norms that average all batches alike have a number as their momentum."""
    import torch

    base = torch.nn.modules.batchnorm._BatchNorm
    changed = [m for m in model.modules() if isinstance(m, base) and _counts(m, base)]
    for module in changed:
        module.momentum = STAND_IN
    try:
        yield
    finally:
        for module in changed:
            module.momentum = None


def _counts(module: Any, base: Any) -> bool:
    """Whether the forward would divide by the number of batches."""
    if module.momentum is not None or not module.training or not module.track_running_stats:
        return False
    forward = type(module).forward
    if module.num_batches_tracked is None or forward is base.forward:
        return module.num_batches_tracked is not None
    try:
        return _AS_TORCH.search(inspect.getsource(forward)) is not None
    except (OSError, TypeError):
        return False
