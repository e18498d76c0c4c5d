"""Files and folders that are absent, old or complete at every moment, whatever stops the process.

New content goes to a temporary file in the target's folder, is synced, and takes the target's
name in one rename: the commit. A temporary file is locked while its writer lives, so that the
next conversion into the folder can tell what a killed one left behind, and remove it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from torch2mlx import _core
from torch2mlx.common.lock import TEMPORARY, FolderLock, hidden, release
from torch2mlx.errors import WriteError

_OLD = ".t2m-old"
#: What file systems answer that cannot sync folders; a rename is atomic there all the same.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_Identity = tuple[int, int]


def _identity(place: Path | int) -> _Identity | None:
    """Device and inode of a path or descriptor, None for what is not there."""
    with suppress(OSError):
        found = os.fstat(place) if isinstance(place, int) else os.lstat(place)
        return found.st_dev, found.st_ino
    return None


@dataclass(frozen=True)
class Staged:
    """A new file or folder under a temporary name beside its target, open as `fd`."""

    target: Path
    path: Path
    fd: int

    def is_in_place(self) -> bool:
        """Whether the target is this very file: to be asked after a rename that was stopped."""
        return _identity(self.target) == _identity(self.fd)


#: Targets on the verge of their commit, for whoever has to tell what an interrupt left.
_announced: ContextVar[list[tuple[Path, _Identity | None]] | None]
_announced = ContextVar("announced", default=None)


@contextmanager
def watched() -> Iterator[Callable[[], list[Path]]]:
    """A function that names the targets written since, right at any moment."""
    outer = _announced.get()
    seen = [] if outer is None else outer
    first, token = len(seen), _announced.set(seen)
    try:
        yield lambda: [path for path, new in seen[first:] if new and _identity(path) == new]
    finally:
        _announced.reset(token)


@contextmanager
def truthful() -> Iterator[None]:
    """An interrupt that comes too late to stop a commit says so."""
    with watched() as written:
        try:
            yield
        except KeyboardInterrupt as error:
            done = written()
            if done and not error.args:
                raise KeyboardInterrupt(f"{done[-1]} was written completely before") from error
            raise


def remove(path: Path) -> None:
    """Removes a file, or a folder with all in it, which may be gone. Raises OSError."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _new_name(target: Path, suffix: str = TEMPORARY) -> Path:
    return hidden(target, f"{secrets.token_hex(8)}{suffix}")


def left_behind(target: Path, pattern: str) -> Iterator[Path]:
    """Files beside `target` that are named `hidden(target, pattern)`."""
    name = re.compile(re.escape(hidden(target, "").name) + pattern)
    with suppress(OSError):
        yield from (path for path in target.parent.iterdir() if name.fullmatch(path.name))


def sweep(target: Path) -> None:
    """Removes what killed conversions into `target` left beside it; living ones keep theirs.

    A folder that was moved aside and not yet replaced is put back. To be called under the lock of
    the target's folder: a writer makes and locks a temporary file within it.
    """
    for path in left_behind(target, r"\w+" + re.escape(_OLD)):
        with suppress(OSError):
            if not os.path.lexists(target):
                os.rename(path, target)
    for path in left_behind(target, rf"\w+({re.escape(TEMPORARY)}|{re.escape(_OLD)})"):
        with suppress(OSError):
            _sweep_one(path)


def _sweep_one(path: Path) -> None:
    kind = os.lstat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        return  # no writer makes others, and opening one may wait for ever
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
        remove(path)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Makes renames in a folder last through a power failure. Raises OSError where it fails."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def writing_error(target: Path, error: OSError) -> WriteError:
    """A failed write as an error that says what was being written and why it failed."""
    return WriteError(f"{target}: cannot be written: {error.strerror or error}")


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Within it, what the system refuses is a `writing_error`."""
    try:
        yield
    except OSError as error:
        raise writing_error(target, error) from error


def inherit(fd: int, like: os.stat_result | None) -> None:
    """Gives a new file the owner, group and mode of the one whose place it takes.

    A group that cannot be given gets no more than others get.
    """
    if like is None:
        return
    mode, now = stat.S_IMODE(like.st_mode), os.fstat(fd)
    if now.st_gid != like.st_gid:
        with suppress(OSError):
            os.fchown(fd, -1, like.st_gid)
    if now.st_uid != like.st_uid:
        with suppress(OSError):
            os.fchown(fd, like.st_uid, -1)
    now = os.fstat(fd)
    if now.st_gid != like.st_gid:
        mode &= ~0o070 | (mode & 0o007) << 3
    if stat.S_IMODE(now.st_mode) != mode:
        os.fchmod(fd, mode)


def status(*paths: Path) -> os.stat_result | None:
    """Owner and mode of the first path that is there; links have none of their own."""
    for path in paths:
        with suppress(OSError):
            found = os.lstat(path)
            if not stat.S_ISLNK(found.st_mode):
                return found
    return None


def _make_file(path: Path, mode: int | None) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o666 if mode is None else mode & 0o666 | 0o600)


def _make_folder(path: Path, mode: int | None) -> int:
    os.mkdir(path, 0o777 if mode is None else mode & 0o777 | 0o700)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def _staged(
    target: Path, make: Callable[[Path, int | None], int], like: os.stat_result | None
) -> Iterator[Staged]:
    """A locked path beside `target`, opened by `make`; gone afterwards unless put in place."""
    with truthful(), writing(target):
        path, fd = _new_name(target), -1
        try:
            with FolderLock(target.parent) as lock:
                lock.acquire()
                if lock.held:
                    sweep(target)
                fd = make(path, None if like is None else like.st_mode)
                with suppress(OSError):  # no locks here: nobody can sweep either
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Staged(target, path, fd)
        finally:
            if fd >= 0:
                release(fd)
            with suppress(OSError):  # the next conversion sweeps it
                remove(path)


def staged_file(target: Path, like: os.stat_result | None = None) -> AbstractContextManager[Staged]:
    """A new, empty file beside `target`; gone afterwards unless put in place.

    `like`: the file whose mode it will `inherit`; until then it is open to nobody else's eyes
    that could not see that one.
    """
    return _staged(target, _make_file, like)


def staged_folder(
    target: Path, like: os.stat_result | None = None
) -> AbstractContextManager[Staged]:
    """A new folder beside `target`; gone afterwards unless put in place."""
    return _staged(target, _make_folder, like)


def put_file(staged: Staged) -> None:
    """Gives a new file its target's name, in one step."""
    _announce(staged)
    os.rename(staged.path, staged.target)


def _announce(staged: Staged) -> None:
    seen, within = _announced.get(), staged.target.parent.name
    if seen is not None and not within.endswith(TEMPORARY):
        seen.append((staged.target, _identity(staged.fd)))


def put_folder(staged: Staged) -> None:
    """Gives a new folder its target's name; an old folder ends up under a temporary one.

    In one step where the system can exchange two names; elsewhere the old folder is moved aside
    first, from where `sweep` puts it back should the process die before the second step.
    """
    _announce(staged)
    new, target = os.fspath(staged.path), staged.target
    if not os.path.lexists(target):
        os.rename(new, target)
    elif not _core.exchange(new, os.fspath(target)):
        _put_in_two_steps(staged, _new_name(target, _OLD))


def _put_in_two_steps(staged: Staged, aside: Path) -> None:
    target = staged.target
    try:
        os.rename(target, aside)
        os.rename(staged.path, target)
    except BaseException:
        if not os.path.lexists(target) and os.path.lexists(aside):
            try:
                os.rename(aside, target)
            except OSError as error:
                raise WriteError(
                    f"{target}: cannot be written: {error.strerror}; what it was is {aside} now, "
                    "and the next conversion puts it back"
                ) from error
        raise


def remove_old(staged: Staged) -> None:
    """Removes what stood in the place of a folder."""
    for path in (staged.path, *left_behind(staged.target, r"\w+" + re.escape(_OLD))):
        remove(path)


def commit(
    staged: Staged, put: Callable[[Staged], None], after: Sequence[Callable[[], None]]
) -> tuple[str, ...]:
    """Puts `staged` in its place, then tidies up; returns what could not be tidied.

    Raises OSError or the interrupt as long as nothing has changed. Once `staged` is in place no
    error undoes it, and an interrupt waits until all is tidy.
    """
    notes: list[str] = []
    late: BaseException | None = None
    try:
        put(staged)
    except BaseException as error:
        if not staged.is_in_place():
            raise
        late = None if isinstance(error, OSError) else error
    for step in (*after, lambda: sync_folder(staged.target.parent)):
        late = _insist(step, notes) or late
    if late is not None:
        raise late
    return tuple(f"{staged.target} was written completely, but {note}" for note in notes)


def _insist(step: Callable[[], None], notes: list[str]) -> BaseException | None:
    """Runs a step that may be run twice; once more after an interrupt, which it returns."""
    late: BaseException | None = None
    for _ in range(2):
        try:
            step()
        except OSError as error:
            notes.append(f"{error.filename or 'its folder'}: {error.strerror or error}")
        except BaseException as error:
            late = error
            continue
        break
    return late
