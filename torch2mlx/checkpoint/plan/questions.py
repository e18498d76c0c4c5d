"""Tensors whose layout depends on a layer type that nobody told, and what to ask about them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import lru_cache

from torch2mlx.catalog.weights.actions import Drop, Move
from torch2mlx.checkpoint.plan.user_rules import UNTYPED
from torch2mlx.common import options
from torch2mlx.common.amounts import counted, listed
from torch2mlx.types import ModuleRecord, TensorSource

Records = Mapping[str, ModuleRecord]
Tensors = Mapping[str, TensorSource]
Actions = Mapping[str, Move | Drop]

_TELLTALE = re.compile(
    r"(.*\.)?(in_proj_weight|(weight|bias)_(ih|hh)_l\d+\w*|parametrizations\..*|\w+_orig)"
)
# how the bias of a matrix is called: the matrix's name with one part replaced
_BIASES = (
    (r"weight", "bias"),
    (r"kernel", "bias"),
    (r"(?<![^_])w(?![^_\d])", "b"),
    (r"(?<![^_])W(?![^_\d])", "b"),
)
_TRANSPOSING = "transformers.pytorch_utils.Conv1D"
_LAYERS = {3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}
_GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}
_FEW = 16


def _key(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _biases(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(name, name of the bias beside it) of a module's tensors, by their names."""
    found, known = [], frozenset(names)
    for name in names:
        others = (re.sub(word, bias, name, count=1) for word, bias in _BIASES)
        bias = next((other for other in others if other != name and other in known), None)
        if bias is not None:
            found.append((name, bias))
    return tuple(found)


_few_biases = lru_cache(maxsize=1024)(_biases)  # modules of one kind have the same names


def biased(record: ModuleRecord, tensors: Tensors) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(key, shape, length of the bias) of a module's matrices that have a bias beside them."""
    names = record.tensors
    for name, other in _few_biases(names) if len(names) <= _FEW else _biases(names):
        key = _key(record.path, name)
        shape, bias = tensors[key].shape, tensors[_key(record.path, other)].shape
        if len(shape) == 2 and len(bias) == 1:
            yield key, shape, bias[0]


def _matrices(records: Records, tensors: Tensors, actions: Actions) -> Iterator[str]:
    """Matrices that may be (in, out), as some layers keep them: torch's Linear is (out, in).

    One whose bias fits its second dimension only shows that the model has such layers; square
    ones with a bias can then be either. Without a sign of such layers there is no question.
    """
    shown, square = [], []
    sign = any(_TRANSPOSING in record.kinds for record in records.values())
    for record in records.values():
        if record.kinds != (UNTYPED,):
            continue
        for key, (rows, columns), bias in biased(record, tensors):
            action = actions.get(key)
            if rows != columns == bias and (action is None or getattr(action, "layout", None)):
                shown.append(key)
            elif rows == columns == bias:
                square.append(key)
    if shown or sign:
        yield from shown
        yield from square


@lru_cache(maxsize=4096)
def _telltale(name: str) -> bool:
    return _TELLTALE.fullmatch(name) is not None


def _telling(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a module's tensors that show it."""
    known = frozenset(names)
    return tuple(name for name in names if telling(name, known))


_few_telling = lru_cache(maxsize=1024)(_telling)


def telling(name: str, names: Container[str]) -> bool:
    """Whether a tensor's name shows that torch computes with it before use; `names`: those of its
    module."""
    if _telltale(name):
        return True
    return name[-2:] in ("_g", "_v") and f"{name[:-1]}g" in names and f"{name[:-1]}v" in names


def sensitive(records: Records, tensors: Tensors, actions: Actions | None = None) -> list[str]:
    """Keys whose owner has no type and whose layout could matter; not those with an action."""
    actions = actions or {}
    found = set(_matrices(records, tensors, actions))
    wide = {key for key, source in tensors.items() if len(source.shape) >= 3}
    for path, record in records.items():
        names = record.tensors
        told = _few_telling(names) if len(names) <= _FEW else _telling(names)
        if (told or wide) and record.kinds == (UNTYPED,):
            keys = (_key(path, name) for name in names)
            found.update(_key(path, name) for name in told)
            found.update(key for key in keys if key in wide)
    return [key for key in tensors if key in found and key not in actions] if found else []


def _guess(key: str, tensors: Tensors) -> str:
    """A layer that has such a tensor, for an example; never to decide by."""
    name, shape = key.rpartition(".")[2], tensors[key].shape
    if "in_proj" in name:
        return "MultiheadAttention"
    if re.match(r"(weight|bias)_(ih|hh)", name):
        state = tensors.get(re.sub(r"(weight|bias)_(ih|hh)", "weight_hh", key))
        sizes = state.shape if state is not None and len(state.shape) == 2 else (4, 1)
        return _GATES.get(sizes[0] // (sizes[1] or 1), "LSTM")
    return _LAYERS.get(len(shape), "Linear")


def _pattern(path: str) -> str:
    """A pattern that matches a path and those like it: `**.conv*` for net.conv1."""
    above, _, last = path.rpartition(".")
    if last.isdigit():
        return f"{above}.*" if above else "*"
    return ("**." if above else "") + re.sub(r"\d+$", "*", last)


def example(keys: Iterable[str], tensors: Tensors) -> dict[str, str]:
    """Rules that match some of the keys: one for a module, one for a tensor that is no weight."""
    made: dict[str, str] = {}
    for key in keys:
        path, _, name = re.sub(r"\.parametrizations\..*", ".weight", key).rpartition(".")
        told = re.match(r"weight|bias|in_proj|parametrizations|kernel", name)
        layer = _guess(key, tensors) if told and path else "identity"
        if layer == "Linear" and len(tensors[key].shape) == 2 and not _TELLTALE.fullmatch(key):
            layer = "Conv1D"
        if layer not in made.values():
            made[_pattern(path if told and path else key)] = layer
    return dict(list(made.items())[:2])


def question(origin: str, keys: list[str], tensors: Tensors) -> str:
    """What to ask the caller about these keys, and how to answer."""
    rules = options.rules(example(keys, tensors))
    flat = [key for key in keys if len(tensors[key].shape) == 2 and not _TELLTALE.fullmatch(key)]
    why = (
        f"{origin}: the layout of {counted(len(keys), 'tensor')} depends on the type of the layer, "
        f"which the checkpoint does not tell: {listed(keys)}."
    )
    if flat:
        why += (
            f" ({flat[0]} is {list(tensors[flat[0]].shape)}: some layers keep a matrix as (in, "
            "out), as the biases show, torch's Linear as (out, in); a square one can be either: "
            'say "Conv1D" for (in, out), "Linear" for (out, in).)'
        )
    return (
        f"{why} Pass {options.option('module')} (a model on torch's meta device is enough), or "
        f"{rules}, or put the config.json of a transformers model beside the file"
    )
