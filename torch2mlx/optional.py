"""Libraries that are used where they are there."""

from __future__ import annotations

import importlib.util
import sys


def installed(name: str) -> bool:
    """Whether a library could be imported; asking does not import it."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
