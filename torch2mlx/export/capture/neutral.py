"""torch as it is outside of what a caller may have switched on around a call of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def neutral() -> Iterator[None]:
    """torch without autocast and inference mode, whatever is switched on around."""
    import torch

    kinds = [kind for kind in ("cpu", "cuda", "mps") if torch.is_autocast_enabled(kind)]
    before = [(kind, torch.get_autocast_dtype(kind)) for kind in kinds]
    with torch.inference_mode(False):
        for kind in kinds:
            torch.set_autocast_enabled(kind, False)
        try:
            yield
        finally:
            for kind, dtype in before:
                torch.set_autocast_enabled(kind, True)
                torch.set_autocast_dtype(kind, dtype)
