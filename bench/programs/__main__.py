"""`python -m bench.programs [--tool COMMAND] [NAME ...]`: ports programs, judges, prints a table.

COMMAND has {source} and {target} in it, files of Python; without one it is `torch2mlx port`.
`--write` keeps the table in docs/programs.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench.programs.scoring import GRADES, STEPS, Score, headline, programs, scored, table

PAGE = Path(__file__).parent.parent.parent / "docs" / "programs.md"
OURS = f'"{sys.executable}" -m torch2mlx port {{source}} {{target}}'
HEAD = f"""# Forty training programs

`python -m bench.programs` ports forty small programs, written as people write them, and runs each
beside its port with [verify_training](verify-training.md) for {STEPS} steps or as many as it makes.
Another tool is judged by `--tool "mytool {{source}} -o {{target}}"`. A port reaches

1. grade 1 where {GRADES[1]},
2. grade 2 where {GRADES[2]} (losses, gradients, slots, updates, buffers),
3. grade 3 where {GRADES[3]}.

The programs are in `bench/programs/scripts` and, for eleven, in `tests/porting/scripts`; this table
is written by `python -m bench.programs --write`, and what fails stays in it.

"""


def main(argv: list[str] | None = None) -> int:
    """Runs the programs that are named, or all."""
    parser = argparse.ArgumentParser("bench.programs", description=__doc__)
    parser.add_argument("name", nargs="*", help="programs; all without")
    parser.add_argument("--tool", default=OURS, help="a command with {source} and {target}")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many are compared at most")
    parser.add_argument("--json", type=Path, help="write the scores to this file too")
    parser.add_argument("--keep", type=Path, help="a folder for sources and ports")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} anew")
    args = parser.parse_args(argv)
    texts = programs()
    unknown = [name for name in args.name if name not in texts]
    if unknown:
        parser.error(f"no such program: {', '.join(unknown)}")
    scores: list[Score] = []
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for program in args.name or texts:
            score = scored(program, texts[program], args.tool, folder, args.steps)
            scores.append(score)
            told = f"{score.name:20} grade {score.grade}, {score.steps} steps, {score.seconds} s"
            print(f"{told}{': ' if score.why else ''}{score.why}", file=sys.stderr, flush=True)
    print(table(scores))
    if args.json:
        args.json.write_text(json.dumps([score.to_dict() for score in scores], indent=1) + "\n")
    if args.write:
        PAGE.write_text(f"{HEAD}**{headline(scores)}.**\n\n{table(scores)}\n")
    print(headline(scores))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
