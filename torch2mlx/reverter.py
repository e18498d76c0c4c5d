"""The way back: the PyTorch state dict of converted weights, trained in MLX since or not.

read (loading, read.arrays) -> match and undo (weights.undo) -> write (write.reverted)
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from torch2mlx import _core, adapters
from torch2mlx.catalog.weights.inverses import Underivable
from torch2mlx.checkpoint.formats.marker import check_sidecar, marker_of
from torch2mlx.checkpoint.plan.forms import keeping, plan_of
from torch2mlx.checkpoint.plan.portable import portable
from torch2mlx.checkpoint.plan.remade import digest_of
from torch2mlx.checkpoint.plan.trained import Origin
from torch2mlx.checkpoint.plan.undo import Reverted, undo
from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.arguments import check_function
from torch2mlx.checkpoint.source.arrays import trained_tensors
from torch2mlx.checkpoint.source.files import read_safetensors
from torch2mlx.checkpoint.source.module_tree import is_module
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.checkpoint.write.pair import sidecar_path
from torch2mlx.checkpoint.write.replacing import Guard, named_sidecar, paths_of
from torch2mlx.checkpoint.write.reverted import as_arrays, as_torch, check_reverted, write_reverted
from torch2mlx.common import options
from torch2mlx.common.amounts import counted
from torch2mlx.common.collecting import paused
from torch2mlx.common.optional import installed
from torch2mlx.common.progress import reported
from torch2mlx.errors import RevertError
from torch2mlx.types import Borrowed, Made, Progress, TensorSource

if TYPE_CHECKING:
    import torch

#: Endings of files of other kinds.
_OTHERS = (".npz", ".npy", ".gguf", ".onnx", ".h5", ".py", ".json")


@overload
def revert(
    source: Any,
    out: None = None,
    *,
    like: Any = None,
    framework: Literal["torch"] | None = None,
    progress: Progress | bool | None = None,
    force: bool = False,
    dry_run: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> dict[str, torch.Tensor]: ...
@overload
def revert(
    source: Any,
    out: None = None,
    *,
    like: Any = None,
    framework: Literal["numpy"],
    progress: Progress | bool | None = None,
    force: bool = False,
    dry_run: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]: ...
@overload
def revert(
    source: Any,
    out: str | os.PathLike[str],
    *,
    like: Any = None,
    framework: Literal["torch", "numpy"] | None = None,
    progress: Progress | bool | None = None,
    force: bool = False,
    dry_run: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> Path: ...
def revert(
    source: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    like: Any = None,
    framework: Literal["torch", "numpy"] | None = None,
    progress: Progress | bool | None = None,
    force: bool = False,
    dry_run: bool = False,
    base: str | os.PathLike[str] | None = None,
) -> Any:
    """The PyTorch state dict of converted weights: {key: tensor}, in torch's names and order.

    `source`: a file or directory that `convert` wrote, its arrays as they were or changed since;
    or, with `like=`, weights trained in MLX: a .safetensors or .npz file, a folder of shards, an
    mlx.nn.Module, or its parameters as a tree, a flat dict or pairs of mx or numpy arrays. `like`
    says what they were converted from: the converted file or directory, or the torch module.

    What did not change comes back bit for bit. What changed is laid out as torch has it, or what
    torch computes it from is found (weight_norm's g and v, the biases of recurrent layers, ...).

    Without `out` the state dict is returned: torch tensors (numpy arrays where torch is not
    installed, or with `framework="numpy"`). With `out`, a .safetensors file or any other name for
    torch.save, it is written, and the path returned. A file that is there already is replaced with
    `force` alone, what it comes from never. `dry_run`: the path is returned, nothing written.

    An adapter of mlx-lm (a folder with adapters.safetensors and adapter_config.json, or a file of
    tensors in it) comes back as one of PEFT: `out` is a folder then, and `base` the folder of the
    model that it is for (docs/adapters.md).

    Warns (UserWarning) about tensors whose values are rounded, because the conversion or the
    training holds them in a narrower dtype. Raises NotConvertedError, CheckpointError, and
    RevertError, which names every tensor that is missing, does not fit or cannot be derived.
    """
    bar: Progress | None = reported(progress, "reverting")
    check_function("progress", bar)
    adapter = adapters.trained_adapter(source, like, base)
    if adapter is not None and out is not None:
        how = adapters.Writing(bar, 0, force, dry_run)
        return adapters.revert_adapter(adapter, out, base, how)
    state = _reverted(source, like) if adapter is None else adapters.in_peft(adapter, base)
    _warn(state)
    if out is not None:
        given = paths_of(source, like)
        beside = (*map(sidecar_path, given), *(named_sidecar(p) for p in given if p.is_file()))
        guard = Guard((*given, *paths_of(*beside)), force)
        target = checked(out, "out", RevertError)
        _refuse_name(target)
        if dry_run:
            return check_reverted(state, target, guard)
        return write_reverted(state, target, bar, guard)
    if framework not in (None, "torch", "numpy"):
        raise ValueError(f"framework={framework!r}: choose 'torch' or 'numpy'")
    if framework == "numpy" or not (framework == "torch" or installed("torch")):
        return as_arrays(state)
    return as_torch(state)


def _refuse_name(target: Path) -> None:
    """Raises RevertError for a name that says that something else is in the file."""
    if target.suffix.lower() in _OTHERS:
        meant = target.with_suffix(".safetensors").name
        raise RevertError(
            f"{target}: PyTorch checkpoints end in .safetensors or .pt: write {meant}"
        )


def to_torch(source: Any, *, like: Any) -> dict[str, torch.Tensor]:
    """Weights trained in MLX as a state dict that the torch module loads strictly.

    `source`: an mlx.nn.Module, or its parameters in any form that `revert` takes. `like`: the
    torch module that was converted, whose weights are those before training, or the converted file
    or directory. Raises and warns as `revert`.
    """
    state = _reverted(source, like)
    _warn(state)
    return as_torch(state)


def _warn(state: Reverted) -> None:
    for names, one, many in (
        (
            state.inexact,
            "was cast to a narrower dtype, so its values are rounded",
            "were cast to a narrower dtype, so their values are rounded",
        ),
        (
            state.doubtful,
            "is of a file of version 1, which does not tell whether it was trained since; what it "
            "was computed from is as it was converted",
            "are of a file of version 1, which does not tell whether they were trained since; what "
            "they were computed from is as it was converted",
        ),
    ):
        if names:
            more = ", ..." if len(names) > 5 else ""
            said = one if len(names) == 1 else many
            text = f"{counted(len(names), 'tensor')} {said}: {', '.join(names[:5])}{more}"
            warnings.warn(text, UserWarning, stacklevel=3)


@paused()
def _reverted(source: Any, like: Any) -> Reverted:
    if like is not None:
        tensors, where = _trained(source)
        origin = _of_module(like, tensors.keys()) if is_module(like) else _of_path(like)[0]
        return undo(tensors, origin, where)
    if not isinstance(source, (str, os.PathLike)):
        raise RevertError(
            f"{type(source).__name__} objects do not say what they were converted from: pass "
            f"{options.option('like')} the converted file, or the torch module"
        )
    origin, tensors = _of_path(source)
    return undo(tensors, origin, os.fspath(source))


def _trained(source: Any) -> tuple[Mapping[str, _core.Tensor], str]:
    if is_module(source):
        raise RevertError("the trained weights are those of a torch module already")
    return trained_tensors(source)


def _of_path(path: Any) -> tuple[Origin, Mapping[str, _core.Tensor]]:
    """What a converted file or directory says, and its tensors."""
    if not isinstance(path, (str, os.PathLike)):
        raise RevertError(
            f"{options.option('like')} takes a converted file or directory, or the torch module, "
            f"not a {type(path).__name__}"
        )
    where = checked(path, "source")
    return loading.undisturbed(where, lambda: _of_converted(where))


def _of_converted(path: Path) -> tuple[Origin, Mapping[str, _core.Tensor]]:
    converted = loading.open_converted(path)
    kept: dict[str, TensorSource] = {}
    if converted.plan.sidecar:
        beside = check_sidecar(converted.first, converted.plan.sidecar)
        kept = {k: Borrowed.of(k, tensor) for k, tensor in read_safetensors(beside)[0].items()}
    tensors = converted.tensors()
    stored = {name: tensor.dtype for name, tensor in tensors.items()}
    return Origin(converted.plan, kept, stored, converted.digests.get), tensors


def _of_module(module: Any, names: Collection[str]) -> Origin:
    """What converting a live module would leave; its weights are the originals.

    `names`: of the tensors there are now, which tell the layers that keep torch's own.
    """
    checkpoint = open_checkpoint(module)
    plan = portable(plan_of(checkpoint, keeping(checkpoint, names)), checkpoint.tensors)
    pieces = {piece.target: piece for piece in plan.pieces}
    kept = {piece.target: checkpoint.tensors[piece.target] for piece in plan.sidecar}

    def digest(target: str) -> tuple[str, str] | None:
        piece = pieces.get(target)
        return None if piece is None else (piece.dtype, digest_of(piece.load().dense(piece.dtype)))

    stored = {name: piece.dtype for name, piece in pieces.items()}
    invert = lambda made, tensor: _right_inverse(module, made, tensor)  # noqa: E731
    return Origin(marker_of(plan, checkpoint.values), kept, stored, digest, invert)


def _right_inverse(module: Any, made: Made, tensor: _core.Tensor) -> dict[str, _core.Tensor]:
    """What a parametrization of a live module is computed from, for a trained value of it.

    The module stays as it is. Raises Underivable where torch has no inverse, or where it does not
    give the value back.
    """
    import torch

    first = str(made.sources[0])
    path, _, rest = first.rpartition("parametrizations.")
    name = rest.partition(".")[0]
    stack = copy.deepcopy(module.get_submodule(path.rstrip(".")).parametrizations[name]).eval()
    raw = torch.from_numpy(_core_bytes(tensor)).view(getattr(torch, tensor.dtype))
    value = raw.reshape(made.shape).to(getattr(torch, made.dtype))
    try:
        with torch.no_grad():
            stack.right_inverse(value)
            found = stack()
    except Exception as error:  # torch's and users' own
        raise Underivable(
            f"{first!r}: torch finds no inverse of its parametrization: {error}"
        ) from error
    far = (found - value).abs().max().item() if value.numel() else 0.0
    if not far <= 1e-5 * max(1.0, value.abs().max().item() if value.numel() else 0.0):
        raise Underivable(
            f"{first!r}: its parametrization cannot give the trained value (it is off by "
            f"{far:.3g}): remove it (torch.nn.utils.parametrize.remove_parametrizations) and "
            "convert again before training"
        )
    prefix = f"{path}parametrizations.{name}."
    return {prefix + key: borrow(key, t).load() for key, t in stack.state_dict().items()}


def _core_bytes(tensor: _core.Tensor) -> Any:
    return np.asarray(tensor.dense()).reshape(-1).view(np.uint8).copy()
