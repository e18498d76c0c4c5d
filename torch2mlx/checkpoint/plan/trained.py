"""Tensors that may have been trained, matched with the targets of a plan, name by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.catalog.weights.layout import parse
from torch2mlx.catalog.weights.merges import to_array
from torch2mlx.checkpoint.formats.schema import Marker
from torch2mlx.types import Made, TensorSource, Trace

_FLOATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")
#: dtype -> those that hold all its values.
_WIDER: dict[str, tuple[str, ...]] = {
    "float8_e4m3fn": ("float16", "bfloat16", "float32", "float64"),
    "float8_e5m2": ("float16", "bfloat16", "float32", "float64"),
    "float16": ("float32", "float64"),
    "bfloat16": ("float32", "float64"),
    "float32": ("float64",),
}
_ADVICE = {
    "lora_": "fuse the adapters first",
    "scales": "dequantize the model first",
    "biases": "dequantize the model first",
}


def holds(dtype: str, other: str) -> bool:
    """Whether every value of `other` is one of `dtype`."""
    return dtype == other or dtype in _WIDER.get(other, ())


@dataclass(frozen=True)
class Origin:
    """What a conversion left: the plan, the originals it keeps, and how targets were written.

    `stored`: dtype of each target as converted; `digest`: (dtype, digest) of a computed target,
    None where nothing says; `invert`: (tensor made, its trained value) -> sources by key, of a
    live module's own parametrization.
    """

    plan: Marker
    originals: Mapping[str, TensorSource]
    stored: Mapping[str, str]
    digest: Callable[[str], tuple[str, str] | None]
    invert: Callable[[Made, _core.Tensor], dict[str, _core.Tensor]] | None = None


def target_shapes(
    recipe: tuple[Any, ...], shape: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(target, shape) of everything that a recipe of a tensor of this shape names."""
    if not recipe or recipe[0] == "s":
        return
    if recipe[0] == "c":
        yield from ((name, (shape[0] // len(recipe[1]), *shape[1:])) for name in recipe[1])
    elif recipe[0] == "l":
        yield recipe[1], parse(recipe[2]).shape(recipe[3])
    else:
        yield recipe[1], shape


def same_bytes(a: _core.Tensor, b: _core.Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if 0 in a.shape:
        return True
    first, second = (np.asarray(t.dense()).reshape(-1).view(np.uint8) for t in (a, b))
    return bool(np.array_equal(first, second))


def _as_bits(tensor: _core.Tensor, dtype: str) -> _core.Tensor:
    """MLX has no float8, so it holds the bits as uint8."""
    if dtype.startswith("float8") and tensor.dtype == "uint8":
        return _core.from_buffer(np.asarray(tensor), dtype)
    return tensor


def _exactly(tensor: _core.Tensor, dtype: str) -> _core.Tensor | None:
    """A tensor as one of another kind (integers as floats, ...), if not a value changes."""
    if (dtype in _FLOATS and tensor.dtype in _FLOATS) or dtype == tensor.dtype:
        return tensor
    if dtype in _FLOATS or (dtype not in np.sctypeDict and dtype != "bool"):
        return None
    values = to_array(tensor) if tensor.dtype in _FLOATS else np.asarray(tensor)
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
        if not np.array_equal(cast.astype(values.dtype), values):
            return None
    return _core.from_buffer(np.ascontiguousarray(cast), dtype)


class Match:
    """The tensors of a checkpoint under a plan's targets; `problems` says what does not fit."""

    def __init__(self, tensors: Mapping[str, _core.Tensor], origin: Origin) -> None:
        self._plan = origin.plan
        self._tensors = self._outside_layers(tensors)
        self._names: dict[str, list[str]] = {}
        for alias, first in self._plan.ties.items():
            self._names.setdefault(first, []).append(alias)
        self.found: dict[str, _core.Tensor] = {}
        self.problems: list[str] = []
        expected = self._match([*self._plan.tensors, *self._plan.made])
        self._strangers(expected, origin.stored if self._plan.version == 1 else {})

    def root(self, target: str) -> str:
        """The target that has the bytes of this one."""
        return self._plan.ties.get(target, target)

    def __getitem__(self, target: str) -> _core.Tensor:
        return self.found[self.root(target)]

    def roots(self, recipe: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[str, ...]:
        """The targets that have the bytes of all that a recipe names."""
        return tuple([self.root(name) for name, _ in target_shapes(recipe, shape)])

    def has(self, recipe: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
        """Whether all of these are there and fit."""
        return all(root in self.found for root in self.roots(recipe, shape))

    def _outside_layers(self, tensors: Mapping[str, _core.Tensor]) -> Mapping[str, _core.Tensor]:
        """The tensors by their targets: a layer of experts, as files of language models have them,
        holds "experts.down_proj" as its weight."""
        entries: list[Trace | Made] = [*self._plan.tensors, *self._plan.made]
        targets = {n: s for e in entries for n, s in target_shapes(e.recipe, e.shape)}
        held = {f"{name}.weight": name for name, shape in targets.items() if len(shape) == 3}
        held = {k: n for k, n in held.items() if k not in targets and n not in tensors}
        return {held.get(name, name): tensor for name, tensor in tensors.items()}

    def _match(self, entries: list[Trace | Made]) -> set[str]:
        expected: set[str] = set()
        for entry in entries:
            for target, shape in target_shapes(entry.recipe, entry.shape):
                root = self.root(target)
                if root not in expected:
                    self._one(target, shape, entry)
                elif root in self.found:
                    self._again(self.found[root], target, shape, entry)
                expected.add(root)
        return expected

    def _one(self, target: str, shape: tuple[int, ...], entry: Trace | Made) -> None:
        root = self.root(target)
        names = [n for n in (root, *self._names.get(root, ())) if n in self._tensors]
        if not names:
            advice = "save all of the model's parameters(), and fuse adapters first"
            self.problems.append(f"tensor {target!r} is missing: {advice}")
            return
        first = self._tensors[names[0]]
        apart = [name for name in names[1:] if not same_bytes(first, self._tensors[name])]
        fitting = _exactly(_as_bits(first, entry.dtype), entry.dtype)
        if apart:
            self.problems.append(
                f"{names[0]!r} and {apart[0]!r} are tied in torch and differ here: give them one "
                "value"
            )
        elif first.shape != shape:
            self.problems.append(
                f"{names[0]!r} is {list(first.shape)}, not {list(shape)} as converted"
            )
        elif fitting is None:
            self.problems.append(
                f"{names[0]!r} is {first.dtype}, and its values are none of torch's {entry.dtype}"
            )
        else:
            self.found[root] = fitting

    def _again(
        self, found: _core.Tensor, target: str, shape: tuple[int, ...], entry: Trace | Made
    ) -> None:
        """A further name of a tensor that fits its first one."""
        if found.shape != shape or _exactly(found, entry.dtype) is not found:
            self.problems.append(
                f"{target!r} is tied to {self.root(target)!r}, which is {list(found.shape)} "
                f"{found.dtype}, not {list(shape)} {entry.dtype}"
            )

    def _strangers(self, expected: set[str], known: Mapping[str, str]) -> None:
        for name in self._tensors:
            if name in expected or name in self._plan.ties or name in known:
                continue
            if name in self._names:
                continue
            last = name.rpartition(".")[2]
            advice = next((a for part, a in _ADVICE.items() if last.startswith(part)), "remove it")
            self.problems.append(f"{name!r} is none of the tensors that were converted: {advice}")
