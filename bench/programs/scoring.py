"""One program, ported by a tool and judged: which of three grades its port reaches."""

from __future__ import annotations

import ast
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch2mlx import verify_training
from torch2mlx.errors import Torch2MLXError
from torch2mlx.lockstep.result import TrainingVerification

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
#: Programs of tests/porting/scripts that take part: functions `build` and `run` there.
PRESENT = (
    *("byol", "closures", "flow", "gat", "groups", "lora"),
    *("packed_lstm", "ppo", "quantizer", "style", "wgan"),
)
_RUN = """

if __name__ == "__main__":
    made = build()
    print(run(*(made if isinstance(made, tuple) else (made,))))
"""
#: Steps that are compared, and seconds that a port and each run of a program may take.
STEPS, PATIENCE = 100, 900.0
#: Causes that say that the port's first step never was.
_NO_STEP = ("parameters", "steps")
GRADES = (
    "nothing that runs",
    "it imports, and its shapes hold to the first update",
    "the numbers of its first step are torch's",
    "its whole curve is torch's",
)


@dataclass(frozen=True)
class Score:
    """What became of a program: its grade (0 to 3), steps that were compared, and why no more."""

    name: str
    about: str
    grade: int
    steps: int
    why: str
    seconds: int

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON has it."""
        return asdict(self)


def programs() -> dict[str, str]:
    """The text of all programs, by name."""
    found = {path.stem: path.read_text() for path in SCRIPTS.glob("*.py")}
    present = HERE.parent.parent / "tests" / "porting" / "scripts"
    found.update({name: (present / f"{name}.py").read_text() + _RUN for name in PRESENT})
    return dict(sorted(found.items()))


def scored(name: str, text: str, tool: str, folder: Path, steps: int = STEPS) -> Score:
    """Ports a program with a tool and compares the two trainings.

    `tool` is a command with {source} and {target} in it.
    """
    began, about = time.monotonic(), (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    source, target = folder / f"{name}.py", folder / f"{name}_mlx.py"
    source.write_text(text)
    grade, compared, why = 0, 0, _ported(tool, source, target)
    if not why:
        try:
            found = verify_training(source, target, steps=steps, timeout=PATIENCE)
        except Torch2MLXError as error:
            why = str(error)
        else:
            grade, compared = graded(found), len(found.steps)
            why = str(found.first or "")
    return Score(name, about, grade, compared, _short(why), round(time.monotonic() - began))


def graded(found: TrainingVerification) -> int:
    """The grade of a comparison."""
    first = found.first
    if first is None:
        return 3
    if first.step > 1:
        return 2
    return 0 if first.kind in _NO_STEP or not found.steps else 1


def _ported(tool: str, source: Path, target: Path) -> str:
    """Runs a tool; why there is nothing that could run, or ""."""
    words = [word.format(source=source, target=target) for word in shlex.split(tool)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the tool did not end: {error}"
    if done.returncode:
        return f"the tool failed: {_last(done.stderr)}"
    if not target.is_file():
        return "the tool wrote nothing"
    try:
        ast.parse(target.read_text())
    except SyntaxError as error:
        return f"what the tool wrote is no Python: {error.msg} in line {error.lineno}"
    return ""


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["without a word"])[-1]


def _short(text: str) -> str:
    lines = [line.strip() for line in text.replace("|", "/").splitlines() if line.strip()]
    if len(lines) > 1:
        lines = [lines[0], lines[-1]]
    joined = " ... ".join(lines)
    return joined if len(joined) <= 240 else f"{joined[:237]}..."


def table(scores: Sequence[Score]) -> str:
    """A row for each program, as Markdown."""
    rows = [
        "| program | about | grade | steps | first difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for s in scores:
        rows.append(f"| `{s.name}` | {s.about} | {s.grade} | {s.steps} | {s.why} |")
    return "\n".join(rows)


def headline(scores: Sequence[Score]) -> str:
    """How many programs reach each grade."""
    reached = [sum(score.grade >= grade for score in scores) for grade in (1, 2, 3)]
    return (
        f"{len(scores)} programs: {reached[0]} reach grade 1, {reached[1]} grade 2, "
        f"{reached[2]} grade 3"
    )
