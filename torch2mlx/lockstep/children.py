"""The processes in which the scripts run, one for torch and one for MLX, stopped after k steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch2mlx.errors import VerificationError
from torch2mlx.lockstep.records import read

#: Lines of a script's error output that are shown.
_SHOWN = 12
#: What hides NVIDIA's cards from torch. MLX's CUDA build makes no array without one, on its CPU
#: device either: its side sets the device itself, and sees them.
NO_CARD: Mapping[str, str] = MappingProxyType({"CUDA_VISIBLE_DEVICES": ""})


def recorded_torch(
    script: Path, args: Sequence[str], folder: Path, steps: int, timeout: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recordings of a torch script: as it is, and with rounding put in.

    Raises VerificationError where the script takes longer, fails before its first step or makes
    none.
    """
    told = _run("torch", script, args, {"folder": str(folder), "steps": steps}, timeout)
    found = [_read(script, folder / name, told, "torch") for name in ("torch", "torch-again")]
    return found[0], found[1]


def recorded_mlx(
    script: Path, args: Sequence[str], folder: Path, torch: dict[str, Any], timeout: float
) -> dict[str, Any]:
    """The recording of an MLX script that follows torch's in `folder`; raises as above."""
    job = {"steps": len(torch["steps"]), "torch": str(folder / "torch")}
    out = folder / "mlx"
    told = _run("mlx", script, args, {**job, "folder": str(out)}, timeout)
    return _read(script, out, told, "mlx")


def _run(
    side: str, script: Path, args: Sequence[str], more: dict[str, Any], timeout: float
) -> list[str]:
    """Runs a script under the recorder of a side; the last lines of its error output."""
    job = {"script": str(script), "args": list(args), "seed": 0, **more}
    settings = {"MLX_ENABLE_TF32": "0"}
    if side == "torch":
        settings |= NO_CARD
    settings["PYTHONHASHSEED"] = os.environ.get("PYTHONHASHSEED", "0")  # sets in one order
    told = quietly("torch2mlx.training_verifier", [side, json.dumps(job)], timeout, settings)
    if told is None:
        raise VerificationError(
            f"{script}: not ready after {timeout:.0f} s; give it less to do, or a longer timeout"
        )
    return told[-_SHOWN:]


def quietly(
    module: str,
    args: Sequence[str],
    timeout: float,
    settings: Mapping[str, str] = MappingProxyType({}),
    folder: Path | None = None,
) -> list[str] | None:
    """Runs a module of this package that runs a script: without a window, an input or a log on the
    network; the lines of its error output, None where it takes longer. `settings` are more
    variables of its environment."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    env |= {"WANDB_MODE": "disabled", "MPLBACKEND": "agg", **settings}
    try:
        ran = subprocess.run(
            [sys.executable, "-m", module, *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return ran.stderr.strip().splitlines()


def _read(script: Path, folder: Path, told: list[str], side: str) -> dict[str, Any]:
    last = "\n".join(told)
    if not (folder / "record.json").exists():
        raise VerificationError(f"{script}: its recorder failed:\n{last}")
    found = read(folder)
    if not found["steps"] or (side == "torch" and found["start"] is None):
        why = f"{found['failure']}\n{last}" if found["failure"] else _no_step(side)
        raise VerificationError(f"{script}: no step was seen: {why}")
    return found


def _no_step(kind: str) -> str:
    if kind == "torch":
        return "no optimizer of torch.optim took a step before the script ended"
    return "no optimizer updated anything, and no model was, after a gradient was taken"
