"""What a script did, as plain data and arrays: written by the process that ran it, read by others.

A recording is a folder: `record.json`, in which `{"array": "17"}` stands for an array, and
`arrays.npz`. Nothing in it is code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

#: Arrays with more items than this are left out where they are only compared: their comparison is
#: left to what follows. What the other side is given (weights, draws) is kept at any size.
LARGEST = 1 << 22


class Recorder:
    """Collects arrays under numbers, and the data that names them."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, value: np.ndarray, given: bool = False) -> dict[str, str] | None:
        """Keeps an array; what stands for it in the data. None where it is too large and not
        `given` to the other side."""
        if value.size > LARGEST and not given:
            return None
        number = str(len(self.arrays))
        self.arrays[number] = value
        return {"array": number}

    def save(self, folder: Path, data: dict[str, Any]) -> None:
        """Writes the recording; the data last, so that what is there is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        held: dict[str, Any] = {f"a{name}": array for name, array in self.arrays.items()}
        np.savez(folder / "arrays.npz", **held)
        (folder / "record.json").write_text(json.dumps(data))


def read(folder: Path) -> dict[str, Any]:
    """A recording with its arrays in their places."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as held:
        arrays = {name[1:]: held[name] for name in held.files}
    data: dict[str, Any] = _filled(json.loads((folder / "record.json").read_text()), arrays)
    return data


def _filled(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {key: _filled(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, arrays) for item in value]
    return value
