"""Taking turns: each round runs every contender once, so that a slow minute hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Rows = list[dict[str, object]]


@dataclass(frozen=True)
class Goal:
    """Our speed should be at least `ratio` times that of the fastest of `peers`."""

    peers: tuple[str, ...]
    ratio: float


def seconds(
    contenders: Mapping[str, Callable[[], object]], rounds: int, settle: Callable[[], object]
) -> dict[str, float]:
    """Median seconds of each contender over rounds, after one round that is not counted.

    `settle` runs before each turn, untimed: nobody pays for what the one before left to the disk.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name, run in contenders.items():
            settle()
            gc.collect()
            gc.disable()
            began = time.perf_counter()
            made = run()
            elapsed = time.perf_counter() - began
            del made  # freeing it is the caller's time
            gc.enable()
            if i:
                taken[name].append(elapsed)
    return {name: median(values) for name, values in taken.items()}


def report(
    title: str,
    contenders: Mapping[str, Callable[[], object]],
    goals: tuple[Goal, ...],
    nbytes: int = 0,
    rounds: int = 5,
    settle: Callable[[], object] = lambda: None,
) -> Rows:
    """Runs and prints one comparison; the contender called "torch2mlx" is ours."""
    print(f"\n{title}")
    found = seconds(contenders, rounds, settle)
    for name, value in found.items():
        rate = f"{nbytes / value / 1e9:7.2f} GB/s" if nbytes else ""
        print(f"  {name:34} {value * 1e3:9.2f} ms {rate}")
    rows: Rows = []
    for goal in goals:
        best = min(goal.peers, key=lambda name: found[name])
        ratio = found[best] / found["torch2mlx"]
        verdict = "reached" if ratio >= goal.ratio else "MISSED"
        print(f"  -> {ratio:6.2f} x {best} (goal {goal.ratio} x: {verdict})")
        rows.append({"case": title, "peer": best, "ratio": ratio, "goal": goal.ratio})
    return rows
