"""Where the command line begins: little is imported here, so that an early Ctrl-C is caught."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. Raises SystemExit for --help and wrong usage."""
    try:
        from torch2mlx.cli.running import run

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # before a verb ran, or after it had
        print("torch2mlx: interrupted; nothing was changed", file=sys.stderr)
        return 130
