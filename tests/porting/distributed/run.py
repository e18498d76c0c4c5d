"""`python -m tests.porting.distributed.run`: every script in four processes, for 50 steps, in torch
(gloo) and its port in MLX (a ring), from the same first weights; each number of each process
compared."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.groups import printed, started

SCRIPTS = Path(__file__).parent / "scripts"
PROCESSES = 4
#: How far a number may be from torch's, in itself where it is above 1.
TOLERANCE = 1e-5


def names() -> list[str]:
    """All scripts."""
    return sorted(path.stem for path in SCRIPTS.glob("*.py"))


def _first_weights(script: Path, folder: Path) -> None:
    """One model's, for both: torch's own file, and one for the kit of what `convert` writes."""
    import torch

    import torch2mlx
    from torch2mlx import kit

    spec: Any = importlib.util.spec_from_file_location(f"distributed_{script.stem}", script)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    model = module.build()
    torch.save(model.state_dict(), folder / "torch.pt")
    torch2mlx.convert(model, folder / "converted.safetensors", on_unmapped="ignore")
    kit.files.save(
        dict(torch2mlx.load_converted(folder / "converted.safetensors")), folder / "mlx.pt"
    )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    else:
        yield float(value)


def _spawns(name: str) -> bool:
    """Whether a script starts its processes itself."""
    return "mp.spawn" in (SCRIPTS / f"{name}.py").read_text()


def _run(kind: str, chosen: Sequence[str], steps: int, folder: Path) -> None:
    """Runs scripts one after the other, in the same processes."""
    commands: list[str] = []
    for name in chosen:
        place = folder / name
        (place / kind).mkdir()
        script = SCRIPTS / f"{name}.py" if kind == "torch" else place / f"{name}.py"
        args = ["--weights", str(place / f"{kind}.pt"), "--steps", str(steps)]
        commands += ["--", str(script), *args, "--out", str(place / kind)]
    count = 1 if any(map(_spawns, chosen)) else PROCESSES
    printed(started(kind, count, Path(commands[1]), commands[2:]), 60 + 10 * steps)


def _read(place: Path, kind: str) -> list[list[float]]:
    """The numbers of each process."""
    made = [json.loads((place / kind / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    return [list(_numbers(value)) for value in made]


def compared(chosen: Sequence[str], steps: int, folder: Path) -> dict[str, tuple[int, float]]:
    """How many numbers each script gave in all its processes, and the largest difference."""
    import torch2mlx

    for name in chosen:
        result = torch2mlx.port(SCRIPTS / f"{name}.py")
        assert result.ok, result.unsupported
        (folder / name).mkdir()
        (folder / name / f"{name}.py").write_text(result.source)
        _first_weights(SCRIPTS / f"{name}.py", folder / name)
    for kind in ("torch", "mlx"):
        _run(kind, chosen, steps, folder)
    return {name: _difference(folder / name) for name in chosen}


def _difference(place: Path) -> tuple[int, float]:
    expected, found = _read(place, "torch"), _read(place, "mlx")
    assert [len(row) for row in expected] == [len(row) for row in found], place.name
    rows = zip(expected, found, strict=True)
    pairs = [pair for theirs, ours in rows for pair in zip(theirs, ours, strict=True)]
    return len(pairs), max(abs(a - b) / max(1.0, abs(a)) for a, b in pairs)


def main(*chosen: str) -> int:
    """All of them, or those that are named; 1 where one differs."""
    worst, count, failed = 0.0, 0, []
    found: dict[str, tuple[int, float]] = {}
    for alone in (False, True):  # scripts that start processes need one of their own
        some = [name for name in chosen or names() if _spawns(name) is alone]
        with tempfile.TemporaryDirectory() as folder:
            found |= compared(some, 50, Path(folder)) if some else {}
    for name, (size, largest) in found.items():
        print(f"{name}: {size} numbers, {largest:.1e}", flush=True)
        worst, count = max(worst, largest), count + size
        failed += [name] if not largest <= TOLERANCE else []
    told = f"{len(chosen or names())} scripts in {PROCESSES} processes, 50 steps: "
    told += f"{count} numbers, largest difference {worst:.1e}"
    print(told + (f"; differ: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
