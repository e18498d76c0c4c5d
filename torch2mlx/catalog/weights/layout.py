"""Layouts as data: `"o i h w -> o h w i"` says where each dimension of a tensor goes.

A letter is a dimension; letters in parentheses share one dimension, first letter slowest:
`"(g i) o k -> (g o) k i"` splits the first dimension in two and merges others. The inverse of a
layout is the layout read from right to left, so it is computed, never written down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from torch2mlx import _core

Side = tuple[tuple[str, ...], ...]

#: Longest layout in letters of text: names of 16 dimensions, twice, and parentheses.
MAX_TEXT = 1024
_TOKEN = re.compile(r"\s*(\w+|[()])")


@dataclass(frozen=True, slots=True)
class Steps:
    """A layout for tensors of one shape: the sizes that dimensions are split in, then the order."""

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    def view(self, tensor: _core.Tensor) -> _core.Tensor:
        """The tensor with its dimensions in their new order: a view, no bytes move."""
        return tensor if 0 in tensor.shape else tensor.split(self.sizes).permute(self.order)


@dataclass(frozen=True)
class Layout:
    """A parsed layout: dimensions as groups of letters, before and after."""

    before: Side
    after: Side

    def __str__(self) -> str:
        return f"{_text(self.before)} -> {_text(self.after)}"

    @property
    def inverse(self) -> Layout:
        return Layout(self.after, self.before)

    def sizes(self, shape: tuple[int, ...], known: Mapping[str, int]) -> dict[str, int]:
        """The size of each letter for a tensor of this shape.

        `known` has the letters that the shape cannot tell (all but one of each parenthesis).
        Raises ValueError when the shape does not fit.
        """
        if len(shape) != len(self.before):
            raise ValueError(f"{len(shape)} dimensions where {self} takes {len(self.before)}")
        sizes = {k: v for k, v in known.items() if any(k in group for group in self.before)}
        for group, size in zip(self.before, shape, strict=True):
            unknown = [letter for letter in group if letter not in sizes]
            product = math.prod(sizes[letter] for letter in group if letter in sizes)
            if len(unknown) > 1 or (unknown and (product == 0 or size % product)):
                raise ValueError(f"dimension {_group(group)} of {self} cannot be {size}")
            if unknown:
                sizes[unknown[0]] = size // product
            elif product != size:
                raise ValueError(f"dimension {_group(group)} of {self} is {product}, not {size}")
        return sizes

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape after, for these letter sizes."""
        return tuple(math.prod(sizes[letter] for letter in group) for group in self.after)

    def view(self, tensor: _core.Tensor, sizes: Mapping[str, int]) -> _core.Tensor:
        """The tensor with its dimensions in the order after: a view, no bytes move.

        Parentheses stay split in the view; its items in order fill `shape(sizes)`.
        """
        return self.steps(sizes).view(tensor)

    def steps(self, sizes: Mapping[str, int]) -> Steps:
        """How a tensor of these letter sizes is viewed."""
        letters = [letter for group in self.before for letter in group]
        order = [letters.index(letter) for group in self.after for letter in group]
        return Steps(tuple(sizes[letter] for letter in letters), tuple(order))


def _group(group: tuple[str, ...]) -> str:
    return group[0] if len(group) == 1 else f"({' '.join(group)})"


def _text(side: Side) -> str:
    return " ".join(_group(group) for group in side)


def _side(text: str) -> Side:
    """One side, token by token: in time that grows with its length alone."""
    groups: list[tuple[str, ...]] = []
    inside: list[str] | None = None
    at = 0
    while token := _TOKEN.match(text, at):
        at = token.end()
        letter = token[1]
        if letter == "(" and inside is None:
            inside = []
        elif letter == ")" and inside:
            groups.append(tuple(inside))
            inside = None
        elif letter in "()":
            break
        elif inside is None:
            groups.append((letter,))
        else:
            inside.append(letter)
    if inside is not None or text[at:].strip():
        raise ValueError(f"malformed layout side {text!r}")
    return tuple(groups)


@lru_cache(maxsize=256)
def parse(text: str) -> Layout:
    """Parses `"before -> after"`. Raises ValueError when it is malformed."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a layout of {len(text)} letters; at most {MAX_TEXT}")
    before, arrow, after = text.partition("->")
    layout = Layout(_side(before), _side(after))
    letters = [letter for group in layout.before for letter in group]
    moved = [letter for group in layout.after for letter in group]
    if not arrow or len(set(letters)) != len(letters) or sorted(letters) != sorted(moved):
        raise ValueError(f"{text!r} must have the same letters, each once, on both sides")
    return layout
