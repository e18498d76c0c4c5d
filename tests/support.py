"""What tests share: optional libraries, seeded data, exact comparison."""

from __future__ import annotations

import fcntl
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

#: Set where only numpy and pytest are installed (`./dev debian`).
BARE = bool(os.environ.get("TORCH2MLX_BARE_TESTS"))


def need(*names: str) -> list[Any]:
    """Imports libraries that the tests of a file compare with.

    They must be there, except in a bare run, where the file is skipped.
    """
    if BARE:
        for name in names:
            pytest.importorskip(name, reason=f"bare run: {name} is not part of it")
    return [importlib.import_module(name) for name in names]


@contextmanager
def alone(factory: pytest.TempPathFactory, name: str) -> Iterator[None]:
    """One process of those that share the tests at a time, of all that give this name."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(shared / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def same_bits(a: Any, b: Any) -> bool:
    """Whether two torch tensors agree in dtype, shape and every bit."""
    torch = importlib.import_module("torch")
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(a, b)


def assert_same_state(found: Any, expected: Any) -> None:
    """Two torch state dicts: same keys in the same order, same bits."""
    assert list(found) == list(expected)
    for key, value in expected.items():
        if hasattr(value, "dtype"):
            assert same_bits(found[key], value), key
        else:
            assert found[key] == value, key


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """max|a - b| <= tolerance * max(1, max|b|), as arrays, shapes included."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    if b.size:
        assert np.max(np.abs(a - b)) <= tolerance * max(1.0, float(np.max(np.abs(b))))
