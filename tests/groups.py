"""`python -m tests.groups torch|mlx N script.py ...`: a script in several processes of one group;
further scripts, each behind `--`, run after it in the same processes.

Libraries are imported once, then the processes are forked: torch's meet over gloo, with torchrun's
environment; MLX's are a ring, with the environment that mlx.launch gives.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_KEPT: list[Any] = []


def started(kind: str, count: int, script: Path, args: Sequence[str] = ()) -> Any:
    """The process that starts them all; its outputs are pipes."""
    command = [sys.executable, "-m", "tests.groups", kind, str(count), str(script), *args]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    told = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def printed(process: Any, seconds: float) -> str:
    """What all of them print, once they have ended well."""
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # those that it started too
        raise
    assert process.returncode == 0, errors[-4000:]
    return str(out)


def _environments(kind: str, count: int) -> list[dict[str, str]]:
    """What each process has in its environment."""
    from torch2mlx.kit.processes import _free, _ring_of

    ports = _free(count)
    if kind == "mlx":
        return [_ring_of(ports, rank) for rank in range(count)]
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0])}
    return [{**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(count)]


def _without_ends() -> None:
    """Keeps torch's groups until the process ends: gloo's may wait for ever for a thread that waits
    for Python, where Python lets go of the last model that uses it."""
    import torch.distributed as dist

    leave = dist.destroy_process_group

    def destroy_process_group(*args: Any) -> None:
        _KEPT.append(dist.group.WORLD)
        leave(*args)

    dist.destroy_process_group = destroy_process_group


def _child(kind: str, told: dict[str, str], ports: list[int], script: str, args: list[str]) -> None:
    os.environ.update(told)
    if kind == "mlx":
        from torch2mlx.kit.processes import publish

        publish()
    else:
        _without_ends()
    for port in ports:
        if kind == "torch":
            os.environ["MASTER_PORT"] = str(port)  # the one before may still be closing
        end = args.index("--") if "--" in args else len(args)
        sys.argv = [script, *args[:end]]
        runpy.run_path(script, run_name="__main__")
        if end < len(args):
            script, args = args[end + 1], args[end + 2 :]


def _forked(kind: str, told: dict[str, str], *rest: Any) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _child(kind, told, *rest)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(kind: str, count: str, script: str, *args: str) -> int:
    """Runs them; 1 where one fails, and the others are ended then."""
    from torch2mlx.kit.processes import _free

    told, ports = _environments(kind, int(count)), _free(1 + args.count("--"))
    if kind == "torch":
        importlib.import_module("torch._dynamo")  # which the first optimizer would import
    children = [_forked(kind, one, ports, script, list(args)) for one in told]
    waiting, failed = set(children), False
    while waiting:
        child, status = os.wait()
        waiting.discard(child)
        if status and not failed:
            failed = True
            time.sleep(0.5)
            for other in waiting:
                os.kill(other, 9)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
