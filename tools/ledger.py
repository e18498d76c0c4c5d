"""The ledger of long measures: runs them, keeps what they gave, tells which are out of date.

    python -m tools.ledger run [STEP ...]   runs the named steps, or all, and writes their rows
    python -m tools.ledger check            fails when a row is older than the code it speaks of
    python -m tools.ledger page             writes docs/ledger.md anew

Steps are defined in tools/steps.py, what they gave is kept in docs/ledger.json, and
docs/ledger.md is made from the two.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timezone
from pathlib import Path

from tools.steps import STEPS, Step

ROOT = Path(__file__).resolve().parent.parent
KEPT, PAGE = ROOT / "docs" / "ledger.json", ROOT / "docs" / "ledger.md"
HEAD = """# Ledger

What takes too long for every change (`.ci/run` runs the rest) stands here with the day it last
ran and what it gave. `./dev full` runs the steps, all or those named, and writes their rows;
`./dev lint` fails when the last commit to the code that a row speaks of is younger than the row
by more days than the row allows, or when a step failed. A commit with a `+` had changes on top.

| step | measure | command | ran on | at commit | minutes | gave | speaks of | days allowed |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


class NoHistoryError(Exception):
    """The files are not a git checkout with its history."""


@dataclass(frozen=True)
class Row:
    """One run of a step: the day (UTC), the commit, how long (where known), how it ended."""

    ran: str
    commit: str
    seconds: int | None
    exit: int
    gave: str


def kept() -> dict[str, Row]:
    """Rows by the names of their steps."""
    return {name: Row(**row) for name, row in json.loads(KEPT.read_text()).items()}


def page(rows: Mapping[str, Row], steps: Sequence[Step]) -> str:
    """docs/ledger.md."""
    lines = [HEAD]
    for step in steps:
        if step.name in rows:
            row = rows[step.name]
            paths = ", ".join(f"`{path}`" for path in step.paths)
            gave = f"**failed** (exit code {row.exit}): {row.gave}" if row.exit else row.gave
            cells = [step.name, step.measure, f"`{step.command}`", row.ran, row.commit]
            minutes = "" if row.seconds is None else str(-(-row.seconds // 60))
            cells += [minutes, gave.replace("|", "/"), paths]
            lines.append(f"| {' | '.join([*cells, str(step.allowance)])} |\n")
    missing = [step.name for step in steps if step.name not in rows]
    if missing:
        lines.append(f"\nNot run yet: {', '.join(missing)}.\n")
    return "".join(lines)


def _git(root: Path, *words: str) -> str:
    try:
        ran = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NoHistoryError("git is not installed") from None
    except subprocess.CalledProcessError:
        raise NoHistoryError("this is not a git checkout") from None
    return ran.stdout.strip()


def last_touched(root: Path, paths: Sequence[str]) -> date | None:
    """The day (UTC) of the last commit to any of the paths; None when there is none.

    Raises NoHistoryError where git cannot know.
    """
    if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
        raise NoHistoryError("this is not a git checkout")
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise NoHistoryError("this clone is shallow")
    stamp = _git(root, "log", "-1", "--format=%ct", "--", *paths)
    return datetime.fromtimestamp(int(stamp), timezone.utc).date() if stamp else None


def faults(rows: Mapping[str, Row], steps: Sequence[Step], root: Path) -> Iterator[str]:
    """What is wrong with the rows, a line each. Raises NoHistoryError as `last_touched`."""
    known = {step.name: step for step in steps}
    for name, row in rows.items():
        if name not in known:
            yield f"{name}: tools/steps.py has no such step"
            continue
        step = known[name]
        if row.exit:
            yield f"{name}: failed on {row.ran} (exit code {row.exit}): {row.gave}"
        touched = last_touched(root, step.paths)
        behind = (touched - date.fromisoformat(row.ran)).days if touched else 0
        if behind > step.allowance:
            yield (
                f"{name}: ran on {row.ran}, its code changed on {touched}: {behind} days, "
                f"{step.allowance} are allowed; run ./dev full {name}"
            )


def check() -> int:
    """Prints what is wrong with the ledger; 1 when something is."""
    rows = kept()
    if PAGE.read_text() != page(rows, STEPS):
        print("ledger: docs/ledger.md is not that of ledger.json: python -m tools.ledger page")
        return 1
    try:
        found = list(faults(rows, STEPS, ROOT))
    except NoHistoryError as reason:
        print(f"ledger: ages were not checked: {reason}")
        return 0
    print("\n".join(f"ledger: {line}" for line in found) or f"ledger: {len(rows)} rows hold")
    return 1 if found else 0


def _state(root: Path) -> str:
    try:
        commit = _git(root, "rev-parse", "--short", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "-uno") else "")
    except NoHistoryError:
        return "none"


def run_step(step: Step, commit: str, root: Path) -> Row:
    """Runs a step, shows what it prints, and answers its row."""
    print(f"ledger: {step.name}: {step.command}", flush=True)
    began, last = time.monotonic(), ""
    command = shlex.split(step.command)
    command[0] = sys.executable if command[0] == "python" else command[0]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    gave = re.sub(r"^\w+: ", "", last)
    today = datetime.now(timezone.utc).date().isoformat()
    return Row(today, commit, round(time.monotonic() - began), process.returncode, gave)


def run(names: Sequence[str]) -> int:
    """Runs steps one after the other; each row is written when its step ends. 1 if one failed."""
    known = {step.name: step for step in STEPS}
    wrong = [name for name in names if name not in known]
    if wrong:
        print(f"ledger: no step is called {wrong[0]}; there are {', '.join(known)}")
        return 2
    commit, failed = _state(ROOT), 0
    for name in names or known:
        row = run_step(known[name], commit, ROOT)
        failed |= row.exit != 0
        print(f"ledger: {name}: exit code {row.exit}, {row.seconds} s: {row.gave}", flush=True)
        write({**kept(), name: row})
    return int(failed)


def write(rows: Mapping[str, Row]) -> None:
    """Writes both files, in the order of the steps."""
    order = [step.name for step in STEPS]
    kept_rows = {name: asdict(rows[name]) for name in sorted(rows, key=order.index)}
    KEPT.write_text(json.dumps(kept_rows, indent=1) + "\n")
    PAGE.write_text(page(rows, STEPS))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser("ledger")
    parser.add_argument("verb", choices=("run", "check", "page"))
    parser.add_argument("step", nargs="*", help=", ".join(step.name for step in STEPS))
    args = parser.parse_args()
    if args.verb == "check":
        return check()
    code = run(args.step) if args.verb == "run" else 0
    if args.verb == "page":
        write(kept())
    from tools.make_readme import main as write_readme  # which reads what was just kept

    return write_readme() or code


if __name__ == "__main__":
    sys.exit(main())
