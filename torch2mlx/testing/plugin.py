"""The pytest plugin (entry point `pytest11`): fixtures for models that have a twin in MLX.

pytest imports this at every start, also where nobody uses it: it imports pytest alone. A fixture
whose libraries are not installed skips the test that uses it, and says which they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

_TOLERANCE = "torch2mlx_tolerance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option of the ini file."""
    parser.addini(
        _TOLERANCE,
        "largest difference that assert_translates allows, as max|a - b| / max(1, max|a|); "
        "by the dtype of the output if not given",
        default="",
    )


def _needs(fixture: str, *more: str) -> None:
    from torch2mlx.common.optional import need
    from torch2mlx.errors import MissingLibraryError

    try:
        need(fixture, "torch", "mlx", *more)
    except MissingLibraryError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", name=_TOLERANCE)
def _tolerance(pytestconfig: pytest.Config) -> float | None:
    """The tolerance of assert_translates: of the ini file, None for that of the dtype.

    A fixture of this name in a conftest.py sets another for the tests below it.
    """
    text = str(pytestconfig.getini(_TOLERANCE)).strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise pytest.UsageError(f"{_TOLERANCE} is a number such as 1e-4, not {text!r}")
    return value


@pytest.fixture(name="assert_translates")
def _assert_translates(torch2mlx_tolerance: float | None) -> Callable[..., Any]:
    """torch2mlx.testing.assert_translates, with the tolerance of the ini file."""
    _needs("assert_translates")
    from torch2mlx.testing import assert_translates

    return functools.partial(assert_translates, tolerance=torch2mlx_tolerance)


@pytest.fixture(scope="session", name="mlx_twin")
def _mlx_twin() -> Callable[..., Any]:
    """torch2mlx.testing.mlx_twin: the live MLX module of a model, compared with it."""
    _needs("mlx_twin")
    from torch2mlx.testing import mlx_twin

    return mlx_twin


@pytest.fixture(name="assert_converts")
def _assert_converts(tmp_path: Any) -> Callable[..., Any]:
    """torch2mlx.testing.assert_converts, with a file of the test's own folder to write."""
    _needs("assert_converts")
    from torch2mlx.testing import assert_converts

    def check(model: Any, out: Any = None) -> Any:
        return assert_converts(model, tmp_path / "weights.safetensors" if out is None else out)

    return check


@pytest.fixture(scope="session", name="assert_generates")
def _assert_generates() -> Callable[..., Any]:
    """torch2mlx.testing.assert_generates: a language model says the same in MLX."""
    _needs("assert_generates", "transformers")
    from torch2mlx.testing import assert_generates

    return assert_generates


@pytest.fixture(scope="session", name="assert_same_training")
def _assert_same_training() -> Callable[..., Any]:
    """torch2mlx.testing.assert_same_training: two training scripts, or one and its port."""
    _needs("assert_same_training", "libcst")
    from torch2mlx.testing import assert_same_training

    return assert_same_training
