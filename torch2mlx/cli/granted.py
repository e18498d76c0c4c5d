"""The folders that an agent was granted, and a guard that nothing outside them is opened.

The guard is an audit hook: Python tells it of every file that is opened, listed, made or renamed,
by this package, its C core and the libraries that are written in Python. It stands in the way of
mistakes and of paths that lead out by links; it is no jail for a program that is run on purpose.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch2mlx.common.trust import state_folder
from torch2mlx.errors import NotGrantedError

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Events of files, and which of their arguments are paths that are read or written.
_READ = {"os.listdir": (0,), "os.scandir": (0,), "os.chdir": (0,), "os.walk": (0,)}
_WRITTEN = {
    **{f"os.{name}": (0,) for name in ("mkdir", "remove", "rmdir", "truncate", "chmod", "chown")},
    **{f"os.{name}": (0,) for name in ("utime", "setxattr", "removexattr", "mkfifo", "mknod")},
    **{"os.rename": (0, 1), "os.link": (0, 1), "os.symlink": (1,)},
}
#: What libraries read of the system to know the machine.
_SYSTEM = ("/sys", "/proc", "/dev/null", "/dev/urandom", "/usr/share/zoneinfo", "/etc/localtime")


@dataclass(frozen=True)
class Granted:
    """The `roots`, real paths of folders, and whether programs of theirs may be `running`."""

    roots: tuple[Path, ...]
    running: bool = False
    _read: tuple[str, ...] = field(default_factory=lambda: tuple(_libraries()))
    _written: tuple[str, ...] = field(default_factory=lambda: tuple(_notes()))

    def has(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path leads into one of the folders, whatever links it goes through."""
        real = Path(os.path.realpath(path))
        return any(root == real or root in real.parents for root in self.roots)

    def check(self, path: str | os.PathLike[str]) -> None:
        """Raises NotGrantedError for a path that leads out."""
        if "\0" in os.fspath(path):
            raise NotGrantedError(f"{os.fspath(path)!r}: a path has no NUL in it")
        if not self.has(path):
            raise NotGrantedError(self._outside(path))

    def check_whole(self, folder: str | os.PathLike[str]) -> None:
        """Raises NotGrantedError for a folder that has a link which leads out."""
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = os.path.join(place, name)
                if os.path.islink(path) and not self.has(path):
                    raise NotGrantedError(self._outside(path))

    def enforce(self) -> None:
        """From now on, to the end of this process, nothing outside is opened by Python."""
        with suppress(OSError, RuntimeError):
            state_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        sys.addaudithook(self._watch)

    def _outside(self, path: object) -> str:
        shown = ", ".join(map(str, self.roots))
        return (
            f"{path}: leads outside the folders that were granted ({shown}); use a path in them, "
            "or grant its folder with another --root"
        )

    def _watch(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args[0], args[1] or "", args[2] or 0
            writes = bool(flags & _WRITING) or bool(set(mode) & set("wax+"))
            self._decide(path, self._may_write if writes else self._may_read)
        elif event in _READ:
            for place in _READ[event]:
                self._decide(args[place], self._may_read)
        elif event in _WRITTEN:
            for place in _WRITTEN[event]:
                self._decide(args[place], self._may_write)

    def _decide(self, path: Any, may: Callable[[str], bool]) -> None:
        if path is None or isinstance(path, int):  # the current folder; what is open already
            return
        text = os.fsdecode(path)
        if not may(text):
            raise NotGrantedError(self._outside(text))

    def _may_write(self, path: str) -> bool:
        return self.has(path) or _inside(os.path.realpath(path), self._written)

    def _may_read(self, path: str) -> bool:
        return self._may_write(path) or _inside(os.path.realpath(path), self._read)


def _inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _libraries() -> Iterator[str]:
    """Where Python's own files and those of libraries are, and the package's."""
    yield from _SYSTEM
    here = Path(__file__).resolve().parents[1]
    given = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(here), *map(str, sys.path)]
    yield from {os.path.realpath(path) for path in given if path and os.path.exists(path)}


def _notes() -> Iterator[str]:
    """What is written beside: digests of this user's translations, and temporary files."""
    yield os.devnull
    yield os.path.realpath(tempfile.gettempdir())
    with suppress(RuntimeError):
        yield os.path.realpath(state_folder())
