"""Conversions that are stopped at every system call of theirs, and what they must leave."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torch2mlx import _core, convert, load_converted, revert
from torch2mlx.errors import ConversionError

STATE = {
    "norm.weight": np.ones(4, np.float32),
    "norm.bias": np.ones(4, np.float32),
    "norm.running_mean": np.ones(4, np.float32),
    "norm.running_var": np.ones(4, np.float32),
    "norm.num_batches_tracked": np.array(3),
    "big": np.arange(20_000, dtype=np.float32),
}
CHANGED = {**STATE, "big": STATE["big"] + 1, "norm.num_batches_tracked": np.array(4)}
#: No counter, so no sidecar.
PLAIN = {"big": STATE["big"] + 2}
STATES = (STATE, CHANGED, PLAIN)

#: What a writer asks of the system and changes by. (`_core.exchange` answers where it cannot.)
CHANGES = (
    *(
        (os, name)
        for name in ("open", "write", "pwrite", "fsync", "rename", "link", "unlink", "rmdir")
    ),
    *((os, name) for name in ("mkdir", "fchmod")),
    (fcntl, "flock"),
    (_core, "write"),
    (_core, "exchange"),
)
#: And what it asks only.
CALLS = (*CHANGES, *((os, name) for name in ("close", "fstat", "stat", "lstat", "access")))
KINDS = ("error", "interrupt before", "interrupt after", "kill")


def leftovers(folder: Path) -> list[str]:
    """Hidden files: what a writer that was stopped has left."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def held(path: Path) -> int | None:
    """Which of STATES a target holds whole, with its sidecar; None where there is no target."""
    if not path.exists():
        return None
    which = int(load_converted(path, framework="numpy")["big"][0])
    state = revert(path, framework="numpy")
    assert set(state) == set(STATES[which])
    for key, value in STATES[which].items():
        np.testing.assert_array_equal(state[key], value)
    return which


@contextmanager
def stopped(at: int, kind: str, calls: Any = CHANGES):
    """The call number `at` from now on fails as `kind` says; yields a list of the calls made.

    An interrupt after a `close` comes before it instead: shutil.rmtree closes once more then.
    """
    made: list[str] = []

    def stopping(module: Any, name: str) -> Any:
        real = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if len(made) - 1 != at:
                return real(*args, **kwargs)
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "error":
                if name == "exchange":
                    return False
                raise OSError(errno.EIO, "injected")
            try:
                if kind == "interrupt after" and name != "close":
                    real(*args, **kwargs)
            finally:
                raise KeyboardInterrupt

        return real, call

    before = [(module, name, *stopping(module, name)) for module, name in calls]
    for module, name, _, call in before:
        setattr(module, name, call)
    try:
        yield made
    finally:
        for module, name, real, _ in before:
            setattr(module, name, real)


@dataclass(frozen=True)
class Case:
    """A conversion of STATES[new] over that of STATES[old], in a folder of its own each time."""

    old: int | None
    new: int
    name: str
    calls: Any = CHANGES

    def prepared(self, folder: Path) -> Path:
        folder.mkdir()
        target = folder / self.name
        if self.old is not None:
            convert(STATES[self.old], target)
        return target

    def count(self, folder: Path) -> int:
        """How many calls the conversion makes."""
        target = self.prepared(folder)
        with stopped(-1, "", self.calls) as made:
            convert(STATES[self.new], target)
        return len(made)

    def stop(self, folder: Path, at: int, kind: str) -> None:
        """Stops the conversion, and asserts what is left, what was said, and that the next one
        leaves nothing behind."""
        target = self.prepared(folder)
        if kind == "kill":
            self._kill(target, at)
        else:
            self._stop(target, at, kind)
        convert(STATES[1], target)
        assert held(target) == 1
        assert leftovers(folder) == []

    def _kill(self, target: Path, at: int) -> None:
        child = os.fork()
        if child == 0:
            with stopped(at, "kill", self.calls):
                convert(STATES[self.new], target)
            os._exit(0)
        os.waitpid(child, 0)
        if self.old is not None and not target.exists():  # between the two steps of a swap
            with pytest.raises(KeyboardInterrupt):
                convert(STATES[self.new], target, progress=interrupt)
            assert held(target) == self.old
        assert held(target) in (self.old, self.new)

    def _stop(self, target: Path, at: int, kind: str) -> None:
        try:
            with stopped(at, kind, self.calls):
                report = convert(STATES[self.new], target)
            assert held(target) == self.new, "it said that it was done"
            assert kind == "error"
            assert "cannot be written" not in " ".join(report.notes)
        except ConversionError as error:
            assert kind == "error"
            assert held(target) == self.old, f"not true: {error}"
        except KeyboardInterrupt as stop:
            assert kind.startswith("interrupt")
            late = "written completely" in str(stop)
            assert held(target) == (self.new if late else self.old), f"not true: {stop}"


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


CASES = (
    Case(None, 0, "out.safetensors"),
    Case(0, 1, "out.safetensors"),
    Case(0, 2, "out.safetensors"),
    Case(2, 0, "out.safetensors"),
    Case(None, 0, "folder"),
    Case(0, 1, "folder"),
)
