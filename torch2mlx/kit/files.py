"""torch.save and torch.load for MLX: nested containers of arrays and values, as safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from torch2mlx.kit import norm, torch_files, weights
from torch2mlx.kit.stubs import tree_flatten
from torch2mlx.kit.tying import aliases, noted

_KEY = "torch2mlx.kit.files"


def _unsaved(module: nn.Module) -> set[str]:
    """Names of what `kit.training.transient` said is not saved."""
    return noted(module, "_transient")


def state_dict(module: Any) -> Any:
    """A module's parameters and buffers under torch's names, in torch's layouts; an optimizer's
    state."""
    if not isinstance(module, nn.Module):
        return module.state
    return {t.name: t.value() for t in weights.tensors(module) if t.saved}


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` of a module gives: names on one side alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state_dict(module: Any, state: Any, strict: bool = True) -> Any:
    """Sets a module's parameters and buffers from such a mapping, or the state of an optimizer.

    Names are torch's and values in torch's layout, as `state_dict` gives them. What `convert` wrote
    (`torch2mlx.load_converted`), and a mapping of which a name or a shape is only MLX's, is taken
    in MLX's layout; its recurrent layers may have the sum of torch's biases. Gives, of a module,
    the names that the mapping lacks and those that the module has not, which are errors where
    `strict` is true. Raises ValueError for these, and for a value of another shape.
    """
    if not isinstance(module, nn.Module):
        if isinstance(state, dict) and isinstance(state.get("param_groups"), list):
            raise ValueError("this is the state of an optimizer of torch, which numbers parameters")
        module.state = state
        return module
    tensors = {t.name: t for t in weights.tensors(module)}
    held = {k: v for k, v in dict(state).items() if k in tensors or not k.endswith(_COUNTED)}
    own = dict(tree_flatten(module.parameters()))
    if getattr(state, "layout", "") == "mlx" or _is_of_mlx(module, tensors, own, held):
        counted = [k for k in held if isinstance(tensors.get(k), weights.Count)]
        for name in counted:
            _set(tensors[name], held.pop(name))
        return _load_of_mlx(module, own, held, strict)
    saved = [name for name, t in tensors.items() if t.saved and not isinstance(t, weights.Count)]
    missing = [name for name in saved if name not in held]  # torch keeps counts that are not given
    unexpected = [name for name in held if name not in tensors]
    if strict and (missing or unexpected):
        raise ValueError(f"missing: {missing}, unexpected: {unexpected}")
    for name, value in held.items():
        if name in tensors:
            _set(tensors[name], value)
    return IncompatibleKeys(missing, unexpected)


def _is_of_mlx(module: nn.Module, tensors: Any, own: Any, held: Any) -> bool:
    """Whether a mapping has MLX's form: it has a name that only MLX has, or fits MLX's shapes and
    not torch's."""
    if any(k in own and k not in tensors for k in dict(both_biases(module, held))):
        return True
    both = [k for k in held if k in tensors and k in own]
    shapes = {k: tuple(getattr(held[k], "shape", ())) for k in both}
    as_torch = all(shapes[k] == tensors[k].value().shape for k in both)
    return not as_torch and all(shapes[k] == own[k].shape for k in both)


#: Ends the names of torch's counts of batches, which MLX's own layers do not have.
_COUNTED = norm.COUNTED


def _set(tensor: weights.Tensor, value: Any) -> None:
    before, given = tensor.value(), mx.array(value)
    if before.shape != given.shape:
        raise ValueError(
            f"{tensor.name}: {given.shape} is given for {before.shape}, as torch lays it out; "
            "module.load_weights takes arrays that are laid out as in MLX"
        )
    tensor.put(given.astype(before.dtype))


def _load_of_mlx(module: nn.Module, own: Any, given: Any, strict: bool) -> IncompatibleKeys:
    """The same of a mapping with MLX's names and layouts."""
    tied, unsaved = aliases(module), _unsaved(module)
    held = {name: value for name, value in given.items() if name not in tied}
    held = dict(both_biases(module, held))
    if strict:
        held = {**{name: own[name] for name in unsaved}, **held}
    module.load_weights(list(held.items()), strict=strict)
    return IncompatibleKeys([n for n in own if n not in held], [n for n in held if n not in own])


def both_biases(module: nn.Module, held: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arrays, with `bias` (or a GRU's `b` and `bhn`) as the `bias_ih` that a layer has."""
    own = dict(tree_flatten(module.parameters()))
    for name, value in held.items():
        prefix, _, last = name.rpartition(".")
        first, second = (f"{prefix}.{n}".lstrip(".") for n in ("bias_ih", "bias_hh"))
        if last not in ("bias", "b", "bhn") or name in own or first not in own:
            yield name, value
        elif last == "bhn":
            gates = mx.zeros(2 * value.size, value.dtype)
            yield second, mx.concatenate([gates, value])
        else:
            yield first, value
            if last == "bias":
                yield second, mx.zeros_like(value)


def _taken(value: Any, arrays: dict[str, mx.array]) -> Any:
    """A value as JSON; arrays are put aside under a number."""
    if isinstance(value, mx.array):
        name = str(len(arrays))
        arrays[name] = value
        return {"array": name}
    if isinstance(value, dict):
        return {"dict": [[_taken(k, arrays), _taken(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_taken(v, arrays) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"a {type(value).__name__} cannot be saved: save its arrays and plain values")


def _given(value: Any, arrays: dict[str, mx.array]) -> Any:
    ((kind, held),) = value.items()
    if kind == "array":
        return arrays[held]
    if kind == "dict":
        return {_given(k, arrays): _given(v, arrays) for k, v in held}
    if kind in ("list", "tuple"):
        made = [_given(v, arrays) for v in held]
        return tuple(made) if kind == "tuple" else made
    return held


def save(value: Any, path: Any) -> None:
    """Writes a module's state, or nested containers of arrays, numbers and text, to one file.

    Raises TypeError for objects of any other kind.
    """
    arrays: dict[str, mx.array] = {}
    told = _taken(state_dict(value) if isinstance(value, nn.Module) else value, arrays)
    place = Path(path)
    target = place if place.suffix == ".safetensors" else Path(f"{place}.safetensors")
    mx.save_safetensors(str(target), arrays, {_KEY: json.dumps(told)})
    target.replace(place)


#: How torch's files begin: as zip archives, or as pickles of protocol 2.
_OF_TORCH = (b"PK", b"\x80\x02")


def load(path: Any, **_: Any) -> Any:
    """What `save` wrote, or torch.save: its arrays, plain values and containers of them.

    Raises ValueError for other files, and for files of torch that hold anything else.
    """
    with open(path, "rb") as file:
        of_torch = file.read(2) in _OF_TORCH
    if of_torch:
        return torch_files.read(path)
    found: Any = mx.load(str(path), format="safetensors", return_metadata=True)
    arrays, metadata = found
    if _KEY not in metadata:
        raise ValueError(
            f"{path}: not written by kit.files.save; convert torch's checkpoints first"
        )
    return _given(json.loads(metadata[_KEY]), arrays)


__all__ = ["load", "load_state_dict", "save", "state_dict", "tree_unflatten"]
