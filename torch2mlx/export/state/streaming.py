"""A model with a state in a cache against torch: several calls in a row, of several lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.sizes import fitted
from torch2mlx.export.ir.structures import arrays_of, difference, numpy_of, to_mlx
from torch2mlx.export.state.kinds import Entry, Leaf
from torch2mlx.export.state.stepping import STATE, Step, stepping

_ALLOWED = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def streams_alike(
    model: Any, module: Any, step: Step, entries: Sequence[Entry], shapes: Mapping[Any, Any]
) -> None:
    """Compares what both sides answer from an empty state on, in calls as the example, of one,
    and longer ones, in the example's batch and one of one.

    Raises TranslationError with the first call at which they differ.
    """
    leaves = sorted((leaf for e in entries for leaf in e.slots), key=lambda leaf: leaf.number)
    usual = _lengths(step, shapes)
    shared = {dim for leaf in leaves for dim in leaf.before.dims or () if dim in usual}
    for batch in ({}, dict.fromkeys(shared, 1)):
        now = {**usual, **batch}
        state = [_empty(leaf, now) for leaf in leaves]
        cache = module.make_cache()
        for number, sizes in enumerate(_calls(now, shared)):
            inputs = {name: _sized(name, x, shapes, sizes) for name, x in step.inputs.items()}
            state = _compared(model, module, step, inputs, state, cache, number)


def _lengths(step: Step, shapes: Mapping[Any, Any]) -> dict[str, int]:
    """The length of each symbol in the example."""
    found: dict[str, int] = {}
    for name, x in step.inputs.items():
        for dim, length in zip(shapes.get((name,), ()), x.shape, strict=False):
            if isinstance(dim, str) and dim.isidentifier():
                found.setdefault(dim, int(length))
    return found


def _calls(usual: Mapping[str, int], shared: set[str]) -> Iterator[Mapping[str, int]]:
    """Lengths of calls in a row: those of the example, ones, longer ones, ones again."""
    ones = {s: n if s in shared else 1 for s, n in usual.items()}
    longer = {s: n if s in shared else n + 2 for s, n in usual.items()}
    yield from (usual, ones, longer, ones, usual)


def _empty(leaf: Leaf, usual: Mapping[str, int]) -> Any:
    """A part of the state before any call, in torch."""
    import torch

    dtype = getattr(torch, leaf.before.dtype.removesuffix("_"))
    return torch.zeros([int(n) for n in leaf.lengths(usual)], dtype=dtype)


def _sized(name: str, x: Any, shapes: Mapping[Any, Any], sizes: Mapping[str, int]) -> Any:
    dims = shapes.get((name,), tuple(x.shape))
    shape = [
        sizes.get(d, n) if isinstance(d, str) else n for d, n in zip(dims, x.shape, strict=True)
    ]
    made = fitted(x, shape)
    return made.roll(1, 0) if made.ndim else made  # other values than in the call before


def _compared(
    model: Any,
    module: Any,
    step: Step,
    inputs: Mapping[str, Any],
    state: list[Any],
    cache: Any,
    number: int,
) -> list[Any]:
    """One call of both sides; torch's next state."""
    import torch

    with torch.no_grad(), stepping(model, step):
        expected, following = model(
            **{name: x.clone() for name, x in inputs.items()}, **{STATE: state}
        )
    found = module(**{name: to_mlx(x) for name, x in inputs.items()}, cache=cache)
    pairs = zip(arrays_of(expected), arrays_of(found), strict=True)
    for (name, a), (_, b) in pairs:
        one, other = numpy_of(a), numpy_of(b)
        gap = difference(one, other) if one.shape == other.shape else float("inf")
        allowed = _ALLOWED.get(str(a.dtype).rsplit(".", 1)[-1], 1e-4)
        if not gap <= allowed:
            raise TranslationError(
                f"MLX answers otherwise than torch in call {number + 1} from an empty state on: "
                f"{name or 'the result'} differs by {gap:.2g}, allowed {allowed:g}"
            )
    return list(following)
