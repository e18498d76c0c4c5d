"""float32 to the half formats, in memory that the process has to fetch and in memory it has.

What a cast costs depends on where its result goes. In a fresh process the system has to clear
every page that malloc hands out; after other work, malloc has freed memory to give, and only the
arithmetic and the memory bus are left. Both are measured, each in a process of its own:
`python -m bench.casting fresh|warm FILE` writes its rows to FILE.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import Goal, Rows, report

#: Times the fastest of torch (and, in fresh memory, MLX and numpy) that ours should reach.
GOALS = {"fresh": 2.0, "warm": 1.0}
ITEMS = 1 << 26


def leave_freed_memory() -> Any:
    """Frees half a gigabyte in pieces that malloc keeps; returns what holds it below the top."""
    import torch

    pieces = [torch.ones(6 << 20) for _ in range(20)]
    above = torch.ones(4 << 20)
    del pieces
    return above


def measure(memory: str) -> Rows:
    """The comparison in this process; `memory` is "fresh" or "warm"."""
    import mlx.core as mx
    import numpy as np
    import torch

    from torch2mlx import _core

    array = np.random.default_rng(0).standard_normal(ITEMS, dtype=np.float32)
    tensor, ours = torch.from_numpy(array), _core.from_buffer(array, "float32")
    there = mx.array(array)
    mx.eval(there)
    target = np.empty_like(array)
    above = leave_freed_memory() if memory == "warm" else None
    rows: Rows = []
    for name in ("float16", "bfloat16"):
        of_torch, of_mlx = getattr(torch, name), getattr(mx, name)
        contenders: dict[str, Callable[[], object]] = {
            "torch2mlx": lambda name=name: ours.dense(name),
            "torch": lambda dtype=of_torch: tensor.to(dtype),
            "mlx": lambda dtype=of_mlx: mx.eval(there.astype(dtype)),
            "memcpy of the float32": lambda: np.copyto(target, array),
        }
        goals = (Goal(("torch",), GOALS[memory]), Goal(("mlx",), GOALS[memory]))
        title = f"float32 -> {name}, {memory} memory"
        rows += report(title, contenders, goals, array.nbytes, rounds=9)
    del above
    return rows


def casts(folder: Path) -> Rows:
    """float32 to the half formats, in fresh and in warm memory."""
    rows: Rows = []
    for memory in GOALS:
        file = folder / f"{memory}.json"
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "bench.casting", memory, str(file)], check=True)
        rows += json.loads(file.read_text())
    return rows


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(sys.argv[1])))
