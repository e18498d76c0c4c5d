"""Which programs of saved translations may run without a question: those that this user wrote.

A folder that `translate` wrote holds a program, model.py, which loading runs. Digests of what
this user's own translations wrote are kept in the user's state directory, never beside the
program: an empty file for each, named by the digest. Whatever else is a stranger's program.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import warnings
from pathlib import Path

from torch2mlx.common import options
from torch2mlx.errors import UntrustedCodeError

#: Digests that are kept; the oldest go first.
MAX_KEPT = 1000
PROGRAM = "model.py"


def state_folder() -> Path:
    """Where digests are kept. Raises RuntimeError where the user has no home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):
        base = Path(given)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path.home() / ".local" / "state"
    return base / "torch2mlx" / "translations"


def _read(folder: Path) -> tuple[bytes, str]:
    """A folder's program, and the digest of it and of every other Python file beside it."""
    program, whole = b"", hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes() if path.is_file() else b"\0"  # no FIFO is waited for
        whole.update(f"{path.name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        if path.name == PROGRAM:
            program = content
    return program, whole.hexdigest()


def remember(folder: Path) -> None:
    """Keeps the digest of a folder that was just written; where that fails, a warning says why, to
    the caller of who writes."""
    try:
        kept = state_folder()
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = kept / _read(folder)[1]
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(name)
        _forget_oldest(kept)
    except (OSError, RuntimeError) as error:
        unknown = (
            f"{folder}: that you wrote it cannot be noted ({error}), so loading it will need "
            f"{options.given('trust_remote_code', True)}"
        )
        warnings.warn(unknown, UserWarning, stacklevel=3)


def _forget_oldest(kept: Path) -> None:
    with os.scandir(kept) as entries:
        by_age = sorted((e.stat(follow_symlinks=False).st_mtime, e.path) for e in entries)
    for _, path in by_age[: max(0, len(by_age) - MAX_KEPT)]:
        Path(path).unlink(missing_ok=True)


def _known(digest: str) -> bool:
    try:
        found = (state_folder() / digest).lstat()
    except (OSError, RuntimeError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()


def program(folder: Path, trusted: bool) -> bytes:
    """The source of a folder's model.py, to be run: only if `trusted` or written by this user.

    Raises UntrustedCodeError otherwise.
    """
    source, digest = _read(folder)
    if not trusted and not _known(digest):
        raise UntrustedCodeError(
            f"{folder / PROGRAM}: is a program that your own translate did not write, or that was "
            f"changed since, and loading runs it: read it, then pass "
            f"{options.given('trust_remote_code', True)}"
        )
    return source
