"""What the report says of a function of torch that another expression stands for."""

from __future__ import annotations

import re

_CALLED = re.compile(r"(?:mx|nn|kit)(?:\.\w+)+(?=\()")


def reason(name: str, text: str) -> str:
    """Whether MLX has the function under its own name, under another, or not as one call: `name`
    without torch's modules, `text` what is written now."""
    called = _CALLED.match(text)
    if called is not None and called.group() == f"mx.{name}":
        return "the same in MLX"
    if called is not None and _whole(text, called.end()):
        return f"{called.group()} does the same"
    return "the same in MLX" if re.search(rf"\.{re.escape(name)}\b", text) else "written out in MLX"


def _whole(text: str, start: int) -> bool:
    """Whether the call that opens at `start` is the whole text."""
    depth = 0
    for place, letter in enumerate(text[start:], start):
        depth += (letter in "([{") - (letter in ")]}")
        if not depth:
            return place == len(text) - 1
    return False
