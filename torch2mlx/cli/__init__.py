"""The command line. What a verb needs is imported when that verb runs."""

from torch2mlx.cli.entry import main

__all__ = ["main"]
