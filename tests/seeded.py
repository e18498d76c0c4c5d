"""Programs that are written at random, by number: each is judged in a process of its own."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.processes import Ended, side_by_side

#: What a program may turn out to be.
RIGHT, REFUSED, WRONG, BROKEN = "right", "refused", "wrong", "another error"
UNRUN, UNSTABLE, SLOW = "not run by torch", "incomparable", "too slow"


def _work(judge: Callable[[int], tuple[str, str]], seed: int, out: Any) -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    out.send((seed, *judge(seed)))


def main(
    name: str,
    about: str,
    source: Callable[[int], str],
    judge: Callable[[int], tuple[str, str]],
    seconds: float,
) -> int:
    """Runs what the command line asks for; 1 when a program is wrong or ends in another error.

    `source` gives the text of a seed, `judge` its verdict with a reason, in `seconds` at most.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--beside", type=int, default=2, help="processes side by side")
    parser.add_argument("--show", type=int, help="print the text of this seed alone")
    options = parser.parse_args()
    if options.show is not None:
        print(source(options.show))
        return 0
    counts: Counter[str] = Counter()
    seeds = range(options.first, options.first + options.count)
    for seed, found in side_by_side(seeds, partial(_work, judge), seconds, options.beside):
        if not isinstance(found, Ended):
            _, verdict, why = found
        elif found.late:
            verdict, why = SLOW, ""
        elif found.code:
            verdict, why = BROKEN, f"the process ended with {found.code}"
        else:
            continue
        counts[verdict] += 1
        if verdict not in (RIGHT, UNRUN):
            print(seed, verdict, " ".join(why.split())[:300], file=sys.stderr, flush=True)
    told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"{name}: {options.count}: {told}")
    return 1 if counts[WRONG] or counts[BROKEN] else 0
