"""Where two models part: results of every module on each side, and the first that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from torch2mlx.export.ir.structures import arrays_of, difference, numpy_of
from torch2mlx.export.verify.comparing import Compared, Verdict, allowed
from torch2mlx.export.verify.running import Case, Pair


def first_difference(pair: Pair, case: Case, tolerance: float | None = None) -> str | None:
    """Path of the first module whose result is none of torch's. Runs both sides once more."""
    with torch_calls(pair.model) as theirs:
        pair.torch(case)
    with mlx_calls(pair.module) as ours:
        pair.mlx(case)
        return _first(theirs, ours, tolerance)


def layer_differences(
    pair: Pair, case: Case, tolerance: float | None = None
) -> tuple[Compared, ...]:
    """The worst result of each module that both sides call, in torch's order: the inner ones
    before the outer. Runs both sides once more, and holds the results of all of torch's."""
    with torch_calls(pair.model) as theirs:
        pair.torch(case)
    with mlx_calls(pair.module) as ours:
        pair.mlx(case)
        return _layers(theirs, ours, tolerance)


@contextmanager
def torch_calls(model: Any) -> Iterator[list[tuple[str, list[Any]]]]:
    calls: list[tuple[str, list[Any]]] = []

    def hook(path: str) -> Any:
        def note(module: Any, args: Any, result: Any) -> None:
            plain = [leaf for _, leaf in arrays_of(result) if not leaf.is_nested]
            calls.append((path, [(numpy_of(leaf).copy(), allowed(leaf, None)) for leaf in plain]))

        return note

    handles = [m.register_forward_hook(hook(p)) for p, m in model.named_modules() if p]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def mlx_calls(module: Any) -> Iterator[dict[str, list[list[Any]]]]:
    """Results of every module by its path."""
    paths = {id(m): path for path, m in module.named_modules() if path}
    calls: dict[str, list[list[Any]]] = {}

    def after(one: Any, leaves: list[Any]) -> None:
        if id(one) in paths:
            calls.setdefault(paths[id(one)], []).append(leaves)

    with _watched(module, lambda one: None, after):
        yield calls


@contextmanager
def read_at_calls(module: Any, unread: Any) -> Iterator[None]:
    """Each module has its arrays while it is called, and not before or after."""
    import mlx.core as mx

    def after(one: Any, leaves: list[Any]) -> None:
        mx.eval(leaves)
        unread.drop(one)

    with _watched(module, unread.take, after):
        yield


@contextmanager
def _watched(
    module: Any, before: Callable[[Any], None], after: Callable[[Any, list[Any]], None]
) -> Iterator[None]:
    """`before(module)` and `after(module, arrays of its result)` run around every call of a
    module; classes are changed for that time."""
    originals: dict[type, Any] = {}

    def around(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            before(self)
            result = original(self, *args, **kwargs)
            after(self, [leaf for _, leaf in arrays_of(result)])
            return result

        return call

    for _, one in module.named_modules():
        cls = type(one)
        if cls not in originals and "__call__" in cls.__dict__:
            originals[cls] = cls.__dict__["__call__"]
            cls.__call__ = around(originals[cls])
    try:
        yield
    finally:
        for cls, original in originals.items():
            cls.__call__ = original


def _first(theirs: Any, ours: Mapping[str, list[list[Any]]], tolerance: float | None) -> str | None:
    """The first module, innermost first, one of whose results is none of torch's."""
    found = _results(theirs, ours, tolerance)
    return next((path for path, gap, most, _ in found if not gap <= most), None)


def _layers(
    theirs: Any, ours: Mapping[str, list[list[Any]]], tolerance: float | None
) -> tuple[Compared, ...]:
    """The worst result of each module."""
    worst: dict[str, Compared] = {}
    for path, gap, most, expected in _results(theirs, ours, tolerance):
        verdict: Verdict = "equal" if gap <= most else "differs"
        shape, dtype = tuple(expected.shape), str(expected.dtype)
        made = Compared(path, gap, most, verdict, what="layer", shape=shape, dtype=dtype)
        if path not in worst or _over(worst[path]) < _over(made):
            worst[path] = made
    return tuple(worst.values())


def _over(one: Compared) -> tuple[bool, float]:
    gap = one.difference
    return not one.ok, gap if gap == gap else float("inf")


def _results(
    theirs: Any, ours: Mapping[str, list[list[Any]]], tolerance: float | None
) -> Iterator[tuple[str, float, float, Any]]:
    """Of each result of a module in MLX, in torch's order of calls: the module's path, the
    difference from that of torch's results which is nearest, what is allowed, and that result."""
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
                (difference(a, b), allowed if tolerance is None else tolerance, a)
                for a, allowed in expected
                for b in _turned(given, a.shape)
            ]
            if near:
                yield str(path), *min(near, key=lambda n: (not n[0] <= n[1], n[0]))


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
