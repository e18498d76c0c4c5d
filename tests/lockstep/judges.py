"""Judging pairs of scripts in a row: torch is imported once, and records each script once."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from pathlib import Path
from typing import Any

from torch2mlx.lockstep.children import recorded_mlx
from torch2mlx.lockstep.judging import judged
from torch2mlx.lockstep.records import read
from torch2mlx.lockstep.result import TrainingVerification
from torch2mlx.training_verifier import pieces_of

#: Torch cannot go backward in a fork of a process in which it went backward before: these are of a
#: process that has only imported it.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "torch2mlx.lockstep.torch_side"])
PROGRAMS = Path(__file__).parent / "programs"


def names() -> list[str]:
    """All programs."""
    return sorted(path.stem.removesuffix("_torch") for path in PROGRAMS.glob("*_torch.py"))


class Judge:
    """Records torch scripts in forks of one process, each once, and judges MLX scripts by them."""

    def __init__(self, folder: Path, steps: int = 5, record: Any = None) -> None:
        self.folder, self.steps, self.record = folder, steps, record or record_in_forks
        self.known: dict[Path, tuple[Path, Any, Any]] = {}

    def torch(self, script: Path) -> tuple[Path, Any, Any]:
        """Where a torch script's recordings are, and both of them."""
        if script not in self.known:
            folder = self.folder / f"torch-{len(self.known)}"
            job = {"script": str(script), "args": [], "seed": 0, "steps": self.steps}
            child = FORKS.Process(target=self.record, args=({**job, "folder": str(folder)},))
            child.start()
            child.join()
            both = (read(folder / name) for name in ("torch", "torch-again"))
            self.known[script] = (folder, *both)
        return self.known[script]

    def verdict(self, torch: Path, mlx: Path) -> TrainingVerification:
        """What `verify_training` would say."""
        folder, plain, noisy = self.torch(torch)
        return judged(plain, recorded_mlx(mlx, (), folder, plain, 300), noisy)


def record_in_forks(job: dict[str, Any]) -> None:
    """Records a torch script twice, as verify_training does."""
    from torch2mlx.lockstep.torch_side import in_forks, record

    in_forks(quiet(record), job, pieces_of)


def quiet(run: Any) -> Any:
    """A function that prints nothing: it runs in a fork, whose output is this process's."""

    def silent(*args: Any) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        warnings.simplefilter("ignore")
        run(*args)

    return silent
