"""Files of version 1, which say nothing of how their computed tensors were computed.

Whether such a tensor was trained since shows all the same: the originals in the sidecar give it,
in some layout, or they do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from torch2mlx import _core
from torch2mlx.catalog.weights.folds import FORMULAS, spelled
from torch2mlx.catalog.weights.inverses import FITS
from torch2mlx.catalog.weights.merges import MERGES, Array, to_array
from torch2mlx.checkpoint.plan.trained import Origin, target_shapes

_BIAS = re.compile(r"bias_ih(.*)")
_ADVICE = (
    "was trained since, and a file of version 1 does not say what it was computed from: pass "
    "the torch module (like=, in Python), or convert again before training"
)


def _modules(origin: Origin) -> dict[str, list[str]]:
    """Names of sidecar tensors by the module that owns them."""
    found: dict[str, list[str]] = {}
    for trace in origin.plan.tensors:
        if trace.recipe == ("s",) and trace.key in origin.originals:
            path, mark, rest = trace.key.rpartition("parametrizations.")
            if not mark:
                path, _, rest = trace.key.rpartition(".")
                path += "." if path else ""
            found.setdefault(path, []).append(mark + rest)
    return found


def _recipes(names: list[str]) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(formula, dimension, names of sources) that these names allow."""
    for dim in (0, 1):
        yield from ((fold.how, dim, fold.sources) for fold in spelled(names, dim))
    for match in filter(None, map(_BIAS.fullmatch, names)):
        pair = (match[0], f"bias_hh{match[1]}")
        if pair[1] in names:
            yield from (("add", 0, pair), ("gru_gates", 0, pair), ("gru_new_gate", 0, pair[1:]))


def _computed(origin: Origin) -> Iterator[Array]:
    """All that the originals can give, as values in ascending order."""
    for path, names in _modules(origin).items():
        for how, dim, sources in _recipes(names):
            tensors = [origin.originals[path + name] for name in sources]
            shapes = [tensor.shape for tensor in tensors]
            if len(shapes) != FITS[how][0] or not FITS[how][1](dim, shapes):
                continue
            arrays = [to_array(tensor.load()) for tensor in tensors]
            if how in MERGES:
                yield np.sort(MERGES[how][0](*arrays), axis=None)
            else:
                yield np.sort(FORMULAS[how](dim, *arrays), axis=None)


def _known(origin: Origin) -> set[str]:
    names = {n for t in origin.plan.tensors for n, _ in target_shapes(t.recipe, t.shape)}
    return names | {origin.plan.ties.get(name, name) for name in names}


def doubts(tensors: Mapping[str, _core.Tensor], origin: Origin) -> tuple[list[str], list[str]]:
    """(problems, names that cannot be judged) of a checkpoint with a plan of version 1.

    A computed tensor that the originals do not give is a problem; where torch alone can compute
    tensors (parametrizations of other kinds), it cannot be judged.
    """
    open_ones = [name for name in tensors if name not in _known(origin) | origin.plan.ties.keys()]
    if not open_ones:
        return [], []
    by_size: dict[int, list[Array]] = {}
    for values in _computed(origin):
        by_size.setdefault(values.size, []).append(values)
    changed = []
    for name in open_ones:
        unit = {"float16": 2.0**-9, "bfloat16": 2.0**-6}.get(tensors[name].dtype, 2.0**-20)
        found = np.sort(to_array(tensors[name]), axis=None)
        if not any(
            np.allclose(found, values, rtol=unit, atol=0, equal_nan=True)
            for values in by_size.get(found.size, ())
        ):
            changed.append(name)
    if any("parametrizations." in name for names in _modules(origin).values() for name in names):
        return [], changed
    return [f"{name!r} {_ADVICE}" for name in changed], []
