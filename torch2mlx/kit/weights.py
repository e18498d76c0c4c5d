"""A module's tensors under torch's names and in torch's layouts.

MLX has some of them otherwise: a convolution's channels are last, the layers of a Sequential are
`layers.0`, `layers.1`, a recurrent layer's weights are `Wx` and `Wh`, an attention has one
projection each for queries, keys and values. Ported code goes by torch's names and layouts, so it
reads and sets tensors here; modules, optimizers and gradients keep MLX's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import attention, conv, norm, recurrent, transformer
from torch2mlx.kit.forms import Form, channels_second, swapped, transposed
from torch2mlx.kit.stubs import split


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a module: its name from there in torch, the layer that has it, its form."""

    name: str
    path: str  # of the layer in MLX, dotted
    layer: nn.Module
    key: str  # torch's name within the layer
    form: Form

    @property
    def names(self) -> tuple[str, ...]:
        """MLX's names of the arrays, from the module."""
        return tuple(f"{self.path}.{key}" if self.path else key for key in self.form.keys)

    @property
    def places(self) -> tuple[tuple[nn.Module, str], ...]:
        """The modules that hold the arrays, and their keys there."""
        return tuple(_place(self.layer, key) for key in self.form.keys)

    @property
    def parameter(self) -> bool:
        """Whether it is trained, or was until it was frozen; a buffer is neither."""
        return all(
            not _stopped(owner, key) or key in owner.__dict__.get("_stopped", ())
            for owner, key in self.places
        )

    @property
    def trainable(self) -> bool:
        """Whether it gets gradients."""
        return not any(_stopped(owner, key) for owner, key in self.places)

    @property
    def saved(self) -> bool:
        """Whether a state dict has it; see `kit.training.transient`."""
        return all(key not in owner.__dict__.get("_transient", ()) for owner, key in self.places)

    def value(self) -> mx.array:
        """The tensor; the array itself where it is one and has torch's layout."""
        return read(self.layer, self.key, self.form)

    def put(self, value: mx.array) -> None:
        """Sets it."""
        write(self.layer, self.form, value)

    def joined(self, arrays: list[mx.array]) -> mx.array:
        """What these arrays, such as gradients, are for it in torch's layout."""
        return arrays[0] if self.form.join is None else self.form.join(*arrays)


@dataclass(frozen=True, eq=False)
class Count(Tensor):
    """A layer's number of batches, which is a buffer of torch's layer and no array of MLX's."""

    @property
    def parameter(self) -> bool:
        return False

    def value(self) -> mx.array:
        return norm.Batches(self.layer)

    def put(self, value: mx.array) -> None:
        self.layer.num_batches_tracked = value


def counts(module: Any) -> bool:
    """Whether torch's module of this kind has a number of batches of its own."""
    return isinstance(module, norm._Normalizer) and "running_mean" in module


def _stopped(owner: nn.Module, key: str) -> bool:
    """Whether an array of a module gets no gradient, by its key or by that of the list it is in."""
    return key in owner._no_grad or key.partition(".")[0] in owner._no_grad


def _down(value: Any, key: str) -> Any:
    """What is at a dotted key."""
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
    return value


def _place(layer: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The innermost module on the way to an array, and the rest of the way."""
    owner, rest, value = layer, key, layer
    parts = key.split(".")
    for i, part in enumerate(parts[:-1]):
        value = _down(value, part)
        if isinstance(value, nn.Module):
            owner, rest = value, ".".join(parts[i + 1 :])
    return owner, rest


class View(mx.array):
    """A tensor of a layer in torch's layout: what is written to it in place is written to the
    layer's arrays. Raises RuntimeError where these have been set to others since it was read."""

    def __init__(self, value: mx.array, layer: nn.Module, key: str, form: Form) -> None:
        super().__init__(value)
        self._layer, self._key, self._form = layer, key, form

    def __setitem__(self, place: Any, value: Any) -> None:
        super().__setitem__(place, value)
        self._written()

    def _written(self) -> None:
        if not _is_current(self._layer, self._key, self._form, self):
            raise RuntimeError(f"{self._key} has been set since it was read: read it again")
        write(self._layer, self._form, mx.array(self))
        _views(self._layer)[self._key] = (_held(self._layer, self._form), self)


def _in_place(name: str) -> Callable[[View, Any], View]:
    def changed(self: View, other: Any) -> View:
        getattr(mx.array, name)(self, other)
        self._written()
        return self

    return changed


for _name in ("add", "sub", "mul", "truediv", "floordiv", "pow"):
    if hasattr(mx.array, f"__i{_name}__"):
        setattr(View, f"__i{_name}__", _in_place(f"__i{_name}__"))


def _views(layer: nn.Module) -> dict[str, tuple[tuple[mx.array, ...], Any]]:
    """The views that were read of a layer, each with the arrays that it was made of."""
    views: dict[str, Any] = layer.__dict__.setdefault("_torch_views", {})
    return views


def _held(layer: nn.Module, form: Form) -> tuple[mx.array, ...]:
    return tuple(_down(layer, key) for key in form.keys)


def _is_current(layer: nn.Module, key: str, form: Form, view: Any) -> bool:
    """Whether a view is the last that was read, and of the arrays that the layer has."""
    before, last = _views(layer).get(key, ((), None))
    same = map(operator.is_, before, _held(layer, form))
    return last is view and len(before) == len(form.keys) and all(same)


def read(layer: nn.Module, key: str, form: Form) -> mx.array:
    """A tensor of a layer, the same object while its arrays stay, so that it can be told by it."""
    if form.join is None:
        return _held(layer, form)[0]
    view = _views(layer).get(key, ((), None))[1]
    if not isinstance(view, View) or not _is_current(layer, key, form, view):
        arrays = _held(layer, form)
        view = View(form.join(*arrays), layer, key, form)
        _views(layer)[key] = (arrays, view)
    return view


def write(layer: nn.Module, form: Form, value: mx.array) -> None:
    """Sets a tensor of a layer."""
    parts = (value,) if form.part is None else form.part(value)
    for key, part in zip(form.keys, parts, strict=True):
        way, _, last = key.rpartition(".")
        owner = _down(layer, way) if way else layer
        owner[int(last) if isinstance(owner, list) else last] = part


# --- the layers whose tensors MLX has otherwise ---------------------------------------------------


#: A recurrent layer's arrays -> the first part of torch's names.
_RECURRENT = {
    **{name: "weight_ih" for name in ("Wx", "Wxh")},
    **{name: "weight_hh" for name in ("Wh", "Whh")},
    **{"bias_ih": "bias_ih", "bias_hh": "bias_hh", "Wr": "weight_hr"},
}
_RECURRENT_ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _directions(layer: nn.Module) -> Iterator[tuple[str, str]]:
    """(way to the weights, ending of torch's names) of each layer in each direction."""
    if "layers" not in layer:
        yield "", "_l0"
        return
    for depth, part in enumerate(layer["layers"]):
        if isinstance(part, dict) and "forward" in part:
            yield f"layers.{depth}.forward.", f"_l{depth}"
            yield f"layers.{depth}.backward.", f"_l{depth}_reverse"
        else:
            yield f"layers.{depth}.", f"_l{depth}"


def _recurrent(layer: nn.Module) -> dict[str, Form]:
    ways = [("", "")] if isinstance(layer, recurrent.CELLS) else list(_directions(layer))
    forms = {}
    for way, ending in ways:
        held = _down(layer, way[:-1]) if way else layer
        found = {
            _RECURRENT.get(key, key): way + key
            for key, value in held.items()
            if isinstance(value, mx.array)
        }
        order = [name for name in _RECURRENT_ORDER if name in found]
        order += [name for name in found if name not in order]
        forms.update({name + ending: Form((found[name],)) for name in order})
    return forms


_PROJECTIONS = ("query_proj", "key_proj", "value_proj")


def _stacked(keys: tuple[str, ...]) -> Form:
    return Form(keys, lambda *parts: mx.concatenate(list(parts)), lambda w: split(w, len(keys)))


def _attention(layer: nn.Module) -> dict[str, Form]:
    weights = tuple(f"{name}.weight" for name in _PROJECTIONS)
    if len({_down(layer, key).shape for key in weights}) == 1:
        forms = {"in_proj_weight": _stacked(weights)}
    else:
        forms = {f"{key[0]}_proj_weight": Form((key,)) for key in weights}
    if "bias" in layer["query_proj"]:
        forms["in_proj_bias"] = _stacked(tuple(f"{name}.bias" for name in _PROJECTIONS))
    return forms


def _shaped(layer: nn.Module, shape: tuple[int, ...]) -> dict[str, Form]:
    """Flat arrays of a norm over several axes."""
    flat = lambda w: (w.reshape(-1),)  # noqa: E731
    held = [key for key in ("weight", "bias") if key in layer]
    return {key: Form((key,), lambda w: w.reshape(shape), flat) for key in held}


def forms(layer: nn.Module) -> dict[str, Form]:
    """Tensors of a layer itself that MLX has otherwise, by torch's names."""
    if isinstance(layer, (conv.CONVOLUTIONS, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return {"weight": channels_second("weight")}
    if isinstance(layer, (conv.TRANSPOSED, *_MLX_TRANSPOSED)):
        return {"weight": transposed("weight", getattr(layer, "_groups", 1))}
    if isinstance(layer, nn.Bilinear):
        return {"weight": swapped("weight")}
    if isinstance(layer, (recurrent.LAYERS, recurrent.CELLS)):
        return _recurrent(layer)
    if isinstance(layer, (norm.LayerNorm, norm.RMSNorm)) and len(layer._shape) > 1:
        return _shaped(layer, layer._shape)
    return _attention(layer) if isinstance(layer, attention.MultiheadAttention) else {}


_MLX_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: Layers whose parts have other names in MLX, in torch's order.
_PARTS: tuple[tuple[type, dict[str, str]], ...] = (
    *(
        (kind, {place: name for name, place in kind._parts.items()})
        for kind in (transformer.TransformerEncoderLayer, transformer.TransformerDecoderLayer)
    ),
    (transformer.TransformerEncoder, {"ln": "norm"}),
    (transformer.TransformerDecoder, {"ln": "norm"}),
)


def parts(module: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """(torch's name, MLX's key, module, list or dict) of the parts of a module, as torch orders
    them; the layers of a Sequential are parts of it."""
    if isinstance(module, nn.Sequential):
        names = module.__dict__.get("_layer_names", [])
        for i, layer in enumerate(module.layers):
            yield names[i] if i < len(names) else str(i), f"layers.{i}", layer
    named = next((table for kind, table in _PARTS if isinstance(module, kind)), {})
    own = {key.partition(".")[0] for form in forms(module).values() for key in form.keys}
    for key, value in module.items():
        inside = isinstance(module, nn.Sequential) and key == "layers"
        if not inside and not key.startswith("_") and key not in own and _holds(value):
            yield named.get(key, key), key, value


def _holds(value: Any) -> bool:
    """Whether a value is a module, or holds some."""
    if isinstance(value, nn.Module):
        return True
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list, tuple)) and any(map(_holds, items))


def tensors(module: Any, name: str = "", path: str = "") -> Iterator[Tensor]:
    """All tensors of a module, or of a list or dict of modules, in the order that torch has: those
    of a module before those of its parts. A tensor that is there twice comes twice."""
    if isinstance(module, (list, tuple, dict)) and not isinstance(module, nn.Module):
        for key, value in module.items() if isinstance(module, dict) else enumerate(module):
            if _holds(value):
                yield from tensors(value, f"{name}{key}.", f"{path}{key}.")
        return
    special = {key: form for key, form in forms(module).items() if not _is_computed(module, form)}
    taken = {key for form in special.values() for key in form.keys}
    own = {key: Form((key,)) for key in _arrays(module) if key not in taken}
    ties = {key: Form((key,)) for key in module.__dict__.get("_ties", {})}
    parametrized = {name: own.pop(key).keys for key, name in _torch_names(module).items()}
    late = {name: Form(keys) for name, keys in parametrized.items()}
    for key, form in {**special, **own, **ties, **late}.items():
        yield Tensor(name + key, path[:-1], module, key, form)
    if counts(module):
        yield _count(name + norm.COUNTED, path, module)
    for key, place, value in parts(module):
        yield from tensors(value, f"{name}{key}.", f"{path}{place}.")


def _count(name: str, path: str, layer: nn.Module) -> Count:
    return Count(name, path[:-1], layer, norm.COUNTED, Form((norm.COUNTED,)))


def _is_computed(module: nn.Module, form: Form) -> bool:
    """Whether a tensor is computed from others; see kit.normalized."""
    return not module.__dict__.get("_rules", {}).keys().isdisjoint(form.keys)


def _torch_names(module: nn.Module) -> dict[str, str]:
    """Torch's names of arrays that are those of a parametrization."""
    found: dict[str, str] = module.__dict__.get("_torch_names", {})
    return found


def _arrays(module: nn.Module) -> Iterator[str]:
    """Keys of the arrays that a module itself holds, in lists and dicts too."""
    waiting = [(key, value) for key, value in module.items() if not key.startswith("_")][::-1]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, mx.array):
            yield key
        elif isinstance(value, (dict, list, tuple)) and not isinstance(value, nn.Module):
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
            waiting += [(f"{key}.{k}", v) for k, v in items][::-1]


def parameters(module: Any) -> Iterator[Tensor]:
    """The parameters of a module, each once, under its first name."""
    seen: set[int] = set()
    for tensor in tensors(module):
        if tensor.parameter and tensor.saved:
            arrays = {id(_down(owner, key)) for owner, key in tensor.places}
            if not arrays & seen:
                seen |= arrays
                yield tensor


def find(module: Any, name: str) -> Tensor:
    """The tensor of a name that torch gives it, or MLX. Raises KeyError where there is none."""
    found = _found(module, name, "", name) or _of_mlx(module, name)
    if found is None:
        raise KeyError(f"{type(module).__name__} has no parameter named {name!r}")
    return found


def _found(module: Any, rest: str, path: str, full: str) -> Tensor | None:
    """The tensor of torch's name `rest` below a module, which is at `path` in MLX."""
    key, _, below = rest.partition(".")
    if rest == norm.COUNTED and counts(module):
        return _count(full, path, module)
    if isinstance(module, nn.Module):
        form = forms(module).get(rest)
        late = next((key for key, own in _torch_names(module).items() if own == rest), rest)
        if form is None and isinstance(_at(module, late), mx.array):
            form = Form((late,))
        if form is not None:
            return Tensor(full, path[:-1], module, rest, form)
        for part, place, value in parts(module):
            if rest.startswith(f"{part}."):
                return _found(value, rest[len(part) + 1 :], f"{path}{place}.", full)
        return None
    value = _at(module, key)
    return _found(value, below, f"{path}{key}.", full) if _holds(value) else None


def _of_mlx(module: Any, name: str) -> Tensor | None:
    return next((tensor for tensor in tensors(module) if tensor.names == (name,)), None)


def _at(holder: Any, key: str) -> Any:
    """What a module, list or dict itself holds at a dotted key; None where nothing is."""
    value = holder
    for part in key.split("."):
        if isinstance(value, nn.Module) and value is not holder:
            return None
        if isinstance(value, (list, tuple)):
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return None
    return value


# --- what ported code calls -----------------------------------------------------------------------


def get(layer: Any, name: str) -> Any:
    """`layer.weight` in torch's layout, under torch's name; of what is no layer its attribute."""
    form = forms(layer).get(name) if isinstance(layer, nn.Module) else None
    return getattr(layer, name) if form is None else read(layer, name, form)


def put(layer: Any, name: str, value: Any) -> None:
    """`layer.weight = value`, the value being in torch's layout, under torch's name."""
    form = forms(layer).get(name) if isinstance(layer, nn.Module) else None
    if form is None:
        setattr(layer, name, value)
    else:
        write(layer, form, value)


def copy(layer: Any, name: str, value: Any) -> None:
    """`layer.weight.copy_(value)`: the value takes the shape and dtype that the weight has."""
    before = get(layer, name)
    put(layer, name, mx.broadcast_to(mx.array(value), before.shape).astype(before.dtype))


def start(
    layer: Any, name: str, function: Callable[..., mx.array], *args: Any, **more: Any
) -> None:
    """Sets a weight to what a function of kit.init makes of it."""
    put(layer, name, function(get(layer, name), *args, **more))


def rows(layer: nn.Module) -> list[list[str]]:
    """torch's `_all_weights` of a recurrent layer: names, a row for each layer and direction."""
    found: dict[str, list[str]] = {}
    for name in forms(layer):
        found.setdefault(name.partition("_l")[2], []).append(name)
    return list(found.values())


def rows_of_arrays(layer: nn.Module) -> list[list[mx.array]]:
    """torch's `all_weights` of a recurrent layer."""
    return [[get(layer, name) for name in row] for row in rows(layer)]


class Items:
    """Places of a parameter, read and set in torch's layout: `Items(conv, "weight")[0] = 1.0`, or
    `Items(model, "conv.weight")[0] = 1.0`."""

    def __init__(self, module: Any, name: str) -> None:
        self._layer, self._name = module, name
        if isinstance(module, nn.Module) and "." in name:
            found = find(module, name)
            self._layer, self._name = found.layer, found.key

    def __getitem__(self, place: Any) -> mx.array:
        return get(self._layer, self._name)[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self.put(place, value)

    def put(self, place: Any, value: Any) -> mx.array:
        """Sets a place, and gives the whole parameter."""
        changed = mx.array(get(self._layer, self._name))
        changed[place] = value
        put(self._layer, self._name, changed)
        return get(self._layer, self._name)
