"""Driver of adapters: LoRA and DoRA of PEFT for mlx-lm, and back.

read (checkpoint/adapters/peft) -> places and pieces (to_mlx) -> write (folder)
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch2mlx.checkpoint.adapters.base import Base, found_base, read_base
from torch2mlx.checkpoint.adapters.folder import MLX_FILE, PEFT_FILE, Contents, write_adapter
from torch2mlx.checkpoint.adapters.live import (
    check_vocabulary,
    has_adapter,
    live_adapter,
    live_base,
    live_model,
)
from torch2mlx.checkpoint.adapters.merged import merged
from torch2mlx.checkpoint.adapters.mlx import MlxAdapter, mlx_file, read_mlx
from torch2mlx.checkpoint.adapters.peft import (
    WEIGHTS,
    Adapter,
    is_adapter,
    named_base,
    read_adapter,
)
from torch2mlx.checkpoint.adapters.settings import CONFIG
from torch2mlx.checkpoint.adapters.to_mlx import to_mlx
from torch2mlx.checkpoint.adapters.to_peft import ForPeft, to_peft
from torch2mlx.checkpoint.plan.undo import Reverted
from torch2mlx.checkpoint.source import config_model
from torch2mlx.checkpoint.source.directory import other_weights
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.write.replacing import Guard, paths_of
from torch2mlx.common.options import given, option
from torch2mlx.errors import (
    AlreadyConvertedError,
    AmbiguousCheckpointError,
    ConversionError,
    RevertError,
)
from torch2mlx.types import Checkpoint, ConversionReport, Piece, Progress, Trace


def adapter_of(source: Any, base: Any, merge: Any, verify: bool) -> Adapter | None:
    """The adapter that a source is: a folder of PEFT, its file of weights, or a live model.

    None for sources that are no adapter.

    Raises AmbiguousCheckpointError for a folder that holds a model too, unless `merge` says that
    the adapter is meant.
    """
    if has_adapter(source):
        return live_adapter(source)
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is not None and is_mlx_adapter(path):
        raise AlreadyConvertedError(
            f"{path}: is an adapter of mlx-lm already; torch2mlx.revert writes it for PEFT"
        )
    if path is None or not is_adapter(path):
        for name, value in (("merge", merge), ("base", base)):
            if value is not None:
                raise ConversionError(
                    f"{option(name)} takes the model that an adapter is for, and the source is no "
                    "adapter of PEFT"
                )
        return None
    if base is not None and merge is not None:
        raise ConversionError(
            f"{option('merge')} writes the model that is given, {option('base')} an adapter for "
            "the one that is given: choose one"
        )
    beside = other_weights(path, WEIGHTS) if merge is None and path.is_dir() else None
    if beside is not None:
        names = (beside, next(n for n in WEIGHTS if (path / n).is_file()))
        raise AmbiguousCheckpointError(
            f"{path}: holds a model ({names[0]}) and an adapter of PEFT ({names[1]}): pass one of "
            f"these files, or {given('merge', str(path))} for the model with the adapter merged",
            names,
        )
    return read_adapter(checked(source, "source"), verify)


def is_mlx_adapter(path: Path) -> bool:
    """Whether a path is a folder as mlx-lm writes and reads adapters."""
    return all(os.path.isfile(path / name) for name in (MLX_FILE, CONFIG))


def refuse_others(options: Mapping[str, Any]) -> None:
    """Raises ConversionError for options of `convert` that say nothing of an adapter."""
    for name, value in options.items():
        if value:
            raise ConversionError(
                f"{option(name)} is about the weights of a model, and the source is an adapter"
            )


class Writing(NamedTuple):
    """How a folder is written; see `convert`."""

    progress: Progress | None = None
    threads: int = 0
    force: bool = False
    dry_run: bool = False


def _base_of(adapter: Adapter, base: Any) -> Base | None:
    """The base model that is given, that the adapter lives in, or that it names."""
    known = read_base(base) if base is not None else found_base(named_base(adapter))
    if adapter.live is None:
        return known
    if known is not None:
        check_vocabulary(adapter, known)
    return known if base is not None else live_base(adapter)


def convert_adapter(
    adapter: Adapter, out: Any, base: Any, dtype: str | None, how: Writing
) -> ConversionReport:
    """Writes an adapter of PEFT as a folder that mlx-lm loads (`--adapter-path`)."""
    began = time.perf_counter()
    target = checked(out, "out", ConversionError)
    if target.suffix == ".safetensors":
        raise ConversionError(f"{target}: mlx-lm's adapters are folders: write {target.stem}")
    known = _base_of(adapter, base)
    made = to_mlx(adapter, known)
    pieces = tuple(_cast(piece, dtype) for piece in made.pieces)
    folders = [f for f in (adapter.folder, known.folder if known else None) if f is not None]
    contents = Contents(MLX_FILE, pieces, made.config)
    guard = Guard(paths_of(*folders), how.force)
    written = write_adapter(target, contents, guard, how.progress, how.threads, how.dry_run)
    narrowed = [p.target for p, q in zip(made.pieces, pieces, strict=True) if p.dtype != q.dtype]
    notes = [f"{len(narrowed)} tensors are cast to {pieces[0].dtype}"] if narrowed else []
    return ConversionReport(
        written.files,
        None,
        written.nbytes,
        time.perf_counter() - began,
        pieces,
        tuple(_traces(pieces, adapter)),
        {},
        None,
        (*made.notes, *notes, *written.notes),
        written.beside,
    )


def merge_into(
    model: Any, adapter: Adapter, key: str | None, verify: bool, expand: bool
) -> Checkpoint:
    """The checkpoint of a model with an adapter merged into its weights; `key` as in `convert`.

    `model`: True for the one that the adapter lives in.
    """
    if (adapter.live is not None) != (model is True):
        what = "True" if adapter.live is not None else "the folder of a model"
        raise ConversionError(f"{option('merge')} takes {what} here, not {model!r:.60}")
    if adapter.live is not None:
        return merged(adapter, *live_model(adapter))
    if not isinstance(model, (str, os.PathLike)):
        raise ConversionError(f"{option('merge')} takes the folder of a model, not {model!r:.60}")
    checkpoint = open_checkpoint(model, key, verify=verify, expand=expand, adapter=True)
    config = config_model.find_config(checkpoint.files)
    return merged(adapter, checkpoint, config_model.read(config) if config is not None else {})


def _cast(piece: Piece, dtype: str | None) -> Piece:
    """With the dtype asked for; float64, which mx.load does not read, as float32."""
    wanted = dtype or ("float32" if piece.dtype == "float64" else piece.dtype)
    return piece if piece.dtype == wanted else piece.cast(wanted)


def _traces(pieces: tuple[Piece, ...], adapter: Adapter) -> list[Trace]:
    found = []
    sources = {t.key: t for update in adapter.modules.values() for t in update.tensors}
    for piece in pieces:
        for key in piece.sources:
            source = sources[key]
            found.append(Trace(key, source.dtype, source.shape, ("t", piece.target)))
    return found


def trained_adapter(source: Any, like: Any, base: Any) -> MlxAdapter | None:
    """The adapter of mlx-lm that a source of `revert` is; None for other sources."""
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    file = mlx_file(path) if path is not None else None
    if file is None:
        if base is not None:
            raise RevertError(
                f"{option('base')} is the model that an adapter is for, and the source is no "
                "adapter of mlx-lm"
            )
        return None
    if like is not None:
        raise RevertError(
            f"{option('like')} says what weights were converted from; of an adapter pass "
            f"{option('base')} the folder of the base model"
        )
    return read_mlx(file)


def _for_peft(adapter: MlxAdapter, base: Any) -> tuple[ForPeft, Base | None]:
    if base is not None:
        known: Base | None = read_base(base)
    else:
        name = adapter.content.get("model")
        known = found_base(name) if isinstance(name, str) else None
    return to_peft(adapter, known), known


def in_peft(adapter: MlxAdapter, base: Any) -> Reverted:
    """The tensors of an adapter of mlx-lm as PEFT has them."""
    made, _ = _for_peft(adapter, base)
    pieces = tuple(piece._replace(identity=(piece.target,)) for piece in made.pieces)
    return Reverted(pieces, {}, (), sum(piece.nbytes for piece in pieces))


def revert_adapter(adapter: MlxAdapter, out: Any, base: Any, how: Writing) -> str:
    """Writes an adapter of mlx-lm as a folder of PEFT; returns its path."""
    target = checked(out, "out", RevertError)
    if target.suffix in (".safetensors", ".pt", ".pth", ".bin"):
        raise RevertError(f"{target}: adapters of PEFT are folders: write {target.stem}")
    made, known = _for_peft(adapter, base)
    folders = [adapter.folder, *([known.folder] if known is not None else [])]
    contents = Contents(PEFT_FILE, made.pieces, made.config)
    guard = Guard(paths_of(*folders), how.force)
    written = write_adapter(target, contents, guard, how.progress, how.threads, how.dry_run)
    for note in written.notes:
        warnings.warn(note, UserWarning, stacklevel=4)
    return os.fspath(target)
