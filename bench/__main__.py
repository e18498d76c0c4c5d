"""`./dev bench [--json FILE] [--folder DIR] [CASE...]`: prints ratios and what missed its goal."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from bench.cases import CASES


def quiet_folder() -> str | None:
    """A file system in memory, where there is one with room: disks are too noisy to decide."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    return str(memory) if roomy else None


def main() -> int:
    """Runs the named comparisons, or all."""
    parser = argparse.ArgumentParser("bench")
    parser.add_argument("case", nargs="*", help=", ".join(case.__name__ for case in CASES))
    parser.add_argument("--json", type=Path, help="write the ratios to this file too")
    parser.add_argument("--folder", default=quiet_folder(), help="where to write files")
    args = parser.parse_args()
    rows = []
    for case in CASES:
        if not args.case or case.__name__ in args.case:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                rows += case(Path(folder))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    missed = [row for row in rows if row["ratio"] < row["goal"]]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} goals reached")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
