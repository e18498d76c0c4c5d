"""Puzzle sets on disk, in the public format: written, read, and cut into batches.

    ROOT/identifiers.json, ROOT/{train,test}/dataset.json,
    ROOT/{train,test}/all__{inputs,labels,puzzle_identifiers,puzzle_indices,group_indices}.npy

Examples belong to puzzles, puzzles to groups (a puzzle and its augmented forms).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

IGNORED = -100
FIELDS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
Batch = dict[str, np.ndarray]


class DataError(ValueError):
    """A folder that is no puzzle set: what is missing or wrong, and where."""


@dataclass
class Metadata:
    """dataset.json."""

    seq_len: int
    vocab_size: int
    num_puzzle_identifiers: int
    total_groups: int
    total_puzzles: int
    mean_puzzle_examples: float = 1.0
    pad_id: int = 0
    ignore_label_id: int | None = 0
    blank_identifier_id: int = 0
    sets: tuple[str, ...] = ("all",)


def write_set(
    folder: Path, groups: list[list[tuple[np.ndarray, np.ndarray]]], vocab_size: int
) -> Metadata:
    """Writes groups of (input, label) puzzles, one example each, as one split.

    Raises DataError for an empty set, and for values outside of the vocabulary.
    """
    puzzles = [puzzle for group in groups for puzzle in group]
    if not puzzles:
        raise DataError(f"{folder}: there are no puzzles to write")
    inputs, labels = (np.stack([p[k].reshape(-1) for p in puzzles]) for k in (0, 1))
    for name, values in (("inputs", inputs), ("labels", labels)):
        if values.min() < 0 or values.max() >= vocab_size:
            raise DataError(f"{folder}: {name} are not from 0 to {vocab_size - 1}")
    sizes = [len(group) for group in groups]
    held = {
        "inputs": inputs.astype(np.uint8),
        "labels": labels.astype(np.uint8),
        "puzzle_identifiers": np.zeros(len(puzzles), np.int32),
        "puzzle_indices": np.arange(len(puzzles) + 1, dtype=np.int32),
        "group_indices": np.cumsum([0, *sizes], dtype=np.int32),
    }
    told = Metadata(inputs.shape[1], vocab_size, 1, len(groups), len(groups))
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in held.items():
        np.save(folder / f"all__{name}.npy", values)
    (folder / "dataset.json").write_text(json.dumps(asdict(told)))
    (folder.parent / "identifiers.json").write_text(json.dumps(["<blank>"]))
    return told


class PuzzleSet:
    """One split of a set. Raises DataError where the folder is not one."""

    def __init__(self, root: str | Path, split: str) -> None:
        self.folder = Path(root) / split
        self.metadata = self._metadata()
        self._held = {name: self._array(name) for name in FIELDS}
        self._checked()

    def _metadata(self) -> Metadata:
        place = self.folder / "dataset.json"
        if not place.is_file():
            raise DataError(f"{place}: no such file; build the set first: trm build")
        try:
            return Metadata(**json.loads(place.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, TypeError) as problem:
            raise DataError(f"{place}: not what a puzzle set has: {problem}") from problem

    def _array(self, name: str) -> np.ndarray:
        place = self.folder / f"all__{name}.npy"
        if not place.is_file():
            raise DataError(f"{place}: no such file")
        try:
            return np.load(place, mmap_mode="r" if name in ("inputs", "labels") else None)
        except (ValueError, EOFError) as problem:
            raise DataError(f"{place}: no array of numpy: {problem}") from problem

    def _checked(self) -> None:
        inputs, labels = self._held["inputs"], self._held["labels"]
        if inputs.shape != labels.shape or inputs.shape[1:] != (self.metadata.seq_len,):
            wanted = f"(examples, {self.metadata.seq_len})"
            raise DataError(
                f"{self.folder}: inputs {inputs.shape} and labels {labels.shape} are not {wanted}"
            )
        for name, last in (("puzzle_indices", len(inputs)), ("group_indices", self.puzzles)):
            if self._held[name][-1] != last:
                raise DataError(f"{self.folder}: {name} ends at {self._held[name][-1]}, not {last}")

    @property
    def puzzles(self) -> int:
        """How many there are, augmented ones too."""
        return len(self._held["puzzle_identifiers"])

    def _batch(self, examples: np.ndarray, puzzles: np.ndarray, size: int) -> Batch:
        """int32 arrays, filled up to `size` with examples that do not count."""
        told = self.metadata
        made = {
            "inputs": self._held["inputs"][examples].astype(np.int32),
            "labels": self._held["labels"][examples].astype(np.int32),
            "puzzle_identifiers": self._held["puzzle_identifiers"][puzzles].astype(np.int32),
        }
        if told.ignore_label_id is not None:
            made["labels"][made["labels"] == told.ignore_label_id] = IGNORED
        fill = {
            "inputs": told.pad_id,
            "labels": IGNORED,
            "puzzle_identifiers": told.blank_identifier_id,
        }
        missing = size - len(examples)
        return {
            name: np.pad(
                value,
                ((0, missing),) + ((0, 0),) * (value.ndim - 1),
                constant_values=fill[name],
            )
            for name, value in made.items()
        }

    def training(self, batch_size: int, seed: int, epoch: int, epochs: int = 1) -> Iterator[Batch]:
        """Full batches of one pass (or `epochs` at once): one puzzle of every group, shuffled.

        The order is that of the public loader for puzzles of one example.
        """
        draw = np.random.Generator(np.random.Philox(seed=seed + epoch))
        bounds = self._held["group_indices"]
        order = np.concatenate([draw.permutation(len(bounds) - 1) for _ in range(epochs)])
        starts = self._held["puzzle_indices"]
        for begin in range(0, len(order) - batch_size + 1, batch_size):
            groups = order[begin : begin + batch_size]
            puzzles = np.array([draw.integers(bounds[g], bounds[g + 1]) for g in groups])
            yield self._batch(starts[puzzles], puzzles, batch_size)

    def testing(self, batch_size: int) -> Iterator[tuple[Batch, int]]:
        """(batch, how many of it count) of all examples in order; the last one is filled up."""
        total, starts = len(self._held["inputs"]), self._held["puzzle_indices"]
        for begin in range(0, total, batch_size):
            examples = np.arange(begin, min(begin + batch_size, total))
            puzzles = np.searchsorted(starts, examples, side="right") - 1
            yield self._batch(examples, puzzles, batch_size), len(examples)
