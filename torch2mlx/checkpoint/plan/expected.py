"""What the tensors of a torch layer look like, to tell a wrong `rules=` entry from a right one.

A row of the catalogue (`LayerSpec.tensors`): tensor name -> its dimensions, as words. The same word
is the same size within one layer; `3*embed` is three times it, `groups*out` a product with an
option (1 where it is not given), `2` two. `...` is any number of dimensions, the same for all
tensors of the layer that have it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from torch2mlx.catalog.layers.entry import LayerSpec, Row
from torch2mlx.catalog.layers.lookup import is_builtin, lookup
from torch2mlx.catalog.weights.folds import LIKE, spelled
from torch2mlx.common import options
from torch2mlx.errors import ConversionError
from torch2mlx.types import Fold, ModuleRecord, TensorSource

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def _short(spec: LayerSpec) -> str:
    return spec.torch.removeprefix("torch.nn.")


def row_of(spec: LayerSpec, shapes: Shapes) -> Row | None:
    """The tensors of a built-in layer; None where any will do: lists, wrappers."""
    return spec.tensors(shapes) if callable(spec.tensors) else spec.tensors


def folded(shapes: Shapes, folds: Iterable[Fold]) -> dict[str, Shape]:
    """Shapes by name with what torch computes from others before use in their place."""
    made = dict(shapes)
    for fold in folds:
        if fold.how in LIKE and all(name in shapes for name in fold.sources):
            for name in fold.sources:
                made.pop(name, None)
            made[fold.name] = shapes[fold.sources[LIKE[fold.how]]]
    return made


def _factors(word: str, known: Mapping[str, int]) -> tuple[int, str]:
    """(known factor, unknown name) of a dimension: `3*embed` is (3, "embed")."""
    parts = word.split("*")
    factor = math.prod(int(p) if p.isdigit() else known.get(p, 1) for p in parts[:-1])
    return factor, parts[-1]


def _matches(words: str, shape: Shape, known: dict[str, int], whole: dict[str, Shape]) -> bool:
    """Whether a shape has these dimensions; sizes that it shows are noted."""
    if words.startswith("..."):
        return bool(shape) and whole.setdefault(words, shape) == shape
    dimensions = words.split()
    if len(dimensions) != len(shape):
        return False
    for word, size in zip(dimensions, shape, strict=True):
        factor, name = _factors(word, known)
        if factor < 1 or size % factor:
            return False
        expected = int(name) if name.isdigit() else known.setdefault(name, size // factor)
        if expected * factor != size:
            return False
    return True


def misfits(
    spec: LayerSpec, shapes: Shapes, options: Mapping[str, Any], exact: bool
) -> Iterator[str]:
    """What of a module's tensors cannot be that of a built-in layer: a clause for each.

    `exact`: whether names that the layer does not have count too; a subclass may have more.
    """
    row, layer = row_of(spec, shapes), _short(spec)
    if row is None:
        return
    known, whole = {"groups": _groups(options)}, dict[str, Shape]()
    for name in row:
        if name in shapes and not _matches(row[name], shapes[name], known, whole):
            had = ", ".join(row[name].split()) or "no dimensions"
            yield f"{name} is {list(shapes[name])}, {layer} has ({had})"
    if exact:
        unknown = (name for name in shapes if name not in row)
        yield from (f"{name} {list(shapes[name])} is no tensor of {layer}" for name in unknown)
    weight = shapes.get("weight", ())
    if layer.startswith("Conv") and weight and weight[0] % known["groups"]:
        yield f"weight is {list(weight)}, which {known['groups']} groups do not divide"


def _groups(options: Mapping[str, Any]) -> int:
    groups = options.get("groups", 1)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ConversionError(f"groups={groups!r}: groups are a number, 1 or more")
    return groups


def _shapes(record: ModuleRecord, spec: LayerSpec, tensors: Mapping[str, TensorSource]) -> Shapes:
    """Shapes of a module's tensors that a checkpoint has, as the layer's rule will see them."""
    inner = ("out_proj.weight", "out_proj.bias") if _short(spec) == "MultiheadAttention" else ()
    keys = {name: _key(record.path, name) for name in (*record.tensors, *inner)}
    shapes = {name: tensors[key].shape for name, key in keys.items() if key in tensors}
    dim = int("ConvTranspose" in record.kinds[0])
    return folded(shapes, record.folds or spelled(shapes, dim))


def _key(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(record: ModuleRecord, spec: LayerSpec, shapes: Shapes) -> list[str]:
    """Clauses about a module that cannot be the layer that a rule says it is."""
    if is_builtin(spec):
        return list(misfits(spec, shapes, record.options, record.kinds[0] == spec.torch))
    named = {} if callable(spec.weights) else spec.weights
    if named and shapes and not named.keys() & shapes.keys():
        has = f"it has {', '.join(shapes)}, {spec.torch} {', '.join(named)}"
        return [f"none of its tensors is one of the layer's: {has}"]
    return []


def check(
    records: Mapping[str, ModuleRecord],
    given: Mapping[str, str],
    tensors: Mapping[str, TensorSource],
    settled: Container[str],
) -> None:
    """Raises ConversionError for rules whose layer's tensors look different from the module's.

    `given`: path of a module -> the pattern that gave it its type. Keys in `settled` have rules
    of their own. A pattern may also match modules without tensors, but not these alone.
    """
    idle: dict[str, str] = {}
    seen: dict[tuple[Any, ...], list[str]] = {}  # modules that look alike are judged once
    for path, text in given.items():
        record = records[path]
        spec = lookup(record.kinds)
        if spec is None:  # a class of the user's that nothing is known of: copied
            idle[text] = ""
            continue
        shapes = _shapes(record, spec, tensors)
        open_shapes = {n: s for n, s in shapes.items() if _key(path, n) not in settled}
        alike = (record.kinds, repr(record.options.get("groups")), *open_shapes.items())
        if alike not in seen:
            seen[alike] = _wrong(record, spec, open_shapes)
        wrong = seen[alike]
        if wrong:
            where = f"module {path!r}" if path else "the root module"
            raise ConversionError(f"{options.rule(text)}: {where}: {'; '.join(wrong)}")
        if shapes or not (is_builtin(spec) and row_of(spec, {})):
            idle[text] = ""
        idle.setdefault(text, f"{path!r} has no tensors of its own, {_short(spec)} has")
    for text, reason in idle.items():
        if reason:
            raise ConversionError(f"{options.rule(text)}: {reason}")
