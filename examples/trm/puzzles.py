"""Puzzles made here, without a network: sudoku of any square size, and mazes with one way out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np


def solved_board(side: int, draw: np.random.Generator) -> np.ndarray:
    """A full sudoku, (side, side), numbers from 1: a pattern whose symmetries are shuffled."""
    box = round(side**0.5)
    if box * box != side:
        raise ValueError(f"a sudoku of side {side} has no square boxes")
    pattern = (np.arange(side)[:, None] * box + np.arange(side)[:, None] // box) % side
    board = (pattern + np.arange(side)) % side
    rows, columns = (_shuffled_lines(box, draw) for _ in range(2))
    board = draw.permutation(side)[board[rows][:, columns]]
    return (board.T if draw.random() < 0.5 else board) + 1


def _shuffled_lines(box: int, draw: np.random.Generator) -> np.ndarray:
    """Lines in another order, such that boxes stay boxes."""
    return np.concatenate([b * box + draw.permutation(box) for b in draw.permutation(box)])


def solutions(board: np.ndarray, most: int = 2) -> int:
    """How many ways there are to fill a board's zeros, up to `most`."""
    side = len(board)
    box = round(side**0.5)
    groups = np.zeros((3, side), np.int64)  # numbers taken in each row, column and box, as bits
    empty = []
    for i in range(side):
        for j in range(side):
            if board[i, j]:
                groups[0, i] |= 1 << board[i, j]
                groups[1, j] |= 1 << board[i, j]
                groups[2, i // box * box + j // box] |= 1 << board[i, j]
            else:
                empty.append((i, j, i // box * box + j // box))
    return _fill(groups, empty, (1 << (side + 1)) - 2, most)


def _fill(groups: np.ndarray, empty: list, full: int, most: int) -> int:
    if not empty:
        return 1
    free = [full & ~int(groups[0, i] | groups[1, j] | groups[2, k]) for i, j, k in empty]
    at = min(range(len(empty)), key=lambda n: free[n].bit_count())
    (i, j, k), left, found = empty[at], free[at], 0
    rest = empty[:at] + empty[at + 1 :]
    while left and found < most:
        bit = left & -left
        left ^= bit
        for group, place in zip(groups, (i, j, k), strict=True):
            group[place] |= bit
        found += _fill(groups, rest, full, most - found)
        for group, place in zip(groups, (i, j, k), strict=True):
            group[place] ^= bit
    return found


def sudoku(side: int, holes: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(puzzle with zeros, solution): up to `holes` are dug, while the solution is the only one."""
    answer = solved_board(side, draw)
    puzzle = answer.copy()
    dug = 0
    for place in draw.permutation(side * side):
        i, j = divmod(int(place), side)
        puzzle[i, j] = 0
        if solutions(puzzle) == 1:
            dug += 1
            if dug == holes:
                break
        else:
            puzzle[i, j] = answer[i, j]
    return puzzle, answer


WALL, FREE, START, GOAL, WAY = range(1, 6)  # as the public set has them: "# SGo"


def maze(side: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(maze, the same with the way from start to goal marked): a tree, so there is one way."""
    grid = np.full((side, side), WALL, np.uint8)
    start = (1, 1)
    grid[start] = FREE
    stack = [start]
    while stack:
        i, j = stack[-1]
        steps = [(i + 2 * a, j + 2 * b) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        steps = [(a, b) for a, b in steps if 0 < a < side - 1 and 0 < b < side - 1]
        steps = [place for place in steps if grid[place] == WALL]
        if not steps:
            stack.pop()
            continue
        a, b = steps[draw.integers(len(steps))]
        grid[(i + a) // 2, (j + b) // 2] = grid[a, b] = FREE
        stack.append((a, b))
    places = np.argwhere(grid == FREE)
    begin, end = (tuple(int(n) for n in places[k]) for k in draw.choice(len(places), 2, False))
    answer = grid.copy()
    for place in _way(grid, begin, end):
        answer[place] = WAY
    for board in (grid, answer):
        board[begin], board[end] = START, GOAL
    return grid, answer


def _way(grid: np.ndarray, begin: tuple, end: tuple) -> Iterator[tuple]:
    """Places between two, by breadth-first search."""
    came, waiting = {begin: begin}, deque([begin])
    while end not in came:
        i, j = waiting.popleft()
        for place in ((i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)):
            if place not in came and grid[place] != WALL:
                came[place] = (i, j)
                waiting.append(place)
    place = came[end]
    while place != begin:
        yield place
        place = came[place]
