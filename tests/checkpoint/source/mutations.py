"""Checkpoints with parts changed: each is answered or refused by name, soon and in little memory.

`python -m tests.checkpoint.source.mutations --files N --seed S [--keep FOLDER]`:
takes seeds of every kind,
changes bytes, JSON and pickles, and gives each to every verb that reads. Whatever is no error of
torch2mlx and no answer, takes 2 s of CPU, or 64 MiB beside the size of the files, is a finding:
it is printed, with its files kept. Exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickletools
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import torch2mlx
from tests.checkpoint.source.headers import edited_text, edited_value
from tests.checkpoint.source.mutation_seeds import Seed, seeds
from torch2mlx.errors import Torch2MLXError

SECONDS = 2.0
MEMORY = 64 << 20


class TooLong(BaseException):
    """The time is up. No handler for ordinary errors may take it for one."""


def _flip(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 8))):
        if changed:
            at = source.randrange(len(changed))
            changed[at] = source.choice(
                (0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1 << source.randrange(8))
            )
    return bytes(changed)


def _cut(data: bytes, source: random.Random) -> bytes:
    return data[: source.randrange(len(data) + 1)]


def _insert(data: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(data) + 1)
    return data[:at] + source.randbytes(source.choice((1, 2, 8, 64))) + data[at:]


def _splice(data: bytes, source: random.Random, other: bytes) -> bytes:
    at, end = sorted(source.randrange(len(other) + 1) for _ in range(2))
    to = source.randrange(len(data) + 1)
    return data[:to] + other[at:end][:4096] + data[to + source.choice((0, end - at)) :]


def _texts(source: random.Random) -> Any:
    """Values that have filled memories or burnt time somewhere."""
    return source.choice(
        (
            "a." * 2000 + "w",
            "0.99999999",
            "4294967296.w",
            "(a " * 30 + ")" * 30,
            "a" * 40 + " -> " + "a " * 40,
            10**6,
            10**9,
            2**31,
            2**63,
            -(2**63),
            1e308,
            [[[[]]]] * 8,
            "../../etc/passwd",
            "/dev/zero",
            "\x00",
            "\ud800",
        )
    )


def _json_value(value: Any, source: random.Random) -> Any:
    if source.random() < 0.3:
        parts = (
            list(value)
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else []
        )
        if parts:
            changed = value.copy()
            changed[source.choice(list(parts))] = _texts(source)
            return changed
    return edited_value(value, source)


def _json(data: bytes, source: random.Random) -> bytes:
    try:
        return json.dumps(_json_value(json.loads(data), source)).encode()
    except (ValueError, RecursionError):
        return edited_text(data, source)


def _header(data: bytes, source: random.Random) -> bytes:
    """A safetensors file with its header changed, or the JSON that its metadata holds."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.get("__metadata__") or {}
        names = [key for key, text in metadata.items() if text[:1] in "{["]
        if names and source.random() < 0.7:
            name = source.choice(names)
            metadata[name] = json.dumps(_json_value(json.loads(metadata[name]), source))
        else:
            header = edited_value(header, source)
        text = json.dumps(header).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        text = edited_text(data[8 : 8 + length], source)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _argument(source: random.Random) -> bytes:
    """A pickled value to stand where another stood."""
    number = source.choice((0, 1, 7, 255, 10**6, 2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**63)))
    text = str(_texts(source)).encode("utf8", "replace")[:5000]
    return source.choice(
        (
            b"\x8a\x08" + number.to_bytes(8, "little", signed=True),
            b"X" + len(text).to_bytes(4, "little") + text,
            b"N",
            b"\x88",
            b"}",
            b"]",
            b")",
            b"G\x7f\xf0\0\0\0\0\0\0",
            b"cbuiltins\neval\n",
            b"ccollections\nOrderedDict\n",
            b"h\0",
            b"2",
            b"(",
        )
    )


def _pickle(data: bytes, source: random.Random, start: int = 0) -> bytes:
    """A pickle with an opcode left out, doubled, exchanged or given another argument."""
    try:
        at = [op[2] for op in pickletools.genops(data[start:])]
    except (ValueError, IndexError, UnicodeDecodeError, AttributeError):
        at = []
    if len(at) < 4:
        return _flip(data, source)
    for _ in range(source.choice((1, 1, 2))):
        i = source.randrange(len(at) - 2)
        first, last = start + at[i], start + at[i + 1]
        op = data[first:last]
        new = source.choice(
            (b"", op * 2, op * source.choice((3, 50, 1000)), _argument(source), op + b"2")
        )
        data = data[:first] + new + data[last:]
        at = [p if p <= at[i] else p + len(new) - len(op) for p in at]
    return data


def _archive(data: bytes, source: random.Random) -> bytes:
    """A torch zip whose pickle (or another entry) is changed, with the checksums made right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            entries = {name: old.read(name) for name in old.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        return _flip(data, source)
    pickles = [name for name in entries if name.endswith(".pkl")] or list(entries)
    name = source.choice(pickles if source.random() < 0.85 else list(entries))
    entries[name] = (
        _pickle(entries[name], source) if name in pickles else _cut(entries[name], source)
    )
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as new:
        warnings.simplefilter("ignore")
        for key, content in entries.items():
            for _ in range(1 + (source.random() < 0.01)):
                new.writestr(key, content)
    return out.getvalue()


def _legacy(data: bytes, source: random.Random) -> bytes:
    """A file of the old format, one of its five pickles changed."""
    starts, stream = [0], io.BytesIO(data)
    try:
        for _ in range(4):
            list(pickletools.genops(stream))
            starts.append(stream.tell())
    except (ValueError, IndexError, UnicodeDecodeError):
        pass
    return _pickle(data, source, source.choice(starts))


def _aware(name: str, data: bytes) -> Callable[[bytes, random.Random], bytes]:
    if name.endswith(".json"):
        return _json
    if name.endswith(".safetensors"):
        return _header
    return _archive if data[:2] == b"PK" else _legacy


def mutated(seed: Seed, others: list[Seed], source: random.Random) -> dict[str, bytes]:
    """The files of a seed, one of them changed in one to three ways."""
    files = dict(seed.files)
    name = source.choice(list(files))
    for _ in range(source.choice((1, 1, 1, 1, 1, 1, 2, 3))):
        data, how = files[name], source.random()
        if how < 0.7:
            files[name] = _aware(name, data)(data, source)
        elif how < 0.95:
            change = source.choice((_flip, _flip, _cut, _insert))
            files[name] = change(data, source)
        else:
            other = source.choice(list(source.choice(others).files.values()))
            files[name] = _splice(data, source, other)
    if source.random() < 0.02:
        del files[name]
    return files


def _reverted(path: Path, out: Path) -> None:
    """A conversion without types, and back: the state dict must be the file's, bit for bit."""
    torch2mlx.convert(path, out, rules={})
    listed = {t.key: (t.dtype, t.shape) for t in torch2mlx.inspect(path).tensors}
    back = torch2mlx.revert(out, framework="numpy")
    assert {k: v.shape for k, v in back.items() if hasattr(v, "shape")} == {
        key: shape for key, (_, shape) in listed.items()
    }, "not the tensors that were converted"


def _loaded(path: Path) -> None:
    """Flat and nested are the same arrays."""
    flat = torch2mlx.load_converted(path, framework="numpy")
    nested = torch2mlx.load_converted(path, True, framework="numpy")
    assert all(isinstance(array, np.ndarray) for array in flat.values())
    assert len(torch2mlx.state_dict.flatten(nested)) == len(flat), "nested lost something"


def _in_mlx(path: Path) -> None:
    """As MLX arrays what numpy gets; bfloat16 and float8, which numpy lacks, by their sizes."""
    mlx = torch2mlx.load_converted(path, framework="mlx")
    plain = torch2mlx.load_converted(path, framework="numpy")
    assert {k: v.shape for k, v in mlx.items()} == {k: v.shape for k, v in plain.items()}
    for name, array in plain.items():
        if array.dtype.kind in "biuf" and array.dtype.itemsize < 8:
            np.testing.assert_array_equal(np.asarray(mlx[name]), array)


VERBS: dict[str, Callable[[Path, Path, dict[str, str]], object]] = {
    "inspect": lambda path, out, rules: str(torch2mlx.inspect(path)),
    "convert": lambda path, out, rules: _reverted(path, out),
    "convert with rules": lambda path, out, rules: torch2mlx.convert(path, out, rules=rules),
    "load_converted": lambda path, out, rules: _loaded(path),
    "load_converted in MLX": lambda path, out, rules: _in_mlx(path),
    "revert": lambda path, out, rules: torch2mlx.revert(path, framework="numpy"),
    "analyze": lambda path, out, rules: torch2mlx.analyze(path).to_dict(),
}


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def expire(*_: object) -> None:
    raise TooLong


ANSWERED, REFUSED = "answered", "refused"


def attempt(call: Callable[[], object], size: int, seconds: float) -> str:
    """Runs a call under the limits: ANSWERED, REFUSED, or what else happened."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + size, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        call()
    except Torch2MLXError as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        return REFUSED if str(error) else f"{type(error).__name__} without a word"
    except BaseException as error:  # also what is no Exception: TooLong, SystemExit
        signal.setitimer(signal.ITIMER_PROF, 0)
        if isinstance(error, KeyboardInterrupt):
            raise
        return _place(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return ANSWERED


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "torch2mlx" in f.filename] or frames
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(own[-3:]))
    return f"{type(error).__name__}: {str(error)[:120]} at {where}"


class Run:
    """Mutates, tries, and collects findings; the files of each first of a kind are kept."""

    def __init__(self, keep: Path) -> None:
        self.keep = keep
        self.counts: Counter[str] = Counter()
        self.found: Counter[str] = Counter()

    def warm_up(self, made: list[Seed], work: Path) -> None:
        """Every verb on every seed without limits, so that what is imported late is there."""
        for one in made:
            self.one(one, one.files, one.name, work, (1 << 40, 600))
        self.counts.clear()

    def one(
        self,
        seed: Seed,
        files: dict[str, bytes],
        label: str,
        work: Path,
        limits: tuple[int, float] = (MEMORY, SECONDS),
    ) -> None:
        """Every verb on these files; `limits`: bytes beside their size, seconds."""
        for name, data in files.items():
            (work / name).write_bytes(data)
        size = sum(map(len, files.values())) + limits[0]
        path, out = work / seed.opened, work.parent / "out.safetensors"
        for verb, call in VERBS.items():
            what = attempt(lambda c=call: c(path, out, seed.rules), size, limits[1])
            self.counts[f"{verb} {what}" if what in (ANSWERED, REFUSED) else "findings"] += 1
            for made in work.parent.glob("out.*"):
                made.unlink()
            if what not in (ANSWERED, REFUSED):
                self._finding(f"{verb}: {what}", label, work)
        for path in list(work.iterdir()):
            path.unlink()

    def _finding(self, problem: str, label: str, work: Path) -> None:
        self.found[problem] += 1
        if self.found[problem] == 1:
            place = Path(tempfile.mkdtemp(prefix=f"{len(self.found):04}-", dir=self.keep))
            shutil.copytree(work, place, dirs_exist_ok=True)
            print(f"{problem}\n  {label}, files in {place}", flush=True)


def _scratch() -> str | None:
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and os.access(shared, os.W_OK) else None


def run(files: int, seed: int, keep: Path) -> Run:
    """Tries every seed as it is, then `files` changed ones."""
    signal.signal(signal.SIGPROF, expire)
    warnings.simplefilter("ignore")
    source, result = random.Random(seed), Run(keep)
    with tempfile.TemporaryDirectory(dir=_scratch()) as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        (folder / "case").mkdir()
        made = seeds(folder / "seeds")
        # converted ones are read by the most code
        drawn = made + [one for one in made if one.name.startswith("converted")] * 3
        result.warm_up(made, folder / "case")
        for one in made:
            result.one(one, one.files, one.name, folder / "case")
        for number in range(files):
            one = source.choice(drawn)
            changed = mutated(one, made, source)
            result.one(one, changed, f"{one.name}, file {number}", folder / "case")
    return result


def main() -> int:
    """Prints findings as they come, then counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="mutations-"))
    keep.mkdir(parents=True, exist_ok=True)
    result = run(args.files, args.seed, keep)
    told = ", ".join(f"{name} {count}" for name, count in sorted(result.counts.items()))
    found = f"{sum(result.found.values())} findings of {len(result.found)} kinds"
    print(f"{args.files} files, {sum(result.counts.values())} calls ({told}); {found}")
    return int(bool(result.found))


if __name__ == "__main__":
    sys.exit(main())
