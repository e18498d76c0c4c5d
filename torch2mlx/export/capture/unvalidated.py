"""Distributions while a model is traced: what torch checks of their arguments are branches on
values, which torch.export cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_validation() -> Iterator[None]:
    """While open, distributions that were not asked to check their arguments do not."""
    from torch.distributions import Distribution

    was = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(was)
