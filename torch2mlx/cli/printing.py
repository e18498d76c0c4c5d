"""Text on the screen: plain everywhere, with colours and tables where rich and a terminal are."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch2mlx.common.optional import installed
from torch2mlx.testing.tables import table as plain_table


def rich_on(stream: object) -> bool:
    """Whether rich may be used on a stream of this process."""
    isatty = getattr(stream, "isatty", lambda: False)
    return bool(isatty()) and installed("rich")


def complain(text: str, kind: str = "error") -> None:
    """One message on standard error: an "error", or a "warning"."""
    head = "torch2mlx" if kind == "error" else kind
    if rich_on(sys.stderr):
        from rich.console import Console
        from rich.text import Text

        style = "bold red" if kind == "error" else "bold yellow"
        shown = Text.assemble((f"{head}: ", style), text)
        Console(stderr=True).print(shown, soft_wrap=True)
    else:
        print(f"{head}: {text}", file=sys.stderr)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under heads, in columns as wide as their widest cell."""
    if rich_on(sys.stdout):
        return _rich_table(heads, rows)
    return plain_table(heads, rows, indent="")


def _rich_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        made.add_row(*row)
    console = Console()
    with console.capture() as captured:
        console.print(made, markup=False)
    return captured.get().rstrip("\n")
