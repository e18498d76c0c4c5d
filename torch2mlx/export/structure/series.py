"""Rows of modules that a method may go through in a loop: the items of a list, or children whose
names end in numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_NUMBERED = re.compile(r"(.*?)(\d+)")
#: Children with numbers in their names are written one by one where they are fewer.
_FEWEST_NUMBERED = 5


@dataclass(frozen=True)
class Series:
    """`items` are texts from self. A loop over `source` has `target` in each turn; `pattern` is how
    an item is then named, `{}` standing for the target."""

    items: tuple[str, ...]
    target: str
    source: str
    pattern: str = "{}"

    def place(self, text: str) -> int | None:
        """Which item a text is, or lies in."""
        return next((i for i, item in enumerate(self.items) if _within(text, item)), None)

    def opened(self, text: str, i: int, target: str = "") -> str:
        """A text from self, with the item of a turn as a loop names it."""
        item = self.items[i]
        return self.pattern.format(target) + text[len(item) :] if _within(text, item) else text


def _within(text: str, item: str) -> bool:
    return text.startswith(item) and text[len(item) : len(item) + 1] in ("", ".", "[", "(")


def of_list(name: str, length: int) -> Series:
    """The items of a list."""
    last = re.split(r"\W+", name.rstrip(']"'))[-1]
    target = last[:-1] if last.endswith("s") and len(last) > 2 else "block"
    return Series(tuple(f"{name}[{i}]" for i in range(length)), target, name)


def numbered(names: Iterable[str], texts: Sequence[str]) -> Iterator[Series]:
    """Children in a row with one name and numbers that follow each other."""
    runs: list[tuple[str, int, list[str]]] = []
    for name, text in zip(names, texts, strict=True):
        match = _NUMBERED.fullmatch(name)
        if match is None or not match[1] or match[2] != str(int(match[2])):
            continue
        base, number = match[1], int(match[2])
        if runs and runs[-1][0] == base and runs[-1][1] + len(runs[-1][2]) == number:
            runs[-1][2].append(text)
        else:
            runs.append((base, number, [text]))
    for base, first, items in runs:
        if len(items) >= _FEWEST_NUMBERED:
            source = f"range({first}, {first + len(items)})"
            yield Series(tuple(items), "i", source, f'self[f"{base}{{{{{{}}}}}}"]')
