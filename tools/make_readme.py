"""`python -m tools.make_readme`: writes README's table of figures anew, from docs/ledger.json.

A figure is taken out of what a step of the ledger gave, and stands with the day it was measured.
Steps that have not run have no row.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.ledger import Row, kept

README = Path(__file__).parent.parent / "README.md"
_PART = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.S)


def _numbers(pattern: str, text: str) -> list[int]:
    """All numbers that a pattern finds. Raises ValueError where it finds none."""
    found = [int(number) for number in re.findall(pattern, text)]
    if not found:
        raise ValueError(f"{text!r} has no {pattern!r}")
    return found


def _parts(pattern: str, text: str) -> tuple[str, ...]:
    """The groups of a pattern. Raises ValueError where the text is another."""
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"{text!r} has no {pattern!r}")
    return found.groups()


def _zoo(gave: str) -> str:
    right, tried = _parts(r"^(\d+) of (\d+) agree within 0\.0001", gave)
    return f"{right} of {tried} within 1e-4"


def _operators(gave: str) -> str:
    pattern = r"^(\d+) operators: (\d+) pass, (\d+) refused, (\d+) untraced"
    tried, right, refused, untraced = _parts(pattern, gave)
    return (
        f"{right} of {tried} right, {refused} refused by name, {untraced} that torch.export does "
        "not trace"
    )


def _mutations(gave: str) -> str:
    files, findings = _parts(r"^(\d+) files, .*; (\d+) findings", gave)
    return f"{int(files):,} files, {findings} findings"


def _stress(gave: str) -> str:
    stopped = sum(_numbers(r"(?:kill -9|SIGINT) x (\d+)", gave))
    torn, lost = sum(_numbers(r"torn (\d+)", gave)), sum(_numbers(r"lost (\d+)", gave))
    return f"{stopped:,} times: {torn} torn, {lost} lost"


def _speed(gave: str) -> str:
    reached, goals = _parts(r"^(\d+) of (\d+) goals reached", gave)
    return f"{reached} of {goals} goals reached"


#: Step of the ledger -> what was tried, for a stranger, and the figure in what it gave.
FIGURES: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "zoo": ("architectures of transformers at toy size, translated, compared with PyTorch", _zoo),
    "operators": ("PyTorch's own samples of its operators, translated, compared", _operators),
    "mutations": (
        "damaged checkpoints, given to every command that reads them; a finding is one that is "
        "neither answered nor refused by name within 2 s",
        _mutations,
    ),
    "stress": ("conversions killed or interrupted at random; files torn or lost", _stress),
    "bench": ("speed beside numpy, PyTorch, MLX and safetensors (ratios: `./dev bench`)", _speed),
}


def table(rows: Mapping[str, Row]) -> str:
    """The table. Raises ValueError where what a step gave has another form."""
    lines = ["| what was tried | what came out | on |", "| --- | --- | --- |"]
    for name, (what, figure) in FIGURES.items():
        if name in rows and not rows[name].exit:
            lines.append(f"| {what} | {figure(rows[name].gave)} | {rows[name].ran} |")
    return "\n".join(lines) + "\n"


def updated(text: str, rows: Mapping[str, Row]) -> str:
    """README with its table anew."""
    return _PART.sub(lambda part: f"{part[1]}{table(rows)}{part[2]}", text)


def main() -> int:
    """Writes README.md."""
    README.write_text(updated(README.read_text(), kept()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
