"""`verify_training`: a torch script and its MLX port, run in lock-step and compared.

torch script -> recording   (twice: the second time with rounding put in)
MLX script, from torch's first weights and draws -> recording
recordings -> verdict
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch2mlx.common.optional import need
from torch2mlx.errors import VerificationError
from torch2mlx.lockstep.children import recorded_mlx, recorded_torch
from torch2mlx.lockstep.judging import judged
from torch2mlx.lockstep.result import Agreement, Cause, TrainingVerification

#: How many steps are compared unless it is said otherwise, and how long a script may take, in s.
STEPS, TIMEOUT = 5, 300.0


def verify_training(
    torch_script: str | os.PathLike[str],
    mlx_script: str | os.PathLike[str],
    *,
    steps: int = STEPS,
    args: Sequence[str] = (),
    mlx_args: Sequence[str] | None = None,
    timeout: float = TIMEOUT,
) -> TrainingVerification:
    """Runs both scripts for `steps` optimizer updates and compares all that they compute.

    The scripts run, each in a process of its own, with this user's rights: what they write they
    write. Each is stopped after its `steps`-th update, and what follows that without training (an
    evaluation). MLX starts from torch's first weights and gets torch's random draws, whatever it
    draws itself; compiled functions of both run uncompiled, on the CPU. `args` are the arguments
    of both scripts, `mlx_args` those of the MLX one where it takes others; `timeout` is for each
    run, in seconds.

    Raises VerificationError where a script is not there, takes longer, or makes no step.
    """
    need("verify_training", "torch", "mlx")
    scripts = [_there(script) for script in (torch_script, mlx_script)]
    if not isinstance(steps, int) or steps < 1:
        raise VerificationError(f"steps is a whole number of at least 1, not {steps!r}")
    given = [str(a) for a in args]
    theirs = given if mlx_args is None else [str(a) for a in mlx_args]
    with tempfile.TemporaryDirectory(prefix="torch2mlx-") as name:
        folder = Path(name)
        torch = recorded_torch(scripts[0], given, folder, steps, timeout)
        mlx = recorded_mlx(scripts[1], theirs, folder, torch[0], timeout)
        return judged(torch[0], mlx, torch[1])


def _there(script: str | os.PathLike[str]) -> Path:
    path = Path(script)
    if path.suffix != ".py" or not path.is_file():
        raise VerificationError(f"{path}: is no Python script; give the path of a .py file")
    return path.resolve()


def pieces_of(module: Any) -> list[dict[str, Any]]:
    """Where `convert` puts each item of a torch module's tensors.

    One dict for each array of MLX: its "key" and "shape", its "sources", and as "index" the places
    of its items in the sources, one after the other; none where it is their sum. Arrays that are
    computed in another way are left out.
    """
    import numpy as np
    import torch

    from torch2mlx.converter import convert

    saved = module.state_dict()
    held = (*module.named_parameters(remove_duplicate=False), *module.named_buffers())
    state = {
        name: torch.arange(tensor.numel(), dtype=torch.int64).reshape(tensor.shape)
        for name, tensor in held
        if name in saved
    }
    found: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
    options: dict[str, Any] = {"module": module, "on_unmapped": "ignore", "dry_run": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for training in (True, False):
            report = convert(state, "unwritten.safetensors", training=training, **options)
            pieces = {piece.target: piece for piece in report.pieces}
            pieces |= {late: pieces[first] for late, first in report.ties.items()}
            for key, piece in pieces.items():
                data: dict[str, Any] = {
                    "key": key,
                    "shape": list(piece.shape),
                    "sources": list(piece.sources),
                }
                if len(piece.sources) == 1:
                    data["index"] = np.array(piece.load()).reshape(-1)
                if len(piece.sources) == 1 or piece.rule == "add":
                    found.setdefault((key, piece.sources), data)
    return list(found.values())


def main(argv: Sequence[str]) -> None:
    """Runs one script under a recorder: `torch` or `mlx`, and the job as JSON."""
    side, job = argv[0], json.loads(argv[1])
    if side == "mlx":
        from torch2mlx.lockstep.mlx_side import record as record_mlx

        record_mlx(job)
    from torch2mlx.lockstep.torch_side import in_forks, record

    in_forks(record, job, pieces_of)


__all__ = ["Agreement", "Cause", "TrainingVerification", "verify_training"]

if __name__ == "__main__":
    main(sys.argv[1:])
