"""Writers that are killed, interrupted, made to fail, or many at once: counts of what was lost.

python -m tests.checkpoint.write.stress [--kill 200] [--sigint 200] [--writers 100]
    [--readers 200] [--calls]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.checkpoint.write.faults import CALLS, CASES, KINDS, STATES, Case, held, leftovers
from torch2mlx import convert, load_converted, revert
from torch2mlx.checkpoint.write.transaction import watched


def _child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' `&` has it ignored
        try:
            work()
            code = 0
        except Exception as error:
            print(f"a writer: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    return pid


def _convert_for_ever(target: Path, done: int) -> None:
    """Tells each conversion that is done by a byte; at an interrupt, what it left: "o" or "n"."""
    old = held(target)
    while True:
        new = 0 if old else 1
        with watched() as written:
            try:
                convert(STATES[new], target)
                os.write(done, b".")
            except KeyboardInterrupt:
                expected = new if written() else old
                os.write(done, b"T" if held(target) == expected else b"F")
                return
        old = new


def stopped_at_random(target: Path, rounds: int, how: int) -> Counter[str]:
    """Counts of rounds in which a writer was stopped by a signal and left the target torn, lost,
    or said what was not so."""
    found: Counter[str] = Counter()
    convert(STATES[0], target)
    draw = random.Random(0)
    for _ in range(rounds):
        read, write = os.pipe()
        pid = _child(lambda write=write: _convert_for_ever(target, write))
        os.close(write)
        began = time.perf_counter()
        os.read(read, 1)
        # within the second conversion, most likely, however fast this machine is
        time.sleep(draw.random() * (time.perf_counter() - began))
        os.kill(pid, how)
        os.waitpid(pid, 0)
        said = b""
        while more := os.read(read, 64):
            said += more
        os.close(read)
        found["untrue"] += b"F" in said
        found.update(_state(target))
    convert(STATES[1], target)
    found["left behind"] += len(leftovers(target.parent))
    return found


def _state(target: Path) -> Iterator[str]:
    try:
        which = held(target)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        yield "torn"
    else:
        if which is None:
            yield "lost"
        else:
            yield f"state {which}"


def writers_at_once(target: Path, rounds: int) -> Counter[str]:
    """Counts of rounds in which three writers of one target, two of them by another path, left it
    torn or failed."""
    found: Counter[str] = Counter()
    other = target.parent.with_name(target.parent.name + "-link")
    other.symlink_to(target.parent)
    paths = (target, other / target.name, other / target.name)
    for _ in range(rounds):
        read, write = os.pipe()

        def work(path: Path, state: dict, read: int = read, write: int = write) -> None:
            os.close(write)
            os.read(read, 1)  # until all are there
            convert(state, path)

        pids = [_child(lambda p=p, s=s: work(p, s)) for p, s in zip(paths, STATES, strict=True)]
        os.close(read)
        os.close(write)
        found["failed"] += sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
        found.update(_state(target))
    found["left behind"] += len(leftovers(target.parent))
    return found


def read_while_written(target: Path, rounds: int) -> Counter[str]:
    """Counts of what a reader found while a writer replaced the target all the time."""
    found: Counter[str] = Counter()
    convert(STATES[0], target)
    read, write = os.pipe()
    pid = _child(lambda: _convert_for_ever(target, write))
    os.close(write)
    try:
        for _ in range(rounds):
            os.read(read, 4096)  # at least one more conversion is done
            try:
                state = revert(target, framework="numpy")
                which = int(state["big"][0])
                belongs = state["norm.num_batches_tracked"] == 3 + which
                arrays = load_converted(target, framework="numpy")
                found["read" if belongs and set(arrays) < set(state) else "torn"] += 1
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                found["torn"] += 1
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
    return found


def every_call(case: Case, kind: str, folder: Path) -> Counter[str]:
    """Counts of calls at which a conversion was stopped, and of those that left it wrong."""
    found: Counter[str] = Counter()
    for at in range(case.count(folder / "counted")):
        found["stopped"] += 1
        try:
            case.stop(folder / str(at), at, kind)
        except Exception as error:
            print(f"{case.name} {kind} {at}: {error}", file=sys.stderr)
            found["wrong"] += 1
    return found


def _made(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def main() -> int:
    """Prints one line of counts; returns 1 where anything was torn, lost, untrue or left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kill", type=int, default=200)
    parser.add_argument("--sigint", type=int, default=200)
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--folder", help="where; a file system in memory where there is one")
    parser.add_argument("--calls", action="store_true", help="stop at every call to the system")
    args = parser.parse_args()
    said, bad = [], 0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # disks are slow and noisy
    with tempfile.TemporaryDirectory(dir=args.folder or memory) as spare:
        folder = Path(spare)
        for name in ("out.safetensors", "folder"):
            for word, how, rounds in (
                ("kill -9", signal.SIGKILL, args.kill),
                ("SIGINT", signal.SIGINT, args.sigint),
            ):
                found = stopped_at_random(_made(folder, f"{word} {name}") / name, rounds, how)
                bad += sum(found[k] for k in ("torn", "lost", "untrue", "left behind"))
                said.append(
                    f"{name} {word} x {rounds}: torn {found['torn']}, lost {found['lost']}, "
                    f"untrue {found['untrue']}, left behind {found['left behind']}"
                )
            found = writers_at_once(_made(folder, f"writers {name}") / name, args.writers)
            bad += sum(found[k] for k in ("torn", "lost", "failed", "left behind"))
            said.append(
                f"{name} 3 writers x {args.writers}: torn {found['torn']}, failed "
                f"{found['failed']}, left behind {found['left behind']}"
            )
            found = read_while_written(_made(folder, f"read {name}") / name, args.readers)
            bad += found["torn"]
            said.append(f"{name} read x {args.readers} while written: torn {found['torn']}")
        if args.calls:
            found = Counter()
            for i, case in enumerate(Case(c.old, c.new, c.name, CALLS) for c in CASES):
                for kind in KINDS:
                    found += every_call(case, kind, _made(folder, f"calls {i} {kind}"))
            bad += found["wrong"]
            said.append(f"stopped at {found['stopped']} calls: wrong {found['wrong']}")
    print("; ".join(said))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
