"""The bytes of a source as text and back, in the encoding that Python reads it in."""

from __future__ import annotations

import io
import tokenize
from contextlib import suppress
from pathlib import Path

from torch2mlx.errors import PortError


def decoded(place: Path) -> str:
    """The text of a file: UTF-8, or what its first lines declare. Raises PortError for others."""
    raw = place.read_bytes()
    try:
        text = raw.decode(_encoding(raw))
    except (SyntaxError, LookupError, UnicodeDecodeError) as error:
        line = _line(raw)
        raise PortError(
            f"{place}:{line}: is no text in UTF-8, nor in an encoding that its first lines "
            "declare; save it in UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise PortError(f"{place}:{line}: holds a NUL, so it is no Python")
    return text


def encoded(text: str) -> bytes:
    """The bytes of a text, in the encoding that it declares."""
    raw = text.encode("utf-8", "surrogateescape")
    with suppress(SyntaxError, LookupError, UnicodeEncodeError):
        return text.encode(_encoding(raw))
    return raw


def _encoding(raw: bytes) -> str:
    found = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
    return "utf-8" if found == "utf-8-sig" else found  # its mark stays in the text


def _line(raw: bytes) -> int:
    """The first line that is not UTF-8; 1 where all are."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return raw.count(b"\n", 0, error.start) + 1
    return 1
