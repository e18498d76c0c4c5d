"""The one shape in which --format json answers, results and errors alike."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from torch2mlx.errors import MissingLibraryError, Torch2MLXError, UnsupportedOperatorError

#: Codes of errors that are no Torch2MLXError; the others are named after their classes.
USAGE, INTERRUPTED, SYSTEM, MEMORY = "usage", "interrupted", "system", "memory"
MISSING_LIBRARY, INTERNAL = "missing-library", "internal"

_NAMED = re.compile(r"[\w-]+ '[^']*'")


def envelope(result: Any, error: dict[str, Any] | None = None) -> dict[str, Any]:
    """`{ok, result, error}`."""
    return {"ok": error is None, "result": result, "error": error}


def enveloped(result: Any, error: dict[str, Any] | None = None) -> str:
    """`{ok, result, error}` as JSON."""
    return json.dumps(envelope(result, error), indent=2, default=str)


def error_data(message: str, code: str, error: BaseException | None = None) -> dict[str, Any]:
    """`{code, message, where, what_to_do}`, and `unsupported` where `error` has a list of that.

    Messages of this project read "where: what is wrong; what to do". `message` is the whole,
    `where` and `what_to_do` are its parts, None where it has none.
    """
    head, colon, rest = message.partition(": ")
    where = head if colon and _is_place(head) else None
    told, semicolon, advice = (rest if where else message).rpartition("; ")
    command = error.command if isinstance(error, MissingLibraryError) else ""
    data: dict[str, Any] = {
        "code": code,
        "message": message,
        "where": where,
        "what_to_do": command or (advice if semicolon and told else None),
    }
    if isinstance(error, UnsupportedOperatorError):
        data["unsupported"] = [
            {"code": str(u.code), "where": u.where, "detail": u.detail} for u in error.unsupported
        ]
    return data


def _is_place(text: str) -> bool:
    """Whether the head of a message is a path, a line, a name of an option or of a tensor."""
    return " " not in text or os.path.exists(text) or bool(_NAMED.fullmatch(text))


def code_of(error: BaseException) -> str:
    """The stable name of an error's kind."""
    if isinstance(error, Torch2MLXError):
        return error.code
    kinds = (
        (KeyboardInterrupt, INTERRUPTED),
        (OSError, SYSTEM),
        (ImportError, MISSING_LIBRARY),
        (MemoryError, MEMORY),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), INTERNAL)
