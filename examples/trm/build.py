"""Puzzle sets in the public format, made here or from a local folder of ARC tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.trm import puzzles
from examples.trm.data import DataError, Metadata, write_set

Puzzle = tuple[np.ndarray, np.ndarray]
Make = Callable[[np.random.Generator], Puzzle]


def _distinct(make: Make, count: int, seen: set[bytes], draw: np.random.Generator) -> list[Puzzle]:
    """Puzzles that are not in `seen`, to which they are added. Raises DataError when there are too
    few of them."""
    found: list[Puzzle] = []
    for _ in range(100 * count):
        puzzle, answer = make(draw)
        key = puzzle.tobytes()
        if key not in seen:
            seen.add(key)
            found.append((puzzle, answer))
        if len(found) == count:
            return found
    raise DataError(f"there are fewer than {count} puzzles of this kind: ask for less, or larger")


def _build(root: Path, make: Make, train: int, test: int, vocab: int, seed: int) -> Metadata:
    """Both splits; no puzzle is in both."""
    draw, seen = np.random.default_rng(seed), set()
    held = _distinct(make, test, seen, draw)
    shown = _distinct(make, train, seen, draw)
    write_set(root / "test", [[p] for p in held], vocab)
    return write_set(root / "train", [[p] for p in shown], vocab)


def build_sudoku(
    root: str | Path,
    side: int = 9,
    train: int = 1000,
    test: int = 200,
    holes: int = 0,
    seed: int = 0,
) -> Metadata:
    """Sudokus with one solution: 1 is an empty cell, 2 .. side + 1 are numbers, as the public set
    has them. `holes` is the most that are dug; 0 digs a half. Raises DataError."""
    most = holes or side * side // 2

    def make(draw: np.random.Generator) -> Puzzle:
        puzzle, answer = puzzles.sudoku(side, most, draw)
        return (puzzle + 1).astype(np.uint8), (answer + 1).astype(np.uint8)

    return _build(Path(root), make, train, test, side + 2, seed)


def build_maze(
    root: str | Path, side: int = 11, train: int = 1000, test: int = 200, seed: int = 0
) -> Metadata:
    """Mazes with one way from start to goal. Raises DataError."""
    make = lambda draw: puzzles.maze(side, draw)  # noqa: E731
    return _build(Path(root), make, train, test, 6, seed)


def build_arc(root: str | Path, tasks: str | Path) -> Metadata:
    """ARC tasks of a local folder: JSON files with `train` and `test` pairs of grids up to 30 x 30.

    Cells are colours + 2, 1 ends a row or the grid, 0 is outside. Demonstrations are trained, tests
    are the test split. Raises DataError for a folder without tasks, or with other files in it.
    """
    files = sorted(Path(tasks).glob("*.json"))
    if not files:
        raise DataError(f"{tasks}: no .json files of ARC tasks")
    splits: dict[str, list[list[Puzzle]]] = {"train": [], "test": []}
    for file in files:
        try:
            task = json.loads(file.read_text(encoding="utf-8"))
            for split, groups in splits.items():
                groups.append([(_grid(p["input"]), _grid(p["output"])) for p in task[split]])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as problem:
            raise DataError(f"{file}: no ARC task: {problem!r}") from problem
    write_set(Path(root) / "test", splits["test"], 12)
    return write_set(Path(root) / "train", splits["train"], 12)


def _grid(rows: list[list[int]]) -> np.ndarray:
    """A grid on 30 x 30 cells, its end marked."""
    grid = np.asarray(rows, np.uint8)
    if grid.ndim != 2 or max(grid.shape) > 30 or grid.max() > 9:
        raise ValueError(f"a grid of {grid.shape} with colours up to {grid.max()}")
    made = np.zeros((30, 30), np.uint8)
    high, wide = grid.shape
    made[:high, :wide] = grid + 2
    if high < 30:
        made[high, :wide] = 1
    if wide < 30:
        made[:high, wide] = 1
    return made
