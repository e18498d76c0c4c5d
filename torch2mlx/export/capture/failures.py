"""Models that torch.export cannot trace: why, in one sentence, at which line, then torch's own
words."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch2mlx.common import options
from torch2mlx.errors import ExportError
from torch2mlx.export.capture.source_lines import raising_line

#: What torch's messages hold -> what it means for the model.
_MEANINGS = (
    (
        r"transformers\.cache_utils",
        "it answers a cache of keys and values: give {use_cache}",
    ),
    (
        r"data-dependent|DataDependent|Dynamic control flow|Cannot guard on",
        "the forward branches on values of a tensor, or makes a number of them: write torch.where, "
        "or torch.cond for a branch",
    ),
    (
        r"Unsupported type|register_pytree_node|registered with pytree|not a known type",
        "an input or output is of a type that torch.export does not know: register its class with "
        "torch.export.register_dataclass, or use tuples, lists and dicts",
    ),
    (
        r"unhashable type: non-nested SymInt",
        "a length is a member of a set or the key of a dict: compare lengths instead",
    ),
    (
        r"\.numpy\(\)|numpy\.ndarray|Can't call numpy",
        "the forward leaves torch for numpy: write it with tensors",
    ),
)
#: What torch adds to its messages for those who work on torch.
_ADDED = re.compile(
    r"^(For more |For extended |If you suspect |Caused by|The error above occurred|Set TORCH|"
    r"Developer debug|User code traceback|consider using data-dependent friendly|Hint:|\s*$)"
)
_MOST = 400


def untraceable(model: Any, problems: Sequence[Exception]) -> ExportError:
    """The error for a model that no way of tracing took; `problems` are what the ways raised."""
    problem = next((p for p in problems if isinstance(p, ExportError)), problems[0])
    if isinstance(problem, ExportError):
        return problem
    said = f"{type(problem).__name__}: {_words(str(problem))}".rstrip(": ")
    meaning = next((text for found, text in _MEANINGS if re.search(found, str(problem))), "")
    meaning = meaning.format(use_cache=options.among_inputs("use_cache", False))
    place = next((line for line in map(raising_line, problems) if line), "")
    told = f"torch.export cannot trace {type(model).__name__}{place}: "
    return ExportError(told + (f"{meaning}. torch.export said: {said}" if meaning else said))


def _words(text: str) -> str:
    """torch's message without what is for torch's own developers."""
    lines: list[str] = []
    for line in text.split("\n"):
        if _ADDED.match(line):
            if lines:
                break
            continue
        lines.append(line.strip())
    whole = " ".join(lines)
    return whole if len(whole) <= _MOST else whole[:_MOST].rsplit(" ", 1)[0] + " ..."


@contextmanager
def quietly() -> Iterator[None]:
    """torch.export without its logs, warnings and printed graphs."""
    known = [n for n in logging.root.manager.loggerDict if n.split(".")[0] == "torch"]
    loggers = [logging.getLogger(name) for name in known]
    disabled = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was
