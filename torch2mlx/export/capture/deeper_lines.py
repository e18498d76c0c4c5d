"""Lines of helpers: torch.export keeps the lines of forwards alone, and what a forward calls is
where an operator is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch2mlx.export.capture.source_lines import of_library


@contextmanager
def deeper_lines() -> Iterator[None]:
    """While open, a node's stack trace goes on below the last forward, through the model's own
    functions and methods."""
    import traceback

    from torch.fx.proxy import TracerBase

    tracer: Any = TracerBase
    original = getattr(tracer, "_filter_traceback_frames", None)
    if original is None:  # a torch that keeps other lines
        yield
        return

    def filtered(self: Any, summary: Any) -> Any:
        kept = original(self, summary)
        if not kept:
            return kept
        last = max(i for i, frame in enumerate(summary) if frame is kept[-1])
        own = [frame for frame in summary[last + 1 :] if not of_library(frame.filename)]
        return traceback.StackSummary.from_list([*kept, *own])

    tracer._filter_traceback_frames = filtered
    try:
        yield
    finally:
        tracer._filter_traceback_frames = original
