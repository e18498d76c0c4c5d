"""Drivers of the weight pipeline: convert and load_converted (`reverter` has the way back).

open (checkpoint.source) -> types and plan (checkpoint.plan) -> write (checkpoint.write)
"""

from __future__ import annotations

import difflib
import os
import re
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from torch2mlx import adapters
from torch2mlx.analysis.flattening import flattened
from torch2mlx.checkpoint.formats.marker import plain_values
from torch2mlx.checkpoint.plan.configured import from_config
from torch2mlx.checkpoint.plan.owners import Resolver
from torch2mlx.checkpoint.plan.planner import make_plan
from torch2mlx.checkpoint.plan.portable import portable
from torch2mlx.checkpoint.plan.prefixes import select
from torch2mlx.checkpoint.plan.training import chosen_by, kept
from torch2mlx.checkpoint.plan.typing import Typed, from_keys, from_module
from torch2mlx.checkpoint.plan.widened import widened
from torch2mlx.checkpoint.source import config_model
from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.arguments import check_choice, check_function, check_threads
from torch2mlx.checkpoint.source.as_loaded import as_loaded
from torch2mlx.checkpoint.source.module_tree import describe, is_module
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.write import output
from torch2mlx.checkpoint.write.replacing import Guard, paths_of
from torch2mlx.common import options
from torch2mlx.common.collecting import paused_for
from torch2mlx.common.laid_out import LaidOut
from torch2mlx.common.progress import reported
from torch2mlx.errors import (
    CheckpointError,
    ConversionError,
    LayoutWarning,
    MissingTypesError,
    OutOfRangeError,
    UnmappedLayersError,
)
from torch2mlx.state_dict import nest
from torch2mlx.types import (
    Checkpoint,
    ConversionReport,
    Coverage,
    ModuleRecord,
    OnUnmapped,
    Plan,
    Progress,
)

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np

WRITER = "0.1.0"
#: Largest shard of a directory unless `shard_size` says otherwise: what mlx-lm uses.
SHARD_BYTES = 5_000_000_000
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_NICKNAMES = {
    **dict.fromkeys(("fp16", "f16", "half"), "float16"),
    **dict.fromkeys(("bf16", "bfloat", "brain"), "bfloat16"),
    **dict.fromkeys(("fp32", "f32", "float", "single"), "float32"),
    **dict.fromkeys(("fp64", "f64", "double"), "float64"),
}
_FLOATS = ("float64", "float32", "float16", "bfloat16")


def convert(
    source: Any,
    out: str | os.PathLike[str],
    *,
    module: Any = None,
    rules: Mapping[str, Any] | None = None,
    key: str | None = None,
    prefix: str | None = None,
    dtype: Any = None,
    strict: bool = True,
    shard_size: int | str | None = None,
    on_unmapped: OnUnmapped = "warn",
    progress: Progress | bool | None = None,
    threads: int = 0,
    force: bool = False,
    verify: bool = True,
    expand: bool = False,
    dry_run: bool = False,
    training: bool | Collection[str] = False,
    base: str | os.PathLike[str] | None = None,
    merge: str | os.PathLike[str] | Literal[True] | None = None,
) -> ConversionReport:
    """Writes a PyTorch model's weights as MLX stores them, or an adapter of PEFT for mlx-lm.

    `source`: an nn.Module; a state dict of torch tensors or numpy arrays; a .safetensors, .pt,
    .pth, .bin or .ckpt file; a directory with a (sharded) checkpoint. `out`: a .safetensors file,
    or a directory, which gets shards of at most `shard_size` bytes (default 5 GB) with an index.

    Layer types come from the module, from `module=` (a model on the meta device is enough) or
    `rules=` (pattern -> layer, see docs/weights.md) when the source has none, or from a
    transformers config.json beside the file. `key` picks a state dict in a nested checkpoint,
    `prefix` what stands under "model." or the like in it, for that part alone; without it, the one
    prefix under which all of `module` is there is taken and noted. What is outside goes to the
    sidecar.
    `dtype` ("float32", "float16", "bfloat16", "float64", or the type of torch, MLX or numpy) casts
    floating-point tensors, save those with finite numbers that it cannot hold, which keep a wider
    one and are noted; without it float64 alone becomes float32 (MLX's GPUs have no float64),
    with the exact originals in the sidecar. `strict`: whether every key must fit `module`.
    `on_unmapped`: what to do about layers that MLX lacks.
    `progress` is called with (bytes done, bytes in all, tensor); True draws a bar.
    `threads`: 0 takes all cores.
    `verify`: whether the checksums of a torch.save archive are compared (False reads a damaged
    file as it is). `expand`: whether views that claim far more bytes than their file holds
    (`expand`, `as_strided`) are written out.
    A folder of PEFT with LoRA or DoRA becomes one that mlx-lm loads as an adapter; `base` is the
    folder of the model that it is for, of PyTorch or of MLX. `merge` is that of PyTorch, which is
    written in its place, with the adapter merged into its weights; True for that of a live model
    of PEFT (docs/adapters.md).
    What `convert` wrote may be replaced by a new conversion; `force`: anything else too, save the
    source. `dry_run`: nothing is written; the report says what would be.

    Returns a report that accounts for every tensor. Raises CheckpointError, ConversionError and
    their subclasses; after an exception `out` is what it was before. So it is after an interrupt,
    unless the KeyboardInterrupt says that `out` was written completely before. Warns
    (LayoutWarning) about feature maps that a module flattens into a Linear: code written by hand
    for MLX has to transpose there.
    """
    began = time.perf_counter()
    bar: Progress | None = reported(progress, "converting")
    check_function("progress", bar)
    check_threads(threads)
    check_choice("on_unmapped", on_unmapped, get_args(OnUnmapped))
    dtype = dtype_name(dtype)
    adapter = adapters.adapter_of(source, base, merge, verify)
    if adapter is not None and merge is None:
        named = {"module": module, "rules": rules, "key": key, "prefix": prefix}
        adapters.refuse_others(named | {"shard_size": shard_size, "training": training})
        how = adapters.Writing(bar, threads, force, dry_run)
        return adapters.convert_adapter(adapter, out, base, dtype, how)
    target, limit = _target(out, shard_size)
    guard = Guard(paths_of(source, merge), force)
    output.check_target(target, limit is None, guard)
    checkpoint = _open(source if adapter is None else merge, adapter, key, verify, expand)
    types = _Types(module, rules, strict, limit is not None, chosen_by(training))
    with paused_for(len(checkpoint.tensors)):
        typed = types.under(checkpoint, prefix)
        coverage = Resolver(typed.tree.records).coverage() if typed.known else None
        plan = make_plan(typed, dtype)
        plan = portable(plan, typed.tensors) if dtype is None else plan
        _report_unmapped(coverage, on_unmapped)
        traps = _report_flattened(source if checkpoint.tree is not None else module)
        values, lost = plain_values(checkpoint.values)
        where = output.Output(target, WRITER, values, bar, threads, guard)
        plan, written = _written(plan, where, limit, merge or source, dry_run)
    return ConversionReport(
        written.files,
        written.sidecar,
        written.nbytes,
        time.perf_counter() - began,
        plan.pieces,
        plan.traces,
        plan.ties,
        coverage,
        (*checkpoint.notes, *plan.notes, *_notes(typed, plan, lost), *traps, *written.notes),
        written.beside,
    )


def _written(
    plan: Plan, where: output.Output, limit: int | None, source: Any, dry_run: bool
) -> tuple[Plan, output.Written]:
    """What was written, and by which plan: tensors that the dtype asked for cannot hold keep a
    wider one."""
    while True:  # each turn writes in wider dtypes, of which there are few
        try:
            return plan, _write(plan, where, limit, source, dry_run)
        except OutOfRangeError as error:
            plan = widened(plan, error.tensors)


def _write(
    plan: Plan, where: output.Output, limit: int | None, source: Any, dry_run: bool
) -> output.Written:
    """Writes a file, or a folder of shards of at most `limit` bytes; says only what would be
    written where `dry_run`."""
    folder = Path(source) if isinstance(source, (str, os.PathLike)) else None
    companions = folder if folder is not None and folder.is_dir() else None
    if dry_run:
        return output.planned(plan, where, limit, companions)
    if limit is None:
        return output.write_file(plan, where)
    return output.write_folder(plan, where, limit, companions)


def _open(
    source: Any, adapter: adapters.Adapter | None, key: str | None, verify: bool, expand: bool
) -> Checkpoint:
    """The source, with an adapter merged into it where there is one."""
    if adapter is not None:
        return adapters.merge_into(source, adapter, key, verify, expand)
    return open_checkpoint(source, key, verify=verify, expand=expand)


def dtype_name(dtype: Any) -> str | None:
    """ "float16" of that text, torch.float16, mx.float16 or a numpy dtype.

    Raises ConversionError for another, with the one that was meant.
    """
    if dtype is None:
        return None
    name = dtype.__name__ if isinstance(dtype, type) else str(dtype).rpartition(".")[2]
    if name not in _FLOATS:
        close = difflib.get_close_matches(name.lower(), _FLOATS, 1)
        meant = _NICKNAMES.get(name.lower()) or (close[0] if close else None)
        advice = f"; did you mean {meant}?" if meant else ""
        told = options.given("dtype", str(dtype))
        raise ConversionError(f"{told}: choose one of {', '.join(_FLOATS)}{advice}")
    return name


def _bytes(size: int | str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|[KMG]I?B)?", str(size).strip().upper())
    number = float(match[1]) * _UNITS[match[2] or "B"] if match else 0
    if number < 1:
        raise ConversionError(
            f"{options.given('shard_size', size)}: give bytes, or text such as 5GB"
        )
    return int(number)


def _target(out: str | os.PathLike[str], shard_size: int | str | None) -> tuple[Path, int | None]:
    """(where to write, shard size in bytes; None for a single file)."""
    path, text = checked(out, "out", ConversionError), os.fsdecode(out)
    if os.path.isdir(path) or text.endswith(("/", os.sep)) or not path.suffix:
        return path, SHARD_BYTES if shard_size is None else _bytes(shard_size)
    if path.suffix != ".safetensors":
        meant = path.with_suffix(".safetensors").name
        raise ConversionError(
            f"{path}: MLX checkpoints end in .safetensors, or are directories: write {meant}"
        )
    if shard_size is not None:
        raise ConversionError(
            f"{path}: {options.option('shard_size')} needs a directory as the output"
        )
    return path, None


@dataclass(frozen=True)
class _Types:
    """What says the layer types of a checkpoint; `folder`: what the result is."""

    module: Any
    rules: Mapping[str, Any] | None
    strict: bool
    folder: bool
    training: Callable[[ModuleRecord], bool]

    def under(self, checkpoint: Checkpoint, prefix: str | None) -> Typed:
        """The layer types of what stands under a prefix, or of all."""
        if prefix is None:
            return self.of(checkpoint)
        part, fitted = select(checkpoint, prefix)
        typed = self.of(part, search=False)
        inside = {source.key for source in part.tensors.values()}
        if all(source.key in inside for source in typed.sources):
            return typed.beside(fitted, checkpoint)
        beside = {k: v for k, v in checkpoint.tensors.items() if v.key in fitted.outside}
        made = {source.key: source for source in typed.sources}
        return typed.beside(fitted, replace(checkpoint, tensors={**beside, **made}))

    def of(self, checkpoint: Checkpoint, search: bool = True) -> Typed:
        """The layer types: from the live module, module=, config.json, rules or nothing."""
        if checkpoint.tree is not None:
            tree = kept(checkpoint.tree, self.training)
            return from_module(replace(checkpoint, tree=tree), tree, self.rules)
        if self.module is not None:
            if not is_module(self.module):
                name = options.option("module")
                raise ConversionError(f"{name} takes an nn.Module, not {self.module!r:.60}")
            tree = kept(describe(self.module), self.training)
            loaded = as_loaded(checkpoint, self.module)
            typed = from_module(loaded, tree, self.rules, self.strict, search)
            more = loaded.notes[len(checkpoint.notes) :]
            return replace(typed, notes=(*more, *typed.notes))
        found = self._read(checkpoint)
        return replace(found, tree=kept(found.tree, self.training))

    def _read(self, checkpoint: Checkpoint) -> Typed:
        config = config_model.find_config(checkpoint.files)
        if config is None:
            return from_keys(checkpoint, self.rules)
        configured = from_config(checkpoint, config, self.rules, self.folder)
        return configured or _unnamed(checkpoint, config, self.rules)


def _unnamed(checkpoint: Checkpoint, config: Path, rules: Mapping[str, Any] | None) -> Typed:
    """Types without the help of a config.json that names no architecture."""
    try:
        return from_keys(checkpoint, rules)
    except MissingTypesError as error:
        text = f"{error} ({config.name} is there, but names no architecture)"
        raise MissingTypesError(text, error.tensors) from None


def _report_unmapped(coverage: Coverage | None, on_unmapped: OnUnmapped) -> None:
    if coverage is None or not coverage.unmapped or on_unmapped == "ignore":
        return
    text = (
        f"Model coverage {100 * coverage.fraction:.1f}% — "
        f"unmapped layers: {', '.join(coverage.unmapped)}"
    )
    if on_unmapped == "error":
        raise UnmappedLayersError(text)
    warnings.warn(text, UserWarning, stacklevel=3)


def _report_flattened(module: Any) -> list[str]:
    """Notes on flattened feature maps of a live module, which are a warning too."""
    found = [str(row) for row in flattened(module)] if module is not None else []
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        warnings.warn(f"{'; '.join(found[:3])}{more}", LayoutWarning, stacklevel=3)
    return found


def _notes(typed: Typed, plan: Plan, lost: list[str]) -> list[str]:
    notes = [f"{key!r} is no tensor and not JSON: it is not kept" for key in lost]
    left = typed.tree.non_persistent
    if left:
        notes.append(f"not persistent in torch, so not in its state dict either: {', '.join(left)}")
    kept = {piece.dtype for piece in plan.pieces} & {"float64", "float8_e5m2"}
    if kept:
        notes.append(
            f"mx.load does not read {' and '.join(sorted(kept))}: load_converted does, and "
            f"{options.given('dtype', 'float32')} writes what both read"
        )
    return notes


@overload
def load_converted(
    path: str | os.PathLike[str],
    nested: Literal[False] = False,
    *,
    framework: Literal["mlx"] | None = None,
    lists: bool = True,
    ties: bool = True,
) -> dict[str, mx.array]: ...
@overload
def load_converted(
    path: str | os.PathLike[str],
    nested: Literal[False] = False,
    *,
    framework: Literal["numpy"],
    lists: bool = True,
    ties: bool = True,
) -> dict[str, np.ndarray]: ...
@overload
def load_converted(
    path: str | os.PathLike[str],
    nested: bool,
    *,
    framework: Literal["mlx", "numpy"] | None = None,
    lists: bool = True,
    ties: bool = True,
) -> Any: ...  # a tree of dicts and lists
def load_converted(
    path: str | os.PathLike[str],
    nested: bool = False,
    *,
    framework: Literal["mlx", "numpy"] | None = None,
    lists: bool = True,
    ties: bool = True,
) -> Any:
    """The tensors of a converted file or directory: {dotted key: mx.array}.

    `nested`: as a tree that `mlx.nn.Module.update` takes (`lists=False`: dicts only).
    `framework`: "mlx", or "numpy" for read-only views of the mapped file (no copy, whatever its
    size; bfloat16 and float8 need ml_dtypes); the default is MLX where it is installed. MLX has no
    float8: such tensors come as the uint8 of their bits. `ties`: whether tied tensors appear under
    all their names.

    Raises NotConvertedError for files that `convert` did not write, CheckpointError for damaged
    ones.
    """
    where = checked(path, "path")
    framework = framework or loading.default_framework()
    if framework not in ("mlx", "numpy"):
        raise ValueError(f"framework={framework!r}: choose 'mlx' or 'numpy'")

    def read() -> dict[str, Any]:
        converted = loading.open_converted(where)
        if framework == "mlx":
            arrays = loading.mlx_arrays(converted)
        else:
            arrays = {name: loading.array(tensor) for name, tensor in converted.tensors().items()}
        return loading.expand_ties(arrays, converted.plan.ties, where) if ties else arrays

    arrays = loading.undisturbed(where, read)
    if not nested:
        return LaidOut(arrays)
    try:
        return nest(arrays, lists)
    except ConversionError as error:
        raise CheckpointError(f"{where}: {error}") from error
