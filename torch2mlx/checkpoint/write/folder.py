"""A folder that is replaced as a whole, with what its owner keeps in it."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from torch2mlx.checkpoint.write.replacing import Guard, check_parent
from torch2mlx.checkpoint.write.transaction import (
    commit,
    inherit,
    put_folder,
    remove_old,
    staged_folder,
    status,
    sync_folder,
)
from torch2mlx.common.amounts import listed
from torch2mlx.common.lock import FolderLock
from torch2mlx.common.options import given
from torch2mlx.errors import WriteError

#: What an entry of the old folder is: of an earlier write; the user's, but read together with what
#: is written; anything else.
Verdict = Literal["ours", "clash", "other"]


class Earlier(Protocol):
    """What is known of the earlier writes into a folder."""

    def __init__(self, folder: Path) -> None: ...

    def judge(self, path: Path) -> Verdict:
        """What an entry of the folder is."""


#: Answers of file systems that have no hard links, or not this one.
_NO_LINK = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


def check_folder(target: Path, guard: Guard) -> None:
    """Raises WriteError where no folder can be made, or exchanged for another."""
    check_parent(target)
    with FolderLock(target.parent) as lock:
        lock.acquire()
        _check_folder(target, guard)


def _check_folder(target: Path, guard: Guard) -> None:
    guard.refuse_around_source(target)
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise WriteError(f"{target}: is a file")
    with suppress(OSError):
        here = Path.cwd()
        if any(target.samefile(path) for path in (here, *here.parents)):
            raise WriteError(
                f"{target}: is the current folder, or holds it, and is replaced as a whole; "
                "name a folder in it, or go elsewhere"
            )
    if os.path.ismount(target):
        raise WriteError(f"{target}: is a mount point; name a folder in it")


def _refuse_foreign(
    target: Path, made: Mapping[str, Path | None], earlier: Earlier, guard: Guard
) -> None:
    """Raises WriteError when what the user has in `target` would be replaced or left out.

    `made`: the names of what is written, with the files that have their content, if any has.
    """
    lost = []
    for path in _entries(target):
        new, verdict = made.get(path.name), earlier.judge(path)
        if verdict != "clash" and path.name not in made:
            continue
        guard.refuse_source(path)
        if path.is_dir():
            raise WriteError(f"{path}: is a folder, in the way of a file")
        if verdict != "ours" and not (new is not None and _same(path, new)):
            lost.append(path)
    if lost and not guard.force:
        raise WriteError(
            f"{listed(lost, 3)}: not written by torch2mlx and would be "
            f"replaced; move it elsewhere, or pass {given('force', True)}"
        )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _same(a: Path, b: Path) -> bool:
    with suppress(OSError):
        return a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False)
    return False


def _carry_over(old: Path, new: Path, earlier: Earlier, guard: Guard) -> None:
    """Gives the new folder what the old one has beside things of an earlier write."""
    made = {path.name: path for path in _entries(new)}
    _refuse_foreign(old, made, earlier, guard)
    for path in _entries(old):
        if path.name not in made and earlier.judge(path) == "other":
            _link_all(path, new / path.name)
    weights = sorted(old.glob("model*.safetensors"))
    for name, path in made.items():
        _inherit(path, [old / name, *(weights if name.endswith(".safetensors") else ())])


def _inherit(path: Path, like: list[Path]) -> None:
    found = status(*like)
    if found is not None and path.is_file():
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            inherit(fd, found)
        finally:
            os.close(fd)


def _link_all(path: Path, new: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, new, symlinks=True, copy_function=_link)
    else:
        _link(os.fspath(path), os.fspath(new))


def _link(path: str, new: str, follow_symlinks: bool = False) -> str:
    """A second name of a file; a copy where the file system has no such thing."""
    try:
        os.link(path, new, follow_symlinks=follow_symlinks)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(path, new, follow_symlinks=False)
    return new


def check_replaced(
    target: Path, earlier: type[Earlier], guard: Guard, made: Mapping[str, Path | None]
) -> None:
    """Raises WriteError where `replaced` would at once."""
    check_folder(target, guard)
    with FolderLock(target.parent) as lock:
        lock.acquire()
        _refuse_foreign(target, made, earlier(target), guard)


@contextmanager
def replaced(
    target: Path, earlier: type[Earlier], guard: Guard, made: Mapping[str, Path | None]
) -> Iterator[tuple[Path, list[str]]]:
    """(a new folder to fill, notes): afterwards it is in the place of `target`.

    What lies in `target` is kept, unless `earlier` finds it to be ours. `made`: names that will be
    written, with files of their content where there are some. Raises WriteError when something of
    the user's would be replaced, at once or later; that, and an error within, leaves all as it was.
    Notes are added about what could not be tidied up.
    """
    check_replaced(target, earlier, guard, made)
    notes: list[str] = []
    with staged_folder(target, status(target)) as staged:
        yield staged.path, notes
        with FolderLock(target.parent) as lock, FolderLock(target) as within:
            lock.acquire()
            if target.is_dir():
                within.acquire()
                _carry_over(target, staged.path, earlier(target), guard)
            inherit(staged.fd, status(target))
            sync_folder(staged.path)
            notes += commit(staged, put_folder, [partial(remove_old, staged)])


def sync_file(path: Path) -> None:
    """Makes the content of a file last. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
