"""A checkpoint with an adapter of PEFT merged into its weights, one tensor at a time.

Computed in float32 (float64 where the weight is), and rounded once, to the weight's own dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.checkpoint.adapters.peft import Adapter, LowRank
from torch2mlx.checkpoint.plan import architectures
from torch2mlx.checkpoint.plan.architectures import Architecture
from torch2mlx.common.amounts import counted, listed
from torch2mlx.errors import ConversionError
from torch2mlx.types import Checkpoint, Deferred, TensorSource

_TIED = "and embedding and output layer are one tensor in this model: PEFT changes one use of it"
_FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class _Model:
    """The base model: its checkpoint, and what its config.json says."""

    checkpoint: Checkpoint
    content: Mapping[str, Any]
    known: Architecture | None
    adapter: Adapter

    def key(self, name: str) -> str | None:
        """The checkpoint's key for a tensor, which may have the base model's prefix or not."""
        tensors = self.checkpoint.tensors
        options = [name]
        if self.known is not None and self.known.prefix:
            options += [self.known.base(name), f"{self.known.prefix}.{name}"]
        return next((key for key in options if key in tensors), None)

    def found(self, name: str, module: str) -> str:
        """The same. Raises ConversionError where it is not there."""
        key = self.key(name)
        if key is None:
            tied = " (it may be tied to another)" if self.tied else ""
            raise self.error(f"{module} is adapted, and the model has no {name}{tied}")
        return key

    def error(self, what: str) -> ConversionError:
        """That the adapter cannot be merged into this model."""
        return ConversionError(
            f"{self.adapter.origin}: cannot be merged into {self.checkpoint.origin}: {what}"
        )

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding."""
        return bool(self.content.get("tie_word_embeddings", self.known and self.known.tied))

    def bound(self, key: str) -> bool:
        """Whether another tensor is this one, by the model or its configuration."""
        tree = self.checkpoint.tree
        if tree is not None and key in {*tree.ties, *tree.ties.values()}:
            return True
        if not self.tied or self.known is None:
            return False
        names = {name.removeprefix("~") for pair in self.known.ties for name in pair}
        return bool({key, self.known.base(key)} & names)

    def turned(self, update: LowRank, shape: tuple[int, ...]) -> bool:
        """Whether a matrix is (in, out), as Conv1D has it; its sizes tell, or its class."""
        straight = (update.b.shape[0], update.a.shape[1])
        if straight != shape or straight != straight[::-1]:
            return straight != shape
        if self.known is not None and self.known.whole:
            return "X" in self.known.tokens(update.module)
        return self.adapter.settings.flag("fan_in_fan_out")


def merged(adapter: Adapter, checkpoint: Checkpoint, content: Mapping[str, Any]) -> Checkpoint:
    """The base model's checkpoint with an adapter merged into it; nothing is computed yet.

    `content`: the model's config.json, empty where there is none. Raises ConversionError for an
    adapter that cannot be merged, or not into this model.
    """
    names = content.get("architectures")
    name = names[0] if isinstance(names, list) and names else ""
    known = architectures.find(name) if isinstance(name, str) else None
    model = _Model(checkpoint, content, known, adapter)
    if adapter.settings.unknown:
        told = listed(adapter.settings.unknown, 3)
        raise model.error(f"its configuration says {told}, of which PEFT alone knows what it means")
    tensors = dict(checkpoint.tensors)
    for whole, tensor in adapter.whole.items():
        key = model.found(whole, whole.rpartition(".")[0])
        tensors[key] = _replaced(model, key, tensors[key], tensor)
    for module, update in adapter.modules.items():
        key = model.found(f"{module}.weight", module)
        tensors[key] = _merged(model, key, tensors[key], update)
        if update.bias is not None:
            key = model.found(f"{module}.bias", module)
            tensors[key] = _biased(model, key, tensors[key], update)
    note = f"{adapter.origin} is merged into {counted(len(adapter.modules), 'weight')}"
    if adapter.whole:
        note += f", and has {listed(adapter.whole, 3)} whole"
    return replace(checkpoint, tensors=tensors, notes=(*checkpoint.notes, note))


def _check_float(model: _Model, key: str, tensor: TensorSource) -> None:
    if tensor.dtype not in _FLOATS:
        raise model.error(
            f"{key} is {tensor.dtype}, not of floating point: load the model with transformers, "
            "and save it dequantized"
        )


def _replaced(model: _Model, key: str, old: TensorSource, new: TensorSource) -> TensorSource:
    """A tensor that was trained as it is, in the model's dtype."""
    if old.shape != new.shape:
        raise model.error(
            f"{key} is {new.shape} in the adapter and {old.shape} in the model: save the model "
            "with PEFT (merge_and_unload) where its vocabulary was resized"
        )
    if model.bound(key) and bytes(new.load().dense(old.dtype)) != bytes(old.load().dense()):
        raise model.error(f"{key} was trained, {_TIED}")
    make = lambda: new.load().dense(old.dtype)  # noqa: E731
    return Deferred(key, old.shape, old.dtype, make)


def _merged(model: _Model, key: str, weight: TensorSource, update: LowRank) -> TensorSource:
    """A weight with an update added."""
    _check_float(model, key, weight)
    if model.bound(key):
        raise model.error(f"{key} is adapted, {_TIED}")
    rows, columns = update.b.shape[0], update.a.shape[1:]
    fits = {(rows, *columns), (*columns, rows)} if len(columns) == 1 else {(rows, *columns)}
    if update.embedding:
        fits = {(*columns, rows)}
    if weight.shape not in fits or any(size != 1 for size in update.b.shape[2:]):
        raise model.error(
            f"the update of {update.module} is {(rows, *columns)}, and {key} is {weight.shape}"
        )
    turned = not update.embedding and len(weight.shape) == 2 and model.turned(update, weight.shape)

    def make() -> _core.Tensor:
        wide = "float64" if weight.dtype == "float64" else "float32"
        sums = _sum(_wide(weight, wide), update, wide, turned)
        return _core.from_buffer(np.ascontiguousarray(sums), wide).dense(weight.dtype)

    return Deferred(key, weight.shape, weight.dtype, make)


def _wide(tensor: TensorSource, dtype: str) -> np.ndarray:
    return np.asarray(tensor.load().dense(dtype))


def _sum(weight: np.ndarray, update: LowRank, wide: str, turned: bool) -> np.ndarray:
    """Weight and update, the rows' lengths those of DoRA where it has them."""
    rank = update.rank
    a, b = _wide(update.a, wide).reshape(rank, -1), _wide(update.b, wide).reshape(-1, rank)
    delta = (b @ a) * weight.dtype.type(update.scale)
    exchanged = turned or update.embedding
    sums = weight + (delta.T if exchanged else delta.reshape(weight.shape))
    if update.magnitude is None:
        return np.asarray(sums)
    rows = sums.T if exchanged else sums.reshape(len(sums), -1)
    lengths = np.linalg.norm(rows, axis=1)
    scaled = (_wide(update.magnitude, wide).reshape(-1) / lengths)[:, None] * rows
    return np.asarray(scaled.T if exchanged else scaled.reshape(weight.shape))


def _biased(model: _Model, key: str, bias: TensorSource, update: LowRank) -> TensorSource:
    """A bias with that of lora_B added."""
    _check_float(model, key, bias)
    added = update.bias
    assert added is not None

    def make() -> _core.Tensor:
        wide = "float64" if bias.dtype == "float64" else "float32"
        found = _wide(bias, wide)
        sums = found + _wide(added, wide).reshape(found.shape) * found.dtype.type(update.scale)
        return _core.from_buffer(sums, wide).dense(bias.dtype)

    return Deferred(key, bias.shape, bias.dtype, make)
