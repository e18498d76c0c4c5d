"""Which of equal items come first in torch.topk on the CPU: what its selection does to a row of
them.

torch selects with the C++ standard library (partial_sort where k * 64 <= n, else nth_element and
sort), so the order is that of the algorithm. These are the published algorithms (introselect,
introsort, heap selection), run on positions while every comparison answers "not before".
"""

from __future__ import annotations

from functools import lru_cache

_FEW = 3
_SHORT = 16


def _partition(row: list[int], first: int, last: int) -> int:
    """Hoare's partition around the middle item, all items being equal."""
    middle = first + (last - first) // 2
    row[first], row[middle] = row[middle], row[first]
    low, high = first + 1, last
    while True:
        high -= 1
        if low >= high:
            return low
        row[low], row[high] = row[high], row[low]
        low += 1


def _select(row: list[int], place: int) -> None:
    first, last = 0, len(row)
    while last - first > _FEW:
        cut = _partition(row, first, last)
        first, last = (cut, last) if cut <= place else (first, cut)


def _sort(row: list[int], first: int, last: int) -> None:
    while last - first > _SHORT:
        cut = _partition(row, first, last)
        _sort(row, cut, last)
        last = cut


def _sink(row: list[int], hole: int, length: int, value: int) -> None:
    """Puts a value into a heap from its hole down, always along the second child."""
    child = hole
    while child < (length - 1) // 2:
        child = 2 * (child + 1)
        row[hole] = row[child]
        hole = child
    if length % 2 == 0 and child == (length - 2) // 2:
        child = 2 * (child + 1)
        row[hole] = row[child - 1]
        hole = child - 1
    row[hole] = value


def _heap_order(row: list[int], k: int) -> None:
    for parent in range((k - 2) // 2, -1, -1):
        _sink(row, parent, k, row[parent])
    for last in range(k - 1, 0, -1):
        value = row[last]
        row[last] = row[0]
        _sink(row, 0, last, value)


@lru_cache(maxsize=256)
def order_of_equals(n: int, k: int) -> tuple[int, ...]:
    """Positions that torch.topk gives for n equal items, in its order."""
    row = list(range(n))
    if k * 64 <= n:
        _heap_order(row, k)
    elif k:
        _select(row, k - 1)
        _sort(row, 0, k - 1)
    return tuple(row[:k])
