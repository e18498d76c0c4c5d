"""Files built byte by byte: well-formed small ones, and named broken ones."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence

Entry = tuple[str, str, Sequence[int], tuple[int, int]]


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file from a header (JSON value or raw bytes) and a data section."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: Sequence[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def small_safetensors() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "a": entry("F32", (2, 2), 0, 16),
        "b": entry("U8", (3,), 16, 19),
    }
    return safetensors(header, bytes(range(19)))


BROKEN_SAFETENSORS: dict[str, tuple[bytes, str]] = {
    # name: (file, status of the core)
    "empty": (b"", "TRUNCATED"),
    "seven bytes": (b"\0" * 7, "TRUNCATED"),
    "header length to the end of 64 bits": (
        struct.pack("<Q", 2**64 - 1) + b"{}",
        "ST_HEADER_LIMIT",
    ),
    "header length of 2^63": (struct.pack("<Q", 2**63) + b"{}", "ST_HEADER_LIMIT"),
    "header longer than the file": (struct.pack("<Q", 3) + b"{}", "ST_HEADER_LENGTH"),
    "header over the limit": (struct.pack("<Q", 100_000_001) + b"{}", "ST_HEADER_LIMIT"),
    "no object": (safetensors(b"[1]"), "ST_HEADER_START"),
    "byte order mark": (safetensors(b"\xef\xbb\xbf{}"), "ST_HEADER_START"),
    "empty header": (safetensors(b""), "ST_HEADER_START"),
    "zero bytes after the object": (safetensors(b"{}\0\0"), "TRAILING"),
    "syntax": (safetensors(b'{"a" 1}'), "JSON_SYNTAX"),
    "data after the object": (safetensors(b"{} x"), "TRAILING"),
    "deep": (safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "*"),
    "wrong UTF-8": (safetensors(b'{"\xff":1}'), "BAD_UTF8"),
    "lone surrogate": (safetensors(b'{"\\ud800":1}'), "*"),
    "metadata twice": (
        safetensors(b'{"__metadata__":null,"__metadata__":{}}'),
        "JSON_DUPLICATE",
    ),
    "field twice": (
        safetensors(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "JSON_DUPLICATE",
    ),
    "a repeated name whose last entry leaves a hole": (
        safetensors(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
            b"xy",
        ),
        "ST_HOLE",
    ),
    "missing field": (safetensors({"a": {"dtype": "U8", "shape": [1]}}, b"x"), "ST_FIELD"),
    "an array of four": (safetensors({"a": ["U8", [1], [0, 1], 1]}, b"x"), "ST_FIELD"),
    "an array of two": (safetensors({"a": ["U8", [1]]}, b"x"), "ST_FIELD"),
    "a number beyond a double in another field": (
        safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1e999}}', b"x"),
        "JSON_RANGE",
    ),
    "another field too deep": (
        safetensors(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":'
            + b"[" * 126
            + b"]" * 126
            + b"}}",
            b"x",
        ),
        "DEPTH",
    ),
    "no name of a dtype": (safetensors({"a": entry("u8", [1], 0, 1)}, b"x"), "BAD_DTYPE"),
    "a dtype of two": (
        safetensors(b'{"a":{"dtype":{"U8":null,"I8":null},"shape":[1],"data_offsets":[0,1]}}'),
        "JSON_TYPE",
    ),
    "dtype null": (
        safetensors(b'{"a":{"dtype":null,"shape":[1],"data_offsets":[0,1]}}', b"x"),
        "JSON_TYPE",
    ),
    "shape null": (
        safetensors(b'{"a":{"dtype":"U8","shape":null,"data_offsets":[0,1]}}', b"x"),
        "JSON_TYPE",
    ),
    "three offsets": (
        safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}', b"x"),
        "JSON_SYNTAX",
    ),
    "half a byte": (safetensors({"a": entry("F4", [3], 0, 2)}, bytes(2)), "ST_BITS"),
    "bytes of a foreign dtype": (
        safetensors({"a": entry("C128", [1], 0, 8)}, bytes(8)),
        "BAD_SHAPE",
    ),
    "overlap": (
        safetensors({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6)),
        "ST_OVERLAP",
    ),
    "hole": (
        safetensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 4, 6)}, bytes(6)),
        "ST_HOLE",
    ),
    "bytes at the end": (
        safetensors({"a": entry("U8", [2], 0, 2)}, bytes(6)),
        "ST_HOLE",
    ),
    "past the end": (safetensors({"a": entry("U8", [9], 0, 9)}, bytes(6)), "ST_OFFSETS"),
    "backwards": (safetensors({"a": entry("U8", [2], 4, 2)}, bytes(6)), "ST_OFFSETS"),
    "shape and bytes": (
        safetensors({"a": entry("F32", [2], 0, 4)}, bytes(4)),
        "BAD_SHAPE",
    ),
    "shape overflows": (
        safetensors({"a": entry("F32", [2**32, 2**32, 4], 0, 0)}),
        "*",
    ),
    "negative dimension": (safetensors({"a": entry("U8", [-1], 0, 1)}, b"x"), "JSON_NUMBER"),
    "fractional offset": (
        safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1.0]}}', b"x"),
        "JSON_NUMBER",
    ),
    "offset beyond 64 bits": (
        safetensors(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616]}}', b"x"
        ),
        "JSON_NUMBER",
    ),
    "metadata of numbers": (safetensors({"__metadata__": {"a": 1}}), "JSON_TYPE"),
    "metadata of nulls": (safetensors({"__metadata__": {"a": None}}), "JSON_TYPE"),
    "metadata in an array": (safetensors({"__metadata__": []}), "JSON_TYPE"),
    "a tensor called __metadata__": (
        safetensors({"__metadata__": entry("U8", [1], 0, 1)}, b"x"),
        "JSON_TYPE",
    ),
    "null that is none": (safetensors(b'{"__metadata__":nul}'), "JSON_SYNTAX"),
}


def zip_file(entries: Sequence[tuple[str, bytes]], *, bad_crc: bool = False) -> bytes:
    """A zip of stored entries, as torch.save writes them."""
    body, directory = b"", b""
    for name, data in entries:
        crc = zlib.crc32(data) ^ (1 if bad_crc else 0)
        fields = (0, 0, 0, 0, crc, len(data), len(data), len(name), 0)
        local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, *fields) + name.encode()
        central = struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, *fields, 0, 0, 0, 0, len(body)
        )
        directory += central + name.encode()
        body += local + data
    count = len(entries)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def pickled(code: bytes) -> bytes:
    """A torch archive with this pickle and one storage of eight bytes."""
    return zip_file(
        [("archive/data.pkl", code), ("archive/version", b"3\n"), ("archive/data/0", bytes(8))]
    )
