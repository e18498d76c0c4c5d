"""Rows of op_mapping that say no more than a name: called alike in both frameworks."""

from __future__ import annotations

import importlib
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from torch2mlx.op_mapping import Op

_DRAW = np.random.default_rng(3)
_POSITIVE = _DRAW.uniform(0.1, 0.9, (4, 4)).astype(np.float32)
_OTHER = _DRAW.uniform(0.1, 0.9, (4, 4)).astype(np.float32)
_SPD = (_OTHER @ _OTHER.T + 4 * np.eye(4)).astype(np.float32)
_ABOVE = _POSITIVE + 1
_WHOLE = (_POSITIVE * 9).astype(np.int32)
#: What a function may be called with; the first that torch takes is used.
CALLS: tuple[tuple[Any, ...], ...] = (
    (_POSITIVE,),
    (_POSITIVE, _OTHER),
    (_ABOVE,),
    (_SPD,),
    (_SPD, _POSITIVE),
    (_WHOLE, _WHOLE),
    (_POSITIVE > 0.5, _OTHER > 0.5),
    (_POSITIVE[0], _OTHER[0]),
)


def _resolve(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def _theirs(op: Op, arguments: tuple[Any, ...]) -> Any:
    try:
        found = _resolve(op.torch)(*(torch.from_numpy(a) for a in arguments))
    except (AttributeError, TypeError, ValueError, RuntimeError, ImportError):
        return None
    fine = torch.is_tensor(found) and not found.isnan().any()
    return found.resolve_conj().resolve_neg().numpy() if fine else None


def _ours(op: Op, arguments: tuple[Any, ...]) -> Any:
    function = _resolve(op.mlx)
    given = [mx.array(a) for a in arguments]
    try:
        with mx.stream(mx.cpu):
            found = function(*given)
    except (TypeError, ValueError):
        return None
    return np.array(found) if isinstance(found, mx.array) else None


def difference(op: Op) -> float | None:
    """max|a - b| / max(1, max|b|) for the first call that both take; None where there is none."""
    if op.status != "direct" or op.note or ".array." in op.mlx or "random" in op.mlx:
        return None
    for arguments in CALLS:
        expected = _theirs(op, arguments)
        found = None if expected is None else _ours(op, arguments)
        if found is not None and found.shape == expected.shape:
            a, b = found.astype(np.complex128), expected.astype(np.complex128)
            return float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0)))
    return None
