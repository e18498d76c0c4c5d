"""Random training programs, ported and run beside torch: `python -m tests.porting.random_programs`.

    python -m tests.porting.random_programs [--first N] [--count N] [--show SEED]

tests/porting/random_source.py writes the programs. What a program notes in training, and its
weights after it, are compared at two shapes, from the same weights. A program that torch itself
does not run is no case. Exit status 1 when one differs or ends in another error than a refusal.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests import seeded
from tests.porting.compare import executed, give_weights
from tests.porting.random_source import source
from tests.seeded import BROKEN, REFUSED, RIGHT, UNRUN, WRONG

SECONDS = 90
SHAPES = ((4, 3), (3, 5))  # batches, items
NAMES = ("net", "head", "mean")


def _run_by_torch(text: str) -> dict[str, Any]:
    """What the program has, its first weights among it."""
    import torch

    torch.manual_seed(0)
    theirs: dict[str, Any] = {"__name__": "in_torch"}
    exec(compile(text, "program.py", "exec"), theirs)
    return theirs


def _data() -> list[Any]:
    draws = np.random.default_rng(0)
    return [
        tuple(draws.standard_normal((*shape, size)).astype(np.float32) for size in (4, 3))
        for shape in SHAPES
    ]


def _verdict(seed: int) -> tuple[str, str]:
    import torch2mlx
    from torch2mlx import errors

    text = source(seed)
    try:
        theirs, data = _run_by_torch(text), _data()
        _run_by_torch(text)["train"](*data[0])
    except Exception as problem:
        return UNRUN, f"{type(problem).__name__}: {problem}"
    try:
        ported = torch2mlx.port(text)
        if ported.unsupported:
            return REFUSED, "; ".join(f"line {u.line}: {u.reason}" for u in ported.unsupported)
        ours = executed(ported.source, f"program_{seed}")
        with tempfile.TemporaryDirectory() as folder:
            for name in NAMES:
                give_weights(getattr(ours, name), theirs[name], Path(folder))
        why = next(filter(None, (_apart(theirs, ours, *given) for given in data)), "")
    except errors.Torch2MLXError as problem:
        return REFUSED, f"{type(problem).__name__}: {problem}"
    except Exception as problem:
        return BROKEN, f"{type(problem).__name__}: {problem}"
    return (WRONG, why) if why else (RIGHT, "")


def _apart(theirs: dict[str, Any], ours: Any, xs: Any, ys: Any) -> str:
    """Trains both; where they differ, in what they noted or in their weights; "" if nowhere."""
    from mlx.utils import tree_flatten

    noted, got = theirs["train"](xs, ys), ours.train(xs, ys)
    if len(noted) != len(got):
        return f"{len(got)} numbers are noted, {len(noted)} by torch"
    for i, (one, other) in enumerate(zip(noted, got, strict=True)):
        if not np.isclose(float(other), one, rtol=2e-3, atol=2e-4):
            return f"number {i} of {len(noted)}: {float(other):.6g}, torch's {one:.6g}"
    for name in NAMES:
        held = dict(tree_flatten(getattr(ours, name).parameters()))
        for key, value in theirs[name].named_parameters():
            found = np.array(held[key.replace("body.", "body.layers.")])
            if not np.allclose(found, value.detach().numpy(), rtol=2e-3, atol=2e-4):
                return f"{name}.{key} after training"
    return ""


def main() -> int:
    """Runs what the command line asks for."""
    import libcst
    import torch.optim

    import torch2mlx.kit.optimizers
    import torch2mlx.porter

    assert libcst and torch.optim and torch2mlx.porter  # before processes fork
    return seeded.main("random programs", __doc__ or "", source, _verdict, SECONDS)


if __name__ == "__main__":
    sys.exit(main())
