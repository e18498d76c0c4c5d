"""A file that could not be ported at all, as one thing that is left: where it is, and why."""

from __future__ import annotations

import re
from pathlib import Path

from torch2mlx.errors import Code, MissingLibraryError, PortError, Unsupported

#: What is wrong with more than the file that was at hand.
_NOT_OF_THE_FILE = (MissingLibraryError, MemoryError, OSError)


def left_whole(error: Exception, file: Path) -> Unsupported:
    """What is left where a file raised an error. Raises it where it is not of the file alone."""
    if isinstance(error, _NOT_OF_THE_FILE):
        raise error
    if not isinstance(error, PortError):
        first = (str(error).strip().splitlines() or [""])[0]
        why = f"a fault of torch2mlx itself: {type(error).__name__}: {first}"
        return Unsupported(Code.ERROR, "", f"the file is left as it is: {why}")
    place = re.match(rf"{re.escape(str(file))}:(?:(\d+):(?:\d+:)?)? ", str(error))
    why = str(error)[place.end() :] if place else str(error)
    line = int(place[1]) if place and place[1] else 0
    return Unsupported(Code.ERROR, "", f"the file is left as it is: {why}", line)
