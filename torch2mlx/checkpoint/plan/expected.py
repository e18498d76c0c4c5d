"""What the tensors of a torch layer look like, to tell a wrong `rules=` entry from a right one.

A row: tensor name -> its dimensions, as words. The same word is the same size within one layer;
`3*embed` is three times it, `groups*out` a product with an option (1 where it is not given), `2`
two. `...` is any number of dimensions, the same for all tensors of the layer that have it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from torch2mlx.catalog.weights.catalog import LayerSpec, is_builtin, lookup
from torch2mlx.catalog.weights.folds import LIKE, spelled
from torch2mlx.common import options
from torch2mlx.errors import ConversionError
from torch2mlx.types import Fold, ModuleRecord, TensorSource

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Row = Mapping[str, str]

_KERNELS = {1: "kernel", 2: "height width", 3: "depth height width"}
_NORM: Row = {
    "weight": "channels",
    "bias": "channels",
    "running_mean": "channels",
    "running_var": "channels",
    "num_batches_tracked": "",
}

#: Layers with tensors of their own; what has no row has none.
ROWS: dict[str, Row] = {
    **{f"Conv{n}d": {"weight": f"out in {k}", "bias": "out"} for n, k in _KERNELS.items()},
    **{
        f"ConvTranspose{n}d": {"weight": f"in out {k}", "bias": "groups*out"}
        for n, k in _KERNELS.items()
    },
    **{f"{kind}Norm{n}d": _NORM for kind in ("Batch", "Instance") for n in (1, 2, 3)},
    "SyncBatchNorm": _NORM,
    "torch.nn.modules.batchnorm._NormBase": _NORM,
    "Linear": {"weight": "out in", "bias": "out"},
    "Bilinear": {"weight": "out in1 in2", "bias": "out"},
    "transformers.pytorch_utils.Conv1D": {"weight": "in out", "bias": "out"},
    "Embedding": {"weight": "count size"},
    "EmbeddingBag": {"weight": "count size"},
    "LayerNorm": {"weight": "...", "bias": "..."},
    "RMSNorm": {"weight": "..."},
    "GroupNorm": {"weight": "channels", "bias": "channels"},
    "PReLU": {"weight": "count"},
    "MultiheadAttention": {
        "in_proj_weight": "3*embed embed",
        "in_proj_bias": "3*embed",
        "q_proj_weight": "embed embed",
        "k_proj_weight": "embed keys",
        "v_proj_weight": "embed values",
        "bias_k": "1 1 embed",
        "bias_v": "1 1 embed",
        "out_proj.weight": "embed embed",
        "out_proj.bias": "embed",
    },
    **{f"{kind}Loss": {"weight": "classes"} for kind in ("CrossEntropy", "NLL")},
    "BCELoss": {"weight": "..."},
    "BCEWithLogitsLoss": {"weight": "...", "pos_weight": "... of positives"},
    **{f"FractionalMaxPool{n}d": {"_random_samples": f"batch channels {n}"} for n in (2, 3)},
}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
#: Layers that hold whatever they are given.
_ANYTHING = {"ParameterList", "ParameterDict"}
_RECURRENT = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)(?P<suffix>(?:_l\d+(?:_reverse)?)?)")


def _short(spec: LayerSpec) -> str:
    return spec.torch.removeprefix("torch.nn.")


def _recurrent(gates: int, shapes: Shapes) -> dict[str, str]:
    """The row of a recurrent layer: one set of names for each suffix that is there."""
    row: dict[str, str] = {}
    for match in filter(None, map(_RECURRENT.fullmatch, shapes)):
        end = match["suffix"]
        state = f"projected{end}" if f"weight_hr{end}" in shapes else f"hidden{end}"
        row[f"weight_ih{end}"] = f"{gates}*hidden{end} in{end}"
        row[f"weight_hh{end}"] = f"{gates}*hidden{end} {state}"
        row[f"weight_hr{end}"] = f"projected{end} hidden{end}"
        row[f"bias_ih{end}"] = row[f"bias_hh{end}"] = f"{gates}*hidden{end}"
    return row


def row_of(spec: LayerSpec, shapes: Shapes) -> Row | None:
    """The tensors of a built-in layer; None where any will do: lists, wrappers."""
    name = _short(spec)
    if name in ROWS:
        return ROWS[name]
    if name.removesuffix("Cell") in _GATES:
        gates = _GATES[name.removesuffix("Cell")]
        return _recurrent(gates, shapes) or {"weight_ih": f"{gates}*hidden in"}
    return None if name in _ANYTHING or spec.transparent else {}


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
