"""What a side that raises is said to have done, in one sentence."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from typing import Any

from torch2mlx.export.capture.source_lines import raising_line
from torch2mlx.export.verify.running import Case


def short(error: BaseException) -> str:
    """Type and first line of an error; where that ends in a colon, what it announces too."""
    lines = str(error).strip().split("\n")
    said = " ".join(lines if lines[0].rstrip().endswith(":") else lines[:1])[:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def torch_fault(model: Any, case: Case, error: BaseException) -> str:
    """That a model's own forward raises on inputs, where, what, and what may be amiss."""
    told = f"{type(model).__name__}.forward raises on these inputs{raising_line(error)}: "
    return told + short(error) + (_doubles(model, case) or _dict(model, case))


def mlx_fault(error: BaseException) -> str:
    """That the MLX side raises, with the line of its source."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "<translated_" in f.filename or f.filename.endswith("model.py")]
    line = f" at line {own[-1].lineno} of its source" if own else ""
    return f"MLX's side raises on these inputs{line}: {short(error)}"


def _doubles(model: Any, case: Case) -> str:
    """numpy makes float64 where nothing is said, and a model of float32 does not take it."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves((tuple(case.args), dict(case.kwargs)))
    doubles = [t for t in leaves if isinstance(t, torch.Tensor) and t.dtype == torch.float64]
    weights = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if not doubles or not weights or torch.float64 in weights:
        return ""
    return "; an input is float64, which numpy makes by itself: write x.astype('float32')"


def _dict(model: Any, case: Case) -> str:
    """A dict that went in as one argument, though its keys may have been meant as names."""
    if not case.args or not isinstance(case.args[-1], Mapping) or case.kwargs:
        return ""
    names, given = list(inspect.signature(model.forward).parameters), case.args[-1]
    if len(case.args) > 1:
        fits = given and all(key in names for key in given)
        return (
            "; inputs by name go in a dict of their own: write (model, (a, b), {...})"
            if fits
            else ""
        )
    keys = ", ".join(map(repr, list(given)[:5]))
    return f"; the dict went in as {names[0]!r}: inputs by name are {', '.join(names)}, not {keys}"
