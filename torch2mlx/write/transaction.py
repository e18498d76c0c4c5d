"""Files that are absent, old or complete at every moment, whatever stops the process.

New content goes to a temporary file in the target's folder, is synced, and takes the target's
name in one rename. A temporary file is locked while its writer lives, so that the next
conversion into the folder can tell what a killed one left behind, and remove it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from torch2mlx import _core
from torch2mlx.errors import ConversionError

_SUFFIX = ".t2m-tmp"


def _temporary_name(target: Path) -> re.Pattern[str]:
    return re.compile(re.escape(f".{target.name}.") + r"\w+" + re.escape(_SUFFIX))


def _new_name(target: Path) -> Path:
    return target.parent / f".{target.name}.{secrets.token_hex(8)}{_SUFFIX}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def sweep(target: Path) -> None:
    """Removes what killed conversions into `target` left beside it; living ones keep theirs."""
    pattern = _temporary_name(target)
    with suppress(OSError):
        for path in target.parent.iterdir():
            if pattern.fullmatch(path.name):
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    except BlockingIOError:
        pass  # its writer is alive
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Makes renames in a folder last through a power failure."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some file systems cannot sync folders; the rename is atomic all the same
    finally:
        os.close(fd)


def writing_error(target: Path, error: OSError) -> ConversionError:
    """A failed write as an error that says what was being written and why it failed."""
    return ConversionError(f"{target}: cannot be written: {error.strerror or error}")


@contextmanager
def _temporary(target: Path, make: Callable[[Path], int]) -> Iterator[tuple[int, Path]]:
    """A locked path beside `target`, opened by `make`; gone afterwards unless renamed."""
    sweep(target)
    path = _new_name(target)
    try:
        fd = make(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd, path
        finally:
            os.close(fd)
    except OSError as error:
        raise writing_error(target, error) from error
    finally:
        _remove(path)


def _make_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _make_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def temporary_file(target: Path) -> AbstractContextManager[tuple[int, Path]]:
    """(file descriptor, path) of a new file beside `target`; gone afterwards unless renamed."""
    return _temporary(target, _make_file)


def temporary_folder(target: Path) -> AbstractContextManager[tuple[int, Path]]:
    """(descriptor, path) of a new folder beside `target`; gone afterwards unless renamed."""
    return _temporary(target, _make_folder)


def swap_folder(new: Path, target: Path) -> None:
    """Puts the folder `new` in the place of `target`, which may exist.

    In one step where the system can exchange two names; elsewhere the old folder is moved aside
    first. The old content ends up under `new`'s name, or is removed.
    """
    if not target.exists():
        os.rename(new, target)
    elif not _core.exchange(os.fspath(new), os.fspath(target)):
        aside = _new_name(target)
        os.rename(target, aside)
        try:
            os.rename(new, target)
        except OSError:
            os.rename(aside, target)
            raise
        _remove(aside)
    sync_folder(target.parent)
