"""What a run says: lines for people, and a JSON line per record in metrics.jsonl."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


class Log:
    """Writes to a folder and to the terminal."""

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.quiet, self._start = folder / "metrics.jsonl", quiet, time.monotonic()

    def record(self, kind: str, step: int, **values: Any) -> None:
        """One record; numbers are shown too."""
        seconds = round(time.monotonic() - self._start, 2)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"kind": kind, "step": step, "seconds": seconds, **values}) + "\n"
            )
        shown = "  ".join(
            f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()
        )
        if not self.quiet:
            print(f"{kind:5} step {step:5}  {shown}  ({seconds:.0f} s)", file=sys.stderr)


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """All records of a kind, in order; of a step that was run twice, the last."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = {r["step"]: r for r in map(json.loads, lines) if r["kind"] == kind}
    return [found[step] for step in sorted(found)]
