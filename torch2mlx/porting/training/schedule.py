"""What may stand where: statements that must wait until a function was called."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.traversal import children


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


def leading(scan: Scanner, places: Sequence[int], old: Sequence[Any]) -> list[int]:
    """Some statements, and those before them that give what they read."""
    found, read = set(places), set[str]()
    for i in range(max(places, default=-1), -1, -1):
        if i in found or read.intersection(scan.stores(old[i])):
            found.add(i)
            read |= scan.loads(old[i])
    return sorted(found)


def left_by(statement: Any, loops: bool = False) -> str:
    """The word by which a statement leaves the block it stands in, if it does."""
    words = {cst.Return: "return", cst.Continue: "continue", cst.Break: "break"}
    word = words.get(statement.__class__, "")
    if word == "return" or (word and not loops):
        return word
    if any(isinstance(part, cst.Yield) for part in children(statement)):
        return "yield"
    if isinstance(statement, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
        return ""
    within = loops or isinstance(statement, (cst.For, cst.While))
    return next((w for part in children(statement) if (w := left_by(part, within))), "")
