"""Which array of an MLX model is which tensor of a torch model: by name, then by shape in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch2mlx.lockstep.draws import laid, orders

Key = tuple[int, str]  # the number of a root, and a name there


@dataclass(frozen=True)
class Match:
    """How an array of MLX is made of torch's tensors.

    `sources`: their names, "root:name". `index`: the places of its items in the sources, one after
    the other, in the layout that `convert` writes; None where the sources are summed. `shape`: of
    that layout; `how`: "name" or "shape".
    """

    sources: tuple[str, ...]
    index: np.ndarray | None
    shape: tuple[int, ...]
    number: int
    how: str = "name"

    def of(self, tensors: Mapping[str, np.ndarray], wanted: Any, mean: bool = False) -> Any:
        """The values that MLX should have; None where a source is missing.

        `mean`: whether sources that MLX holds as a sum are averaged, as their gradients are.
        """
        if any(tensors.get(name) is None for name in self.sources):
            return None
        held = [np.asarray(tensors[name]) for name in self.sources]
        if self.index is None:
            total = sum(h.reshape(self.shape) for h in held)
            values = np.asarray(total / len(held) if mean else total)
        else:
            flat = np.concatenate([h.reshape(-1) for h in held])
            if flat.size <= self.index.max(initial=-1):
                return None
            values = flat[self.index].reshape(self.shape)
        return laid(values, tuple(wanted))


def canonical(name: str) -> str:
    """A name without what the libraries add: `layers` before numbers, leading underscores."""
    parts = [part.lstrip("_") for part in name.split(".")]
    kept = [
        part
        for part, after in zip(parts, [*parts[1:], ""], strict=True)
        if not (part == "layers" and after.isdigit())
    ]
    return ".".join(kept)


class Matching:
    """Pairs found so far; more models may come later."""

    def __init__(self, roots: list[dict[str, Any]]) -> None:
        self.roots = roots
        self.candidates = self.all = list(self._candidates())
        self.pairs: dict[Key, Match] = {}
        self.taken: set[tuple[int, str]] = set()
        self.root_of: dict[int, int] = {}

    def _candidates(self) -> Iterator[tuple[int, str, Match]]:
        count = 0
        for number, root in enumerate(self.roots):
            for piece in root["pieces"]:
                sources = tuple(f"{number}:{name}" for name in piece["sources"])
                match = Match(sources, piece.get("index"), tuple(piece["shape"]), count)
                yield number, piece["key"], match
                count += 1

    def add(
        self, arrays: Mapping[Key, tuple[int, ...]], names: Sequence[str], steps: int = 0
    ) -> None:
        """Matches the arrays of models that were not there before, by name and shape.

        `names`: those of the variables that hold the models of MLX; `steps`: how many were made, of
        models that torch makes later nothing is known yet.
        """
        since = [root.get("since", 0) for root in self.roots]
        self.candidates = [found for found in self.all if since[found[0]] <= steps]
        new = {key: shape for key, shape in arrays.items() if key not in self.pairs}
        self._pair_roots(new, names)
        for same in (_exactly, _canonically):
            for key, shape in new.items():
                if key not in self.pairs:
                    self._by_name(key, shape, same)
        for key, shape in new.items():
            if key not in self.pairs:
                self._by_full_name(key, shape, names[key[0]])
        self._by_order(new)

    def _pair_roots(self, arrays: Mapping[Key, tuple[int, ...]], names: Sequence[str]) -> None:
        """Which root is which: the one with most names and shapes in common, then by variable."""
        scores: dict[tuple[int, int], float] = {}
        for (ours, name), shape in arrays.items():
            for theirs, key, match in self.candidates:
                if canonical(name) == canonical(key) and _fit(match.shape, shape):
                    scores[ours, theirs] = scores.get((ours, theirs), 0) + 1
        for ours, theirs in scores:
            scores[ours, theirs] += 0.5 * (names[ours] == self.roots[theirs]["name"])
        for (ours, theirs), _ in sorted(scores.items(), key=lambda item: (-item[1], item[0])):
            if ours not in self.root_of and theirs not in self.root_of.values():
                self.root_of[ours] = theirs

    def _by_name(self, key: Key, shape: tuple[int, ...], same: Any) -> None:
        for theirs, name, match in self.candidates:
            if self.root_of.get(key[0]) != theirs or (theirs, name) in self.taken:
                continue
            if same(name, key[1]) and _fit(match.shape, shape):
                self._pair(key, theirs, name, match)
                return

    def _by_full_name(self, key: Key, shape: tuple[int, ...], variable: str) -> None:
        """Models that are parts of another one on one side: names with those of the variables."""
        wanted = {canonical(key[1]), canonical(f"{variable}.{key[1]}")}
        for theirs, name, match in self.candidates:
            full = {canonical(f"{self.roots[theirs]['name']}.{name}"), canonical(name)}
            new = canonical(name) not in wanted or key[0] not in self.root_of
            free = new and (theirs, name) not in self.taken
            if wanted & full and free and _fit(match.shape, shape):
                self._pair(key, theirs, name, match)
                return

    def _pair(self, key: Key, theirs: int, name: str, match: Match, how: str = "name") -> None:
        self.pairs[key] = replace(match, how=how)
        self.taken.add((theirs, name))

    def _by_order(self, arrays: Mapping[Key, tuple[int, ...]]) -> None:
        """The rest: arrays of one shape in the order in which both models declare them."""
        used = {source for match in self.pairs.values() for source in match.sources}
        for key, shape in arrays.items():
            if key in self.pairs:
                continue
            free = [
                (theirs, name, match)
                for theirs, name, match in self.candidates
                if (theirs, name) not in self.taken and not used & set(match.sources)
            ]
            own = self.root_of.get(key[0])
            fitting = [c for c in free if sorted(c[2].shape) == sorted(shape)]
            fitting = [c for c in fitting if own in (None, c[0]) or self._is_loose(c[0])]
            exact = [c for c in fitting if c[2].shape == tuple(shape)]
            for theirs, name, match in (exact or fitting)[:1]:
                if not self._is_loose(theirs):
                    self.root_of.setdefault(key[0], theirs)
                self._pair(key, theirs, name, match, "shape")
                used |= set(match.sources)

    def _is_loose(self, root: int) -> bool:
        """Whether a root is a parameter that no module of torch holds: in MLX it may be one of
        several that a module does."""
        pieces = self.roots[root]["pieces"]
        return len(pieces) == 1 and pieces[0]["key"] == "value"


def _fit(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return next(orders(shape, tuple(wanted)), None) is not None


def _exactly(one: str, other: str) -> bool:
    return one == other


def _canonically(one: str, other: str) -> bool:
    return canonical(one) == canonical(other)
