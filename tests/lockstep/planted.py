"""Planted faults and clean pairs, judged: how many are named rightly, how many alarms are false.

    python -m tests.lockstep.planted [NAME ...]   all, or those whose name or program is given

Clean pairs are the hand-written programs, and the scripts of tests/porting as `port` ports them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch2mlx
from tests.lockstep.faults import FAULTS, Fault
from tests.lockstep.judges import PROGRAMS, Judge, names
from torch2mlx.errors import VerificationError
from torch2mlx.lockstep.result import TrainingVerification

SCRIPTS = Path(__file__).parent.parent / "porting" / "scripts"
_CALL = "\n\n_made = build()\nrun(*_made) if isinstance(_made, tuple) else run(_made)\n"
#: Scripts that read data sets or need libraries that are not everywhere, and one that makes its
#: steps by hand.
_LEFT_OUT = {"fashion_mnist", "tied"}


def judge_fault(judge: Judge, fault: Fault, folder: Path) -> TrainingVerification:
    """The verdict on a program with a fault in it."""
    source = (PROGRAMS / f"{fault.program}_mlx.py").read_text()
    assert fault.old in source, fault.what
    path = folder / f"{fault.program}_{FAULTS.index(fault)}_mlx.py"
    path.write_text(source.replace(fault.old, fault.new))
    return judge.verdict(PROGRAMS / f"{fault.program}_torch.py", path)


def named(fault: Fault, found: TrainingVerification) -> bool:
    """Whether the first cause is the fault."""
    first = found.first
    if first is None:
        return False
    return first.kind in fault.kinds and fault.words in str(first)


def clean(judge: Judge, folder: Path, wanted: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """Pairs that agree: name, torch's script and MLX's."""
    for name in names():
        if not wanted or name in wanted:
            yield name, PROGRAMS / f"{name}_torch.py", PROGRAMS / f"{name}_mlx.py"
    for path in sorted(SCRIPTS.glob("*.py")):
        if path.stem in _LEFT_OUT or (wanted and f"port:{path.stem}" not in wanted):
            continue
        torch, mlx = (folder / f"{path.stem}_{side}.py" for side in ("torch", "mlx"))
        torch.write_text(path.read_text() + _CALL)
        mlx.write_text(torch2mlx.port(path).source + _CALL)
        yield f"port:{path.stem}", torch, mlx


def main(wanted: list[str]) -> int:
    """Judges all; 1 where a fault is named wrongly more than three times, or a clean pair parts."""
    begun, wrong, parted, pairs, faults = time.time(), [], [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judge = Judge(folder)
        for fault in FAULTS:
            if wanted and fault.program not in wanted and fault.what not in wanted:
                continue
            faults += 1
            found = judge_fault(judge, fault, folder)
            if not named(fault, found):
                wrong.append(fault.what)
                print(f"{fault.program}, {fault.what}: {found.first}", flush=True)
        for label, torch, mlx in clean(judge, folder, wanted):
            try:
                found = judge.verdict(torch, mlx)
            except VerificationError as error:
                print(f"{label}: {error}", flush=True)
                parted.append(label)
                continue
            pairs += 1
            if not found.ok:
                parted.append(label)
                print(f"{label}: {found.first}", flush=True)
    rest = f"; named otherwise: {', '.join(wrong)}" if wrong else ""
    more = f": {', '.join(parted)}" if parted else ""
    print(
        f"{faults - len(wrong)} of {faults} planted faults named{rest}; {len(parted)} alarms on "
        f"{pairs} clean pairs{more}; {time.time() - begun:.0f} s"
    )
    return int(len(wrong) > 3 or bool(parted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
