"""Driver: a script of torch is run for a few steps, and what its names held answers questions.

port -> questions -> a copy of the script's folder runs, in a process of its own, under a recorder
of types -> the answers -> port again. Nothing runs unless it is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from torch2mlx.errors import PortError
from torch2mlx.lockstep.children import NO_CARD, quietly
from torch2mlx.lockstep.scripts import leave, run
from torch2mlx.porting.questions import Seen

PortResult = Any  # porter's, which uses this module
#: Updates of optimizers after which a run ends, and how long it may take, in s.
STEPS, TIMEOUT = 3, 300.0
#: Files of more bytes than this are linked into the copy, not copied.
_COPIED = 1 << 20


def with_run(
    result: PortResult, args: Sequence[str], again: Callable[[Mapping[str, str]], PortResult]
) -> PortResult:
    """`result`, ported again with what a run of its script tells; `seen` has what rests on it.

    The script runs, with this user's rights, in a copy of its folder. `args` are its arguments;
    `again` ports with answers. Raises PortError where there is no script, or its run fails before
    it tells anything.
    """
    script = Path(result.path)
    if script.suffix != ".py" or not script.is_file():
        raise PortError(f"{script}: is run to see what its names hold, and is no .py file")
    if not result.questions:
        return result
    held = observed(script, args)
    answers: dict[str, str] = {}
    seen: dict[str, Seen] = {}
    while True:  # an answer may lead to further questions
        new = {q.id: kind for q in result.questions if (kind := _choice(q, held.get(q.id, [])))}
        new = {name: kind for name, kind in new.items() if name not in answers}
        if not new:
            return replace(result, seen=tuple(sorted(seen.values(), key=lambda s: s.line)))
        lines = {q.id: q.line for q in result.questions}
        seen |= {name: Seen(name, lines[name], kind) for name, kind in new.items()}
        answers |= new
        result = again(answers)


def _choice(question: Any, kinds: Sequence[str]) -> str:
    """The one answer that what was seen allows; "" where there was nothing, or more than one."""
    moved = "tensor" in question.choices  # else it is asked who is trained, and no loss is
    words = {"loss": "module" if moved else "other"}
    told = [words.get(kind, kind) for kind in kinds]
    found = {kind if kind in question.choices else "other" for kind in told}
    return found.pop() if len(found) == 1 else ""


def observed(script: Path, args: Sequence[str], timeout: float = TIMEOUT) -> dict[str, list[str]]:
    """What the names of a script's functions and classes held in a run, by ids of questions."""
    with tempfile.TemporaryDirectory(prefix="torch2mlx-") as name:
        folder = Path(name) / "copy"
        _copied(script.resolve().parent, folder)
        out = Path(name) / "seen.json"
        job = {"script": str(folder / script.name), "args": list(args), "out": str(out)}
        lines = quietly("torch2mlx.port_runner", [json.dumps(job)], timeout, NO_CARD, folder)
        if lines is None:
            raise PortError(f"{script}: not ready after {timeout:.0f} s; give it less to do")
        told = "\n".join(lines[-8:])
        if not out.exists():
            raise PortError(f"{script}: its run told nothing:\n{told}")
        found = json.loads(out.read_text())
        if found["failure"] and not found["steps"]:
            raise PortError(f"{script}: its run failed: {found['failure']}\n{told}")
        return dict(found["held"])


def _copied(source: Path, target: Path) -> None:
    """A copy of a folder, in which large files are links to the originals."""

    def place(old: str, new: str) -> str:
        if os.path.getsize(old) > _COPIED:
            os.symlink(old, new)
            return new
        return str(shutil.copy2(old, new))

    hidden = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(source, target, ignore=hidden, copy_function=place, symlinks=True)


class Recorder:
    """Notes the kinds of what functions of one file held when they returned; nothing else."""

    def __init__(self, script: Path) -> None:
        import numpy as np
        import torch

        self._file, self.steps = str(script), 0
        self._kinds = (
            ("tensor", torch.Tensor),
            ("numpy", np.ndarray),
            ("module", torch.nn.Module),
        )
        self.held: dict[str, set[str]] = {}

    def kind(self, value: Any) -> str:
        """The word for what a value is."""
        word = next((word for word, kind in self._kinds if isinstance(value, kind)), "other")
        return "loss" if word == "module" and next(value.parameters(), None) is None else word

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What Python calls when a function is called and when it returns."""
        if event in ("call", "return") and frame.f_code.co_filename == self._file:
            self.look(frame)

    def look(self, frame: FrameType) -> None:
        """Notes what the names of a frame hold, and the attributes of its `self`."""
        place = self._place(frame)
        for name, value in list(frame.f_locals.items()):
            self._note(f"{place}.{name}" if place else name, value)
        owner = frame.f_locals.get("self")
        for kind in type(owner).__mro__[:-1] if owner is not None else ():
            for name, value in self._attributes(owner):
                self._note(f"{kind.__name__}.{name}", value)

    def _place(self, frame: FrameType) -> str:
        """A function as questions name it: `f`, `Class.method`, `outer/inner`."""
        code = frame.f_code
        if code.co_name == "<module>":
            return ""
        if sys.version_info >= (3, 11):
            return code.co_qualname.replace(".<locals>.", "/")
        owner = frame.f_locals.get("self")
        return code.co_name if owner is None else f"{type(owner).__name__}.{code.co_name}"

    def _attributes(self, owner: Any) -> Iterator[tuple[str, Any]]:
        held = dict(getattr(owner, "__dict__", {}))
        for part in ("_parameters", "_buffers", "_modules"):
            inner = held.pop(part, None)
            yield from inner.items() if isinstance(inner, dict) else ()
        yield from held.items()

    def _note(self, identifier: str, value: Any) -> None:
        if value is not None:
            self.held.setdefault(identifier, set()).add(self.kind(value))


def main(argv: Sequence[str]) -> None:
    """Runs one script under the recorder: the job as JSON."""
    job = json.loads(argv[0])
    recorder = Recorder(Path(job["script"]))

    def finish(failure: str) -> None:
        sys.setprofile(None)
        held = {name: sorted(kinds) for name, kinds in recorder.held.items()}
        found = {"held": held, "failure": failure, "steps": recorder.steps}
        Path(job["out"]).write_text(json.dumps(found))
        leave()

    def stepped(*_: Any) -> None:
        recorder.steps += 1
        if recorder.steps >= STEPS:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None:  # functions that have not returned yet
                if frame.f_code.co_filename == job["script"]:
                    recorder.look(frame)
                frame = frame.f_back
            finish("")

    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(stepped)
    sys.setprofile(recorder)
    run(Path(job["script"]), job["args"], finish)


if __name__ == "__main__":
    main(sys.argv[1:])
