"""The one check of a marker that a stranger may have written.

Everything in it is bounded by the length of its text: each key and each target occurs once, no
size overflows, layouts are read by `weights.layout`, nothing nests deeply. Failures are
ValueErrors that name the entry; `write.marker` says which file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from torch2mlx.catalog.weights.folds import FORMULAS
from torch2mlx.catalog.weights.layout import parse
from torch2mlx.catalog.weights.merges import MERGES
from torch2mlx.types import ITEM_BYTES, Made, Trace

VERSION = 2
#: Name of the marker, and of the digests beside it, in the metadata of a file.
KEY = "torch2mlx"
DIGESTS = "torch2mlx.digests"
MAX_RANK = 16  # T2M_MAX_RANK of the core
MAX_DEPTH = 64
_MAX_BYTES = 2**63 - 1
#: Bytes of a file name that systems can have.
_MAX_NAME = 255
_DIGEST = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NewerVersion(ValueError):
    """A marker of a later format; its version is the message."""


@dataclass(frozen=True)
class Marker:
    """A plan as a file holds it. `sidecar`: {"file": name, "sha256": hex}."""

    version: int
    writer: str
    tensors: tuple[Trace, ...]
    made: tuple[Made, ...]
    shared: tuple[tuple[str, ...], ...]
    ties: Mapping[str, str]
    sidecar: Mapping[str, str] | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """The marker of a further shard: the name of the file that has the plan."""

    part_of: str


def _fail(where: str, what: str) -> NoReturn:
    raise ValueError(f"{where}: {what}")


def _list(value: Any, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        _fail(where, "is no list" if length is None else f"is no list of {length}")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _fail(where, "is no object")
    return value


def _text(value: Any, where: str) -> str:
    """Text that a file can hold: JSON also writes halves of surrogate pairs."""
    if not isinstance(value, str):
        _fail(where, "is no text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        _fail(where, "is no valid text")
    return value


def _file_name(value: Any, where: str) -> str:
    name = _text(value, where)
    odd = name in ("", ".", "..") or not name.isprintable() or set(name) & set("/\\:")
    if odd or len(name.encode()) > _MAX_NAME:
        _fail(where, f"{name[:_MAX_NAME]!r} is no name of a file beside it")
    return name


def _size(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_BYTES:
        _fail(where, "has a size that is no number of items")
    return value


def _shape(value: Any, dtype: str, where: str) -> tuple[int, ...]:
    sizes = tuple(_size(size, where) for size in _list(value, where))
    if len(sizes) > MAX_RANK:
        _fail(where, f"has more than {MAX_RANK} dimensions")
    if math.prod(max(size, 1) for size in sizes) * ITEM_BYTES[dtype] > _MAX_BYTES:
        _fail(where, "is larger than any file")
    return sizes


def _dtype(value: Any, where: str) -> str:
    if not isinstance(value, str) or value not in ITEM_BYTES:
        _fail(where, "has a dtype that torch2mlx does not know")
    return value


def _letters(value: Any, layout: str, shape: tuple[int, ...], where: str) -> dict[str, int]:
    """The sizes of a layout's letters, when they fit the shape of the source tensor."""
    try:
        parsed = parse(layout)
    except ValueError as error:
        _fail(where, str(error))
    sizes = {k: _size(v, where) for k, v in _object(value, where).items()}
    letters = [letter for group in parsed.before for letter in group]
    if len(letters) > MAX_RANK or sizes.keys() != set(letters):
        _fail(where, f"does not give the sizes of {layout!r}")
    if parsed.inverse.shape(sizes) != shape:
        _fail(where, f"has a layout that does not fit {list(shape)}")
    return sizes


class _Reader:
    """Reads a marker; remembers what was named, so that nothing is used twice."""

    def __init__(self) -> None:
        self._targets: set[str] = set()
        self._uses: dict[str | int, int] = {}

    def _target(self, value: Any, where: str) -> str:
        name = _text(value, where)
        if name in self._targets:
            _fail(where, f"{name!r} is used a second time")
        self._targets.add(name)
        return name

    def recipe(self, value: Any, shape: tuple[int, ...], where: str) -> tuple[Any, ...]:
        """A recipe for a tensor of this shape."""
        parts = _list(value, where)
        kind = parts[0] if parts else None
        if kind == "s" and len(parts) == 1:
            return ("s",)
        if kind == "t" and len(parts) == 2:
            return ("t", self._target(parts[1], where))
        if kind == "l" and len(parts) == 4:
            layout = _text(parts[2], where)
            sizes = _letters(parts[3], layout, shape, where)
            return ("l", self._target(parts[1], where), layout, sizes)
        if kind == "c" and len(parts) == 2:
            names = [self._target(name, where) for name in _list(parts[1], where)]
            if not names or not shape or shape[0] % len(names):
                _fail(where, f"joins {len(names)} tensors to {list(shape)}")
            return ("c", names)
        _fail(where, "has no recipe that torch2mlx knows")

    def tensors(self, value: Any) -> Iterator[Trace]:
        """The source tensors."""
        seen: set[str] = set()
        for i, entry in enumerate(_list(value, "tensors")):
            parts = _list(entry, f"tensors[{i}]", 4)
            key = _text(parts[0], f"tensors[{i}]")
            where = f"tensor {key!r}"
            if key in seen:
                _fail(where, "is there twice")
            seen.add(key)
            dtype = _dtype(parts[1], where)
            shape = _shape(parts[2], dtype, where)
            yield Trace(key, dtype, shape, self.recipe(parts[3], shape, where))

    def made(self, value: Any, kept: set[str]) -> Iterator[Made]:
        """The computed tensors: folds of sidecar tensors, and merges of these or of folds."""
        self._uses = dict.fromkeys(kept, 0)
        for i, entry in enumerate(_list(value, "made")):
            where = f"made[{i}]"
            how, dim, sources, dtype, shape, recipe = _list(entry, where, 6)
            if not isinstance(how, str) or how not in (*FORMULAS, *MERGES, "module"):
                _fail(where, "has a formula that torch2mlx does not know")
            if dim is not None and (type(dim) is not int or not -MAX_RANK <= dim < MAX_RANK):
                _fail(where, "has a dimension that is none")
            named = self._sources(sources, where)
            sizes = _shape(shape, _dtype(dtype, where), where)
            given = self.recipe(recipe, sizes, where) if recipe != [] else ()
            if how not in MERGES:
                self._uses[i] = 0
            if given == ("s",) or (how in MERGES and not given):
                _fail(where, "has no target")
            yield Made(how, dim, named, dtype, sizes, given)

    def _sources(self, value: Any, where: str) -> tuple[str | int, ...]:
        """Each once here and, as torch's GRU has it, twice in all."""
        named = _list(value, where)
        for source in named:
            if type(source) not in (str, int) or self._uses.get(source, 2) == 2:
                _fail(where, f"is made from {str(source)[:80]!r}, which is not there, or too often")
            self._uses[source] += 1
        if not named or len(set(named)) != len(named):
            _fail(where, "has no sources, or one twice")
        return tuple(named)


def _ties(value: Any) -> dict[str, str]:
    ties = {_text(k, "ties"): _text(v, "ties") for k, v in _object(value, "ties").items()}
    for name, first in ties.items():
        if first in ties:
            _fail("ties", f"{name!r} is tied to {first!r}, which is tied itself")
    return ties


def _sidecar(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    found = _object(value, "sidecar")
    sha = found.get("sha256")
    if found.keys() != {"file", "sha256"} or not isinstance(sha, str) or not _SHA256.fullmatch(sha):
        _fail("sidecar", "is no file name with a sha256")
    return {"file": _file_name(found["file"], "sidecar"), "sha256": sha}


def _shared(value: Any, keys: set[str]) -> tuple[tuple[str, ...], ...]:
    groups, seen = [], set[str]()
    for entry in _list(value, "shared"):
        group = [_text(key, "shared") for key in _list(entry, "shared")]
        if not keys.issuperset(group) or seen.intersection(group) or len(set(group)) < len(group):
            _fail("shared", "names a tensor that is not there, or twice")
        seen.update(group)
        groups.append(tuple(group))
    return tuple(groups)


def _constant(name: str) -> NoReturn:
    _fail("JSON", f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _fail("JSON", "an object has one name twice")
    return found


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
    except RecursionError as error:
        raise ValueError("nests too deeply") from error
    return _object(found, "it")


def _check_values(value: Any) -> dict[str, Any]:
    """Plain values; too deep ones could not be written again."""
    found = _object(value, "values")
    level: list[Any] = [found]
    for key in level[0]:
        _text(key, "values")
    for _ in range(MAX_DEPTH):
        nested = [list(v.values()) if isinstance(v, dict) else v for v in level]
        level = [v for values in nested for v in values if isinstance(v, (dict, list))]
        if not level:
            return found
    _fail("values", f"nest more than {MAX_DEPTH} deep")


def parse_marker(text: str) -> Marker | Part:
    """A marker, checked. Raises ValueError that names the entry that is wrong."""
    found = _json(text)
    version = found.get("version")
    if type(version) is not int or version < 1:
        _fail("version", "is no number")
    if version > VERSION:
        raise NewerVersion(f"{min(version, 10**6)}")
    if "part_of" in found:
        return Part(_file_name(found["part_of"], "part_of"))
    new = {"made", "shared"} if version > 1 else set[str]()
    missing = {"writer", "tensors", "ties", "sidecar", "values", *new} - found.keys()
    if missing:
        _fail("it", f"lacks {', '.join(sorted(missing))}")
    reader = _Reader()
    tensors = tuple(reader.tensors(found["tensors"]))
    kept = {trace.key for trace in tensors if trace.recipe == ("s",)}
    made = tuple(reader.made(found["made"], kept)) if version > 1 else ()
    shared = _shared(found["shared"], {t.key for t in tensors}) if version > 1 else ()
    return Marker(
        version,
        _text(found["writer"], "writer"),
        tensors,
        made,
        shared,
        _ties(found["ties"]),
        _sidecar(found["sidecar"]),
        _check_values(found["values"]),
    )


def parse_digests(text: str) -> dict[str, tuple[str, str]]:
    """(dtype, digest) by target, checked. Raises ValueError."""
    digests = {}
    for name, entry in _json(text).items():
        dtype, value = _list(entry, f"{name!r}", 2)
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            _fail(f"{name!r}", "has no digest")
        digests[_text(name, "a name")] = (_dtype(dtype, f"{name!r}"), value)
    return digests
