"""`verify`: both models on the same inputs, every output compared, and where they part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.errors import VerificationError
from torch2mlx.graph.builder import common_dtype
from torch2mlx.graph.ends import Ends, ends_of
from torch2mlx.graph.streaming import Unread, values_from
from torch2mlx.optional import need
from torch2mlx.structures import arrays_of, difference, numpy_of
from torch2mlx.translator import Translation, load

#: max|a - b| <= tolerance * max(1, max|a|), by the dtype of torch's output.
TOLERANCES = {
    "float32": 1e-4,
    "float64": 1e-4,
    "float16": 1e-2,
    "bfloat16": 1e-2,
    "complex64": 1e-4,
}


@dataclass(frozen=True)
class Compared:
    """One output: where it is in the structure, the difference, and what is allowed."""

    name: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance; NaN is not."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """Every output compared. `first` is the path of the first module that gives something else."""

    outputs: tuple[Compared, ...]
    first: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all outputs agree."""
        return all(output.ok for output in self.outputs)

    @property
    def difference(self) -> float:
        """The largest difference."""
        return max((o.difference for o in self.outputs), default=0.0)

    def __str__(self) -> str:
        lines = [
            f"{o.name or 'output'}: {o.difference:.1e} (allowed {o.tolerance:.0e})"
            + ("" if o.ok else "  <- differs")
            for o in self.outputs
        ]
        if not self.ok:
            lines.append(f"first module that differs: {self.first or 'the model itself'}")
        return "\n".join(lines)


def verify(
    model: Any,
    translated: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    *,
    weights: Any = None,
    trust_remote_code: bool = False,
) -> Verification:
    """Runs a torch model and its MLX twin on the same inputs, on the CPU, and compares all outputs.

    `translated` is what `translate` gave, a module, or the folder of a saved one. The difference
    of an output is max|a - b| / max(1, max|a|); allowed is 1e-4 for float32, 1e-2 for half formats,
    none for integers, unless `tolerance` says otherwise. When one is off, the modules are walked
    to the first that differs.

    `weights`: the checkpoint of a model made under `empty_weights`, `translated` being the folder:
    each side then reads a module's weights when that module is called and forgets them again, so
    that models larger than memory are compared, in the dtype of the torch model's parameters.

    `trust_remote_code`: whether a folder's model.py may run that this user's own `translate` did
    not write (see `load`).

    Raises VerificationError when the structures of the outputs differ, StateDictMismatchError when
    the checkpoint is not the model's.
    """
    need("verify", "torch", "mlx")
    import mlx.core as mx
    import torch

    kwargs = dict(kwargs or {})
    twin, unread = _opened(model, translated, weights is not None, trust_remote_code)
    filled = nullcontext() if weights is None else values_from(model, weights)
    with torch.no_grad(), _torch_calls(model) as theirs, filled:
        expected = model(*args, **kwargs)
    with mx.stream(mx.cpu), _mlx_calls(twin.module, unread) as ours:
        given, named = twin.ends.given(model, args, kwargs)
        found = twin.module(*given, **named)
        mx.eval([leaf for _, leaf in arrays_of(found)])
    wanted, got = list(arrays_of(expected)), list(arrays_of(found))
    if len(wanted) != len(got):
        raise VerificationError(f"torch gives {len(wanted)} outputs, MLX {len(got)}")
    outputs = tuple(
        _compared(name, a, twin.ends.result(place, b), tolerance)
        for place, ((name, a), (_, b)) in enumerate(zip(wanted, got, strict=True))
    )
    first = None
    if not all(o.ok for o in outputs):
        first = _first(theirs, ours, tolerance)
    return Verification(outputs, first)


def _opened(
    model: Any, translated: Any, streamed: bool, trusted: bool
) -> tuple[_Twin, Unread | None]:
    """The MLX module; and, for a folder that is to stay on the disk, what reads its arrays."""
    if isinstance(translated, (str, Path)):
        folder = Path(translated)
        twin = _Twin(load(folder, trust_remote_code=trusted), ends_of(folder))
        return twin, Unread(twin.module, folder, common_dtype(model)) if streamed else None
    if streamed:
        raise VerificationError("weights are streamed from a saved translation: give its folder")
    if isinstance(translated, Translation):
        return _Twin(translated.module, translated.ends), None
    return _Twin(translated, Ends()), None


@dataclass(frozen=True)
class _Twin:
    module: Any
    ends: Ends


def _compared(name: str, a: Any, b: Any, tolerance: float | None) -> Compared:
    allowed = _allowed(a, tolerance)
    if tuple(a.shape) != tuple(b.shape):
        raise VerificationError(
            f"{name or 'output'}: torch gives {tuple(a.shape)}, MLX {tuple(b.shape)}"
        )
    return Compared(name, difference(numpy_of(a), numpy_of(b)), allowed)


def _allowed(a: Any, tolerance: float | None) -> float:
    dtype = str(a.dtype).rsplit(".", 1)[-1]
    return TOLERANCES.get(dtype, 0.0) if tolerance is None else tolerance


@contextmanager
def _torch_calls(model: Any) -> Iterator[list[tuple[str, list[Any]]]]:
    calls: list[tuple[str, list[Any]]] = []

    def hook(path: str) -> Any:
        def note(module: Any, args: Any, result: Any) -> None:
            plain = [leaf for _, leaf in arrays_of(result) if not leaf.is_nested]
            calls.append((path, [(numpy_of(leaf).copy(), _allowed(leaf, None)) for leaf in plain]))

        return note

    handles = [m.register_forward_hook(hook(p)) for p, m in model.named_modules() if p]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _mlx_calls(module: Any, unread: Unread | None) -> Iterator[dict[str, list[list[Any]]]]:
    """Results of every module by its path; classes are changed for the time of the call."""
    import mlx.core as mx

    paths = {id(m): path for path, m in module.named_modules() if path}
    calls: dict[str, list[list[Any]]] = {}
    originals: dict[type, Any] = {}

    def noting(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if unread is not None:
                unread.take(self)
            result = original(self, *args, **kwargs)
            if unread is not None:
                mx.eval([leaf for _, leaf in arrays_of(result)])
                unread.drop(self)
            if id(self) in paths:
                calls.setdefault(paths[id(self)], []).append(
                    [leaf for _, leaf in arrays_of(result)]
                )
            return result

        return call

    for _, one in module.named_modules():
        cls = type(one)
        if cls not in originals and "__call__" in cls.__dict__:
            originals[cls] = cls.__dict__["__call__"]
            cls.__call__ = noting(originals[cls])  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        for cls, original in originals.items():
            cls.__call__ = original  # type: ignore[method-assign]


def _first(theirs: Any, ours: Mapping[str, list[list[Any]]], tolerance: float | None) -> str | None:
    """The first module, innermost first, one of whose results is none of torch's."""
    counts: dict[str, int] = {}
    for path, expected in theirs:
        number = counts[path] = counts.get(path, -1) + 1
        names = (path, path.replace(".", ".layers."), *_spelled(path))
        found = next((ours[n] for n in names if n in ours), None)
        if found is None or number >= len(found):
            continue
        for result in found[number]:
            given = numpy_of(result)
            near = [
                difference(a, b) <= (allowed if tolerance is None else tolerance)
                for a, allowed in expected
                for b in _turned(given, a.shape)
            ]
            if near and not any(near):
                return str(path)
    return None


def _spelled(path: str) -> Iterator[str]:
    """The path with `layers` before some numbers, as children of a Sequential have it."""
    parts = path.split(".")
    digits = [i for i, part in enumerate(parts) if part.isdigit()]
    for mask in range(1, 2 ** min(len(digits), 6)):
        chosen = {d for bit, d in enumerate(digits) if mask >> bit & 1}
        yield ".".join(f"layers.{p}" if i in chosen else p for i, p in enumerate(parts))


def _turned(result: Any, shape: Any) -> Iterator[Any]:
    """A result, and with channels first, where that has the shape."""
    if result.shape == shape:
        yield result
    if result.ndim > 2:
        first = np.moveaxis(result, -1, 1)
        if first.shape == shape:
            yield first
