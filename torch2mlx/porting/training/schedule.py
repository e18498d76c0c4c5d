"""What may stand where: statements that must wait until a function was called."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner


def late(
    scan: Scanner, moved: Collection[int], place: int, block: list[Any], passed: Collection[int]
) -> list[int]:
    """Of the statements before `place`, beside those that move into the function called there and
    those to be passed over: the ones that read what it gives, or change what it reads."""
    known: set[str] = set()
    read: set[str] = set()  # by statements that run later than they stood
    found = []
    for i in range(place):
        if i in moved:
            known |= set(scan.stores(block[i]))
            read |= scan.loads(block[i])
        elif i in passed:
            continue
        elif scan.loads(block[i]) & known or set(scan.stores(block[i])) & read:
            found.append(i)
            known |= set(scan.stores(block[i]))
    return found


def needed(
    scan: Scanner, waiting: list[int], moved: Collection[int], loss: Any, block: list[Any]
) -> list[int]:
    """Of the waiting statements, those that cannot wait: what moves, or the loss, reads what they
    give, or they read a name that is given another value before the function ends."""
    return [i for i in waiting if _cannot_wait(scan, i, moved, loss, block)]


def _cannot_wait(
    scan: Scanner, place: int, moved: Collection[int], loss: Any, block: list[Any]
) -> bool:
    given = set(scan.stores(block[place]))
    after = [block[j] for j in sorted(moved) if j > place]
    anew = {n for s in after if isinstance(s, cst.SimpleStatementLine) for n in scan.stores(s)}
    if (scan.exposed(after) | (scan.loads(loss) - anew)) & given:
        return True
    before = {n for j in moved if j < place for n in scan.stores(block[j])}
    changed = {n for s in after for n in scan.stores(s)}
    return bool(scan.loads(block[place]) & before & changed)
