"""What no test of translations may hide: a way to trace a model that was given up for a fault of
torch2mlx's own, where the next way was right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

#: What is noted of a way whose file was wrong on the example inputs, or could not run. At other
#: sizes torch's own answer may be undefined.
FAULTS = ("on the example inputs MLX answers otherwise", "a fault of torch2mlx")


@pytest.fixture(autouse=True)
def no_fault_is_gone_around(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test in which `translate` fell back to fewer free lengths for a fault of ours."""
    translator: Any = sys.modules.get("torch2mlx.translator")
    if translator is None:  # nothing was translated by the time the test is collected
        yield
        return
    attempted, faults = translator.attempted, []

    def watched(*args: Any) -> Any:
        made, notes = attempted(*args)
        faults.extend(note for note in notes if any(fault in note for fault in FAULTS))
        return made, notes

    monkeypatch.setattr(translator, "attempted", watched)
    yield
    assert not faults, faults
