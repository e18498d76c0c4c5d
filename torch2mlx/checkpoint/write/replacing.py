"""What a write may replace: what carries the project's marker; anything else is the user's."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.formats.schema import KEY
from torch2mlx.checkpoint.source.directory import read_json
from torch2mlx.checkpoint.source.files import scan_safetensors
from torch2mlx.common.options import given
from torch2mlx.errors import CheckpointError, WriteError

SIDECAR_KEY = "torch2mlx_sidecar_of"
INDEX = "model.safetensors.index.json"


def metadata_of(path: Path) -> Mapping[str, str]:
    """The metadata of a safetensors file, {} for anything else."""
    try:
        return scan_safetensors(path)[1]
    except CheckpointError:
        return {}


def json_of(path: Path) -> Mapping[str, Any]:
    """A JSON object, {} for anything else."""
    try:
        found = read_json(path) if path.is_file() else {}
    except CheckpointError:
        return {}
    return found if isinstance(found, dict) else {}


def file_digest(path: Path) -> str:
    """SHA-256 of a small file, in hex; "" for what is none."""
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return ""


def settled(path: Path) -> Path:
    """The place that a path leads to, if it is a symbolic link: what it points at is written."""
    if "\0" in str(path):
        raise WriteError(f"{str(path)!r}: a path has no NUL in it")
    if not os.path.islink(path):
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise WriteError(f"{path}: is a symbolic link that leads nowhere") from error


def paths_of(*sources: Any) -> tuple[Path, ...]:
    """Those of some sources that are files or folders."""
    paths = [os.fspath(s) for s in sources if isinstance(s, (str, os.PathLike))]
    return tuple(Path(path) for path in paths if os.path.exists(path))


def check_parent(target: Path) -> None:
    """Raises WriteError where no file can be made beside the target."""
    folder = target.parent
    if not folder.is_dir():
        raise WriteError(f"{folder}: is no folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{folder}: is not writable")


def _identities(path: Path) -> Iterable[tuple[int, int]]:
    for look in (os.lstat, os.stat):
        with suppress(OSError):
            found = look(path)
            yield found.st_dev, found.st_ino


@dataclass(frozen=True)
class Guard:
    """What must stay: the `sources` of what is written, and all that is not ours, save by force.

    `sources`: paths of files and folders.
    """

    sources: tuple[Path, ...] = ()
    force: bool = False

    @cached_property
    def _source_files(self) -> set[tuple[int, int]]:
        files: list[Path] = []
        for path in self.sources:
            files += [path, *(path.iterdir() if path.is_dir() else ())]
        return {found for path in files for found in _identities(path)}

    def refuse_source(self, path: Path) -> None:
        """Raises WriteError for a path that is a source, a file of one, or a link to it."""
        if self._source_files & set(_identities(path)):
            raise WriteError(f"{path}: is the source, or a part of it; write somewhere else")

    def refuse_beside_source(self, target: Path) -> None:
        """Raises WriteError for a file that would lie in a source folder: it then held two."""
        for source in self.sources:
            if source.is_dir() and target.parent.is_dir() and source.samefile(target.parent):
                raise WriteError(
                    f"{target}: lies in the source folder, which would then hold two checkpoints; "
                    "write into another folder"
                )

    def refuse_around_source(self, folder: Path) -> None:
        """Raises WriteError for a folder that is a source, or has one in it."""
        for source in self.sources:
            real = source.resolve()
            if folder.is_dir() and any(folder.samefile(p) for p in (real, *real.parents)):
                raise WriteError(
                    f"{folder}: is the source, or the source lies in it; write into another folder"
                )

    def check_file(self, path: Path, ours: Callable[[Path], bool]) -> None:
        """Raises WriteError unless a file may be made, or replaced, under this path.

        An empty file has nothing to lose.
        """
        self.refuse_source(path)
        try:
            found = os.lstat(path)
        except OSError:
            return
        if stat.S_ISDIR(found.st_mode):
            raise WriteError(f"{path}: is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise WriteError(f"{path}: is no regular file; remove it first")
        if found.st_size and not self.force and not ours(path):
            raise WriteError(
                f"{path}: was not written by torch2mlx and would be replaced; "
                f"write somewhere else, or pass {given('force', True)}"
            )


def nobodys(_: Path) -> bool:
    """The judgement on files that cannot say who wrote them: they are the user's."""
    return False


def is_converted(path: Path) -> bool:
    """Whether `convert` wrote a file, and as one that is whole by itself."""
    if KEY not in metadata_of(path):
        return False
    weight_map = json_of(path.with_name(INDEX)).get("weight_map")
    return not (isinstance(weight_map, dict) and path.name in weight_map.values())


def is_sidecar_of(path: Path, name: str) -> bool:
    """Whether an earlier conversion wrote a file as the sidecar of `name`."""
    return not path.is_symlink() and metadata_of(path).get(SIDECAR_KEY) == name


def sidecar_digest(path: Path) -> str:
    """The digest of the sidecar that a converted file names, "" when it has none."""
    return _of_sidecar(path, "sha256")


def named_sidecar(path: Path) -> Path:
    """Where the sidecar that a converted file names lies; the file itself when it has none."""
    return path.with_name(Path(_of_sidecar(path, "file")).name or path.name)


def _of_sidecar(path: Path, what: str) -> str:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(metadata_of(path)[KEY])["sidecar"][what])
    return ""
