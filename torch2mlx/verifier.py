"""`verify`: both models on the same inputs, every output compared, and where they part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2mlx.errors import VerificationError

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
) -> Verification:
    """Runs a torch model and its MLX twin on the same inputs, on the CPU, and compares all outputs.

    `translated` is what `translate` gave, or a module. The difference of an output is max|a - b| /
    max(1, max|a|); allowed is 1e-4 for float32, 1e-2 for half formats, none for integers, unless
    `tolerance` says otherwise. When one is off, the modules are walked to the first that differs.

    Raises VerificationError when the structures of the outputs differ.
    """
    import mlx.core as mx
    import torch

    kwargs = dict(kwargs or {})
    module = getattr(translated, "module", translated)
    with torch.no_grad(), _torch_calls(model) as theirs:
        expected = model(*args, **kwargs)
    with mx.stream(mx.cpu), _mlx_calls(module) as ours:
        found = module(*(to_mlx(a) for a in args), **{k: to_mlx(v) for k, v in kwargs.items()})
        mx.eval([leaf for _, leaf in arrays_of(found)])
    wanted, given = list(arrays_of(expected)), list(arrays_of(found))
    if len(wanted) != len(given):
        raise VerificationError(f"torch gives {len(wanted)} outputs, MLX {len(given)}")
    pairs = zip(wanted, given, strict=True)
    outputs = tuple(_compared(name, a, b, tolerance) for (name, a), (_, b) in pairs)
    first = None
    if not all(o.ok for o in outputs):
        first = _first(theirs, ours, tolerance)
    return Verification(outputs, first)


def to_mlx(value: Any) -> Any:
    """Torch tensors and numpy arrays as MLX arrays, in any nesting; other values as they are.

    Dataclasses become dicts of their fields, as translated models take and give them."""
    from torch2mlx.load import mlx_array
    from torch2mlx.read.tensors import borrow

    if hasattr(value, "detach"):
        return mlx_array(borrow("input", value.detach()).load().dense()).reshape(tuple(value.shape))
    if isinstance(value, np.ndarray):
        import mlx.core as mx

        return mx.array(value)
    if isinstance(value, dict):
        return {key: to_mlx(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_mlx(item) for item in value)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {key: to_mlx(getattr(value, key)) for key in value.__dataclass_fields__}
    return value


def arrays_of(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays of a structure with their place in it."""
    if hasattr(value, "dtype"):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from arrays_of(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from arrays_of(item, f"{name}[{i}]")
    elif hasattr(value, "__dataclass_fields__"):
        for key in value.__dataclass_fields__:
            yield from arrays_of(getattr(value, key), f"{name}.{key}" if name else key)


def numpy_of(value: Any) -> Any:
    """A tensor or an array as a numpy array; bfloat16 as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    import mlx.core as mx

    return np.array(value.astype(mx.float32) if value.dtype == mx.bfloat16 else value)


def _compared(name: str, a: Any, b: Any, tolerance: float | None) -> Compared:
    dtype = str(a.dtype).rsplit(".", 1)[-1]
    allowed = TOLERANCES.get(dtype, 0.0) if tolerance is None else tolerance
    if tuple(a.shape) != tuple(b.shape):
        raise VerificationError(
            f"{name or 'output'}: torch gives {tuple(a.shape)}, MLX {tuple(b.shape)}"
        )
    return Compared(name, difference(numpy_of(a), numpy_of(b)), allowed)


def difference(a: Any, b: Any) -> float:
    """max|a - b| / max(1, max|a|); equal infinities and NaNs do not count, others are NaN."""
    if a.size == 0:
        return 0.0
    a, b = (np.asarray(v, np.complex128 if np.iscomplexobj(v) else np.float64) for v in (a, b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        gap = np.where(same, 0, np.abs(a - b)).max()
    finite = np.abs(a[np.isfinite(a)])
    return float(gap / max(1.0, finite.max(initial=0)))


@contextmanager
def _torch_calls(model: Any) -> Iterator[list[tuple[str, list[Any]]]]:
    calls: list[tuple[str, list[Any]]] = []

    def hook(path: str) -> Any:
        def note(module: Any, args: Any, result: Any) -> None:
            plain = [leaf for _, leaf in arrays_of(result) if not leaf.is_nested]
            calls.append((path, [numpy_of(leaf).copy() for leaf in plain]))

        return note

    handles = [m.register_forward_hook(hook(p)) for p, m in model.named_modules() if p]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _mlx_calls(module: Any) -> Iterator[dict[str, list[list[Any]]]]:
    """Results of every module by its path; classes are changed for the time of the call."""
    paths = {id(m): path for path, m in module.named_modules() if path}
    calls: dict[str, list[list[Any]]] = {}
    originals: dict[type, Any] = {}

    def noting(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
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
            gaps = [difference(a, b) for a in expected for b in _turned(numpy_of(result), a.shape)]
            if gaps and not min(gaps) <= (1e-4 if tolerance is None else tolerance):
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
