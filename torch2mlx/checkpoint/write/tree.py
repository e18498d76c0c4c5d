"""Small files, and whole trees of them: sources, pages, and what lies beside them."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from torch2mlx.checkpoint.write.replacing import Guard, check_parent, nobodys, settled
from torch2mlx.checkpoint.write.transaction import (
    commit,
    inherit,
    put_file,
    put_folder,
    remove,
    remove_old,
    staged_file,
    staged_folder,
    status,
    sync_folder,
    writing,
)
from torch2mlx.common.lock import FolderLock
from torch2mlx.errors import WriteError


class Link(str):
    """A symbolic link, by what it points at."""

    __slots__ = ()


#: Bytes; a file whose content, mode and times are taken; a link.
Content = bytes | Path | Link

#: Where names are streams of this process, as /dev/stdout is, and nothing is replaced.
_STREAMS = (Path("/dev"), Path("/dev/fd"))


def _same(place: Path, content: Content) -> bool:
    if isinstance(content, Link):
        return place.is_symlink() and os.readlink(place) == content
    if not place.is_file():
        return False
    if isinstance(content, Path):
        return filecmp.cmp(place, content, shallow=False)
    return place.stat().st_size == len(content) and place.read_bytes() == content


def _fill(fd: int, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    else:
        with content.open("rb") as source, os.fdopen(os.dup(fd), "wb") as copy:
            shutil.copyfileobj(source, copy)
        # the stubs know no descriptors, which os.utime and os.chmod take
        shutil.copystat(content, fd)  # type: ignore[arg-type]
    os.fsync(fd)


def check_small(path: Path, content: Content, guard: Guard, ours: Callable[[Path], bool]) -> bool:
    """Whether a small file has to be written. Raises WriteError when it must not be."""
    link = isinstance(content, Link)
    place = path if link else settled(path)
    if not link:
        guard.refuse_source(place)
    with suppress(OSError):
        if _same(place, content):
            return False
    guard.check_file(place, ours)
    return True


def write_small(
    path: Path, content: Content, guard: Guard, ours: Callable[[Path], bool] = nobodys
) -> None:
    """Writes a small file whole, unless it has that content already.

    Raises WriteError when it would replace something that is not `ours`, without force, and when
    it cannot be written; it then is what it was.
    """
    with writing(path):
        if path.parent in _STREAMS and isinstance(content, bytes):
            path.write_bytes(content)
        else:
            _write_small(path, content, guard, ours)


def _write_small(path: Path, content: Content, guard: Guard, ours: Callable[[Path], bool]) -> None:
    if not _placed(path, content, guard, ours):
        return
    if isinstance(content, Link):
        remove(path)
        os.symlink(content, path)
        return
    place = settled(path)
    like = status(place)
    with staged_file(place, like) as staged:
        _fill(staged.fd, content)
        inherit(staged.fd, like)
        with FolderLock(place.parent) as lock:
            lock.acquire()
            if check_small(place, content, guard, ours):
                commit(staged, put_file, ())


def _placed(path: Path, content: Content, guard: Guard, ours: Callable[[Path], bool]) -> bool:
    """`check_small`, and that there is a folder to write in."""
    check_parent(path)
    if not check_small(path, content, guard, ours):
        return False
    if not isinstance(content, Link):
        check_parent(settled(path))
    return True


def check_one(
    path: Path, content: Content, guard: Guard, ours: Callable[[Path], bool] = nobodys
) -> bool:
    """Whether `write_small` would write. Raises WriteError where it would, before it writes."""
    stream = path.parent in _STREAMS and isinstance(content, bytes)
    with writing(path):
        return stream or _placed(path, content, guard, ours)


def check_tree(target: Path, files: Mapping[Path, Content], guard: Guard) -> list[Path]:
    """The files that `write_tree` would write. Raises WriteError where it would, before it does."""
    with writing(target):
        folder = settled(target)
        if os.path.lexists(folder) and not folder.is_dir():
            raise WriteError(f"{target}: is a file")
        return [p for p in files if check_small(folder / p, files[p], guard, nobodys)]


def write_tree(target: Path, files: Mapping[Path, Content], guard: Guard) -> None:
    """Writes files under a folder, by their paths in it: all at once where the folder is new.

    Into a folder that is there each file is written whole, after all were found to replace
    nothing of the user's. Raises WriteError.
    """
    with writing(target):
        _write_tree(target, files, guard)


def _write_tree(target: Path, files: Mapping[Path, Content], guard: Guard) -> None:
    folder = settled(target)
    if not os.path.lexists(folder):
        _make_tree(folder, files)
        return
    for path in check_tree(target, files, guard):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_small(folder / path, files[path], guard)


def _make_tree(folder: Path, files: Mapping[Path, Content]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_parent(folder)
    with staged_folder(folder) as staged:
        for path, content in files.items():
            place = staged.path / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                os.symlink(content, place)
                continue
            fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                _fill(fd, content)
            finally:
                os.close(fd)
        with FolderLock(folder.parent) as lock:
            lock.acquire()
            if os.path.lexists(folder):
                raise WriteError(f"{folder}: has been made by somebody else meanwhile")
            sync_folder(staged.path)
            commit(staged, put_folder, [lambda: remove_old(staged)])
