"""One writer at a time in a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path

#: How names of temporary files and folders end.
TEMPORARY = ".t2m-tmp"

_MAX_NAME = 200  # of the 255 bytes that file systems allow


def hidden(target: Path, rest: str) -> Path:
    """A hidden name beside a target: `.<its name>.<rest>`, of a digest where that is too long."""
    name = os.fsencode(target.name)
    kept = target.name if len(name) <= _MAX_NAME else hashlib.sha256(name).hexdigest()[:32]
    return target.parent / f".{kept}.{rest}"


class FolderLock:
    """Keeps other writers out of a folder, as a context that is entered unlocked.

        with FolderLock(folder) as lock:
            lock.acquire()

    The lock is flock's, on the folder itself: a killed writer leaves nothing behind, and a folder
    that is reached by two paths is one. `held` stays False in a temporary folder, which is its
    writer's alone, and where the file system has no such locks: the writer goes on without.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._fd, self.held = folder, -1, False

    def __enter__(self) -> FolderLock:
        return self

    def acquire(self) -> None:
        """Waits for the folder. Raises OSError when it does not exist."""
        if self._folder.name.endswith(TEMPORARY):
            return
        while not self.held:
            try:
                self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except PermissionError:  # a folder that may be written and not listed
                return
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            except OSError:
                self._release()
                return
            self.held = True
            found, now = os.fstat(self._fd), os.stat(self._folder)
            if (found.st_dev, found.st_ino) != (now.st_dev, now.st_ino):
                self._release()  # another writer has put a new folder there meanwhile

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        """Unlocks, for forked children too, which share the descriptor."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        held, self.held = self.held, False
        release(fd, held)


def release(fd: int, locked: bool = True) -> None:
    """Unlocks and closes a descriptor, all of whose content is synced: nothing depends on it."""
    try:
        if locked:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        with suppress(OSError):
            os.close(fd)
