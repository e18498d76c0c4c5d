"""`python -m fuzz.seeds FOLDER`: small well-formed inputs for each target to start from."""

from __future__ import annotations

import pickle
import struct
import sys
from collections import OrderedDict
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np

from tests.checkpoint.source.builders import pickled, small_safetensors

MAGIC = 0x1950A86A20F9469CFC6C


def tensor_pickle(protocol: int = 2) -> bytes:
    """{"a": a float32 tensor of shape (1, 2) in storage "0"}, as torch pickles it."""
    text = lambda word: b"X" + struct.pack("<I", len(word)) + word  # noqa: E731
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu")
    storage += b"K\x02tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage
    rest = b"K\0K\x01K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
    return bytes([0x80, protocol]) + b"}X\x01\0\0\0a" + rebuild + rest + b"s."


def legacy() -> bytes:
    """The same in the format from before torch 1.6."""
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    parts = [pickle.dumps(value, 2) for value in (MAGIC, 1001, info)]
    parts += [tensor_pickle(), pickle.dumps(["0"], 2)]
    return b"".join(parts) + struct.pack("<Qff", 2, 1.0, 2.0)


class Unknown:
    """A class that no reader knows: holds a dict, is called, has a state."""

    def __init__(self, *given: object) -> None:
        self.given = given


def objects() -> list[bytes]:
    """Arrays of numpy and objects of unknown classes, in several protocols."""
    arrays = {"c": np.arange(3, dtype="<f4"), "f": np.ones((2, 2), ">i2", order="F")}
    arrays |= {"byte": np.arange(250, 256, dtype=np.uint8), "scalar": np.float64(1), "o": [None]}
    opaque = {"partial": partial(print, b"x" * 20), "e": Unknown(arrays["c"]), "d": timedelta(1)}
    found = [pickle.dumps(value, p) for value in (arrays, opaque) for p in (2, 4, 5)]
    found.append(b"(S'x'\nios\nsystem\n." + b"(cos\nsystem\nS'x'\no.")
    return [*found, b"\x80\x02\x82\x01.", b"Pid\n.", b"\x80\x04cos\nX\n)}\x92}b."]


def seeds() -> dict[str, list[bytes]]:
    """Inputs by target."""
    plain = {"state": [1, 2.5, None, True, "x", b"y", (1, 2, 3)], "big": 2**70}
    pickles = [tensor_pickle(), *(pickle.dumps(plain, p) for p in range(2, 6))]
    pickles += [pickle.dumps(OrderedDict(a={1, 2}), 4), *objects()]
    return {
        "json": [b'{"a": [1, -2.5e3, "\\u00e9", null], "b": {}}', b'"text"', b"123"],
        "safetensors": [small_safetensors()],
        "zip": [pickled(tensor_pickle())],
        "pickle": pickles,
        "archive": [pickled(code) for code in pickles],
        "legacy": [legacy()],
        "keys": [b"a.0.w\na.1.w\nb\n", b"0\n2\n1\n", b"a\na.b\n"],
    }


def main(folder: Path) -> None:
    """Writes a folder of seeds for each target."""
    for target, contents in seeds().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(contents):
            (folder / target / f"seed{i}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
