"""What training loops of torch do around gradients: several modules, accumulation, clipping."""

from __future__ import annotations

import copy
import copyreg
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path

from torch2mlx.kit import norm, weights
from torch2mlx.kit.stubs import custom_function, tree_flatten


class Group(nn.Module):
    """Modules that are trained together.

    Raises ValueError for a module that is part of two of them: torch's optimizers would step its
    parameters twice, and gradients of MLX come to one of its places alone.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        seen: dict[int, int] = {}
        for place, module in enumerate(modules):
            for part in module.modules():
                if seen.setdefault(id(part), place) != place:
                    kind = type(part).__name__
                    raise ValueError(
                        f"a {kind} is part of two modules that are trained together, in which "
                        "torch would step it twice: give the optimizer its parameters once"
                    )
        self.modules_ = list(modules)


def add(gradients: Any, more: Any) -> Any:
    """Gradients summed, as `backward` does until they are set to zero; None counts as zero, as does
    what one of the trees has no place for."""
    if gradients is None or more is None:
        return more if gradients is None else gradients
    if isinstance(more, list):
        return [add(one, other) for one, other in zip(gradients, more, strict=True)]
    if isinstance(more, dict):
        keys = dict.fromkeys([*gradients, *more])
        return {key: add(gradients.get(key), more.get(key)) for key in keys}
    return gradients + more


def together(*gradients: Any) -> Any:
    """The gradients of a Group from those of its modules, or of one module; None, where no backward
    has left any, has no places."""
    parts = [{} if given is None else given for given in gradients]
    return parts[0] if len(parts) == 1 else {"modules_": parts}


#: Under which a module's own namespace, not its tree, has what calls have left.
_LEFT = "_gradients_left"


def left(*modules: nn.Module) -> Any:
    """The gradients that calls before have left in modules, in the form that a backward of a Group
    of them gives; None where there are none."""
    parts = [vars(module).get(_LEFT) for module in modules]
    return None if all(part is None for part in parts) else together(*parts)


def leave(gradients: Any, *modules: nn.Module) -> None:
    """Leaves gradients to later calls, as torch does in `.grad`; None sets them to zero."""
    whole = len(modules) == 1 or gradients is None
    parts = [gradients] * len(modules) if whole else gradients["modules_"]
    for module, part in zip(modules, parts, strict=True):
        vars(module)[_LEFT] = part


def clip_norm(
    gradients: Any, max_norm: float, norm_type: float = 2.0, *, only: Sequence[str] = ()
) -> tuple[Any, mx.array]:
    """torch's clip_grad_norm_: gradients scaled to a norm of at most max_norm, and that norm.

    `only`: dotted paths in the tree; the norm is of the gradients there, and no others change.
    """
    leaves = [mx.abs(g).astype(mx.float32) for _, g in _chosen(gradients, only)]
    if norm_type == float("inf"):
        norm = mx.max(mx.stack([mx.max(g) for g in leaves]))
    else:
        norm = mx.power(sum(mx.sum(mx.power(g, norm_type)) for g in leaves), 1 / norm_type)
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return _changed(gradients, only, lambda g: g * scale.astype(g.dtype)), norm


def clip_value(gradients: Any, clip_value: float, *, only: Sequence[str] = ()) -> Any:
    """torch's clip_grad_value_; `only` as in clip_norm."""
    return _changed(gradients, only, lambda g: mx.clip(g, -clip_value, clip_value))


def _among(path: str, only: Sequence[str]) -> bool:
    return not only or any(path == name or path.startswith(f"{name}.") for name in only)


def _chosen(gradients: Any, only: Sequence[str]) -> list[tuple[str, mx.array]]:
    return [(path, g) for path, g in tree_flatten(gradients) if _among(path, only)]


def _changed(gradients: Any, only: Sequence[str], change: Callable[[mx.array], mx.array]) -> Any:
    return tree_map_with_path(lambda path, g: change(g) if _among(path, only) else g, gradients)


def gradient(gradients: Any, name: str, module: nn.Module | None = None, at: str = "") -> mx.array:
    """The gradient of the parameter of a dotted name: torch's, in torch's layout, where the module
    is given, whose gradients these are (or those `at` a place in them), else MLX's."""
    if module is not None:
        tensor = weights.find(module, name)
        return tensor.joined([gradient(gradients, place) for place in _places(tensor, at)])
    for part in name.split("."):
        gradients = gradients[int(part)] if isinstance(gradients, list) else gradients[part]
    return gradients


def has_gradient(gradients: Any, name: str, module: nn.Module, at: str = "") -> bool:
    """Whether there is a gradient of a parameter, by the names of `gradient`."""
    held = {path for path, _ in tree_flatten(gradients)}
    return held.issuperset(_places(weights.find(module, name), at))


def put_gradient(
    gradients: Any, name: str, value: mx.array, module: nn.Module, at: str = ""
) -> Any:
    """Gradients with another one for a parameter, by the names of `gradient`; those given stay as
    they are."""
    tensor = weights.find(module, name)
    parts = (value,) if tensor.form.part is None else tensor.form.part(value)
    new = dict(zip(_places(tensor, at), parts, strict=True))
    return tree_map_with_path(lambda path, g: new.get(path, g), gradients)


def _places(tensor: weights.Tensor, at: str) -> list[str]:
    return [f"{at}.{name}" if at else name for name in tensor.names]


def assign(module: nn.Module, name: str, value: mx.array) -> mx.array:
    """Sets the parameter of torch's name to a value in torch's layout, and gives the parameter."""
    tensor = weights.find(module, name)
    tensor.put(value)
    return tensor.value()


def detached(value: Any) -> Any:
    """A value whose arrays have no gradient, in lists, tuples, dicts and dataclasses too; what is
    no array stays as it is."""
    if isinstance(value, mx.array):
        return mx.stop_gradient(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(detached(item) for item in value))
    if type(value) in (list, tuple):
        return type(value)(detached(item) for item in value)
    if type(value) is dict:
        return {key: detached(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {f.name: detached(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **held)
    return value


def deepcopy(value: Any) -> Any:
    """copy.deepcopy, of modules that hold dtypes too: MLX's cannot be copied by themselves."""
    copyreg.pickle(mx.Dtype, lambda dtype: str(dtype).rpartition(".")[2])
    return copy.deepcopy(value)


@custom_function
def _overwritten(leaf: mx.array, value: mx.array) -> mx.array:
    return value


@_overwritten.vjp
def _overwritten_gradient(primals: Any, cotangent: Any, output: Any) -> Any:
    leaf, value = primals
    return cotangent.astype(leaf.dtype), mx.zeros_like(value)


class Generator:
    """torch.Generator: MLX's functions draw from one stream, so that a seed here sets none."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def manual_seed(self, seed: int) -> Generator:
        """Notes the seed."""
        self._seed = seed
        return self

    def initial_seed(self) -> int:
        """The seed that was noted."""
        return self._seed


def gradients(
    function: Callable[..., mx.array], inputs: Sequence[mx.array], cotangents: Any = None
) -> tuple[mx.array, ...]:
    """torch.autograd.grad of `function(*inputs)`, an array for each input; ones are the cotangents
    of a result with one item. Raises ValueError where they are needed and missing."""
    if cotangents is None:
        return tuple(mx.grad(lambda given: _single(function(*given)))(list(inputs)))
    if isinstance(cotangents, (list, tuple)):
        (cotangents,) = cotangents
    return tuple(mx.vjp(lambda *given: [function(*given)], list(inputs), [cotangents])[1])


def _single(outputs: mx.array) -> mx.array:
    if outputs.size != 1:
        raise ValueError("gradients of several outputs need grad_outputs")
    return outputs.reshape(())


def overwritten(leaf: mx.array, value: mx.array) -> mx.array:
    """`leaf.copy_(value)` under no_grad: the numbers of `value`, and the gradient of `leaf`."""
    return _overwritten(leaf, mx.broadcast_to(value, leaf.shape).astype(leaf.dtype))


def hide(module: nn.Module, name: str, value: Any) -> None:
    """Sets an attribute that is no parameter: it is neither trained nor saved."""
    object.__setattr__(module, name, value)


#: Where classes of layers are defined that are not a script's own.
_LIBRARIES = ("mlx", __name__.partition(".")[0])


def give(module: Any, name: str, value: Any) -> None:
    """torch's `module.name = tensor` of a tensor that is no parameter: it is neither trained nor
    saved, unless a buffer has the name. What is a layer of a library computes with it."""
    own = type(module).__module__.partition(".")[0] not in _LIBRARIES
    if isinstance(module, nn.Module) and own and name not in module:
        hide(module, name, value)
    else:
        weights.put(module, name, value)


def transient(module: nn.Module, name: str) -> None:
    """Says of an array that it gets a gradient, and is not saved by kit.files."""
    module.__dict__.setdefault("_transient", set()).add(name)


def context() -> Any:
    """A `with` that does nothing, for torch's of devices, gradients and autocast."""
    return nullcontext()


def _arrays(value: Any, key: str) -> Iterator[tuple[str, mx.array]]:
    """(key, array) of what a module itself holds, in lists and dicts too."""
    if isinstance(value, mx.array):
        yield key, value
    elif isinstance(value, (dict, list, tuple)) and not isinstance(value, nn.Module):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for k, v in items:
            yield from _arrays(v, f"{key}.{k}")


def held(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, mx.array]]:
    """(full name, module that holds it, its key there, array) of all parameters: those that are
    trained, and those that `freeze` of this file has stopped; buffers are neither."""
    if not isinstance(module, nn.Module):  # a list or dict of modules
        holder = nn.Module()
        holder.held = module
        for name, *rest in held(holder):
            yield (name.removeprefix("held."), *rest)
        return
    seen: set[int] = set()
    named = {id(m): path for path, m in module.named_modules()}
    owners = {id(m): m for _, m in module.named_modules()}
    for identity, owner in reversed(owners.items()):
        stopped, unsaved = (getattr(owner, name, ()) for name in ("_stopped", "_transient"))
        for top, value in owner.items():
            for key, array in _arrays(value, top):
                hidden = top in owner._no_grad or key in owner._no_grad
                private = top.startswith("_") or id(array) in seen or key in unsaved
                if not private and (not hidden or key in stopped):
                    seen.add(id(array))
                    path = named[identity]
                    yield f"{path}.{key}" if path else key, owner, key, array


def buffers(module: nn.Module) -> list[mx.array]:
    """The arrays of a module that are no parameters, frozen or not, as torch's `buffers()`: counts
    of batches too. What changes one of them in place changes the module."""
    known = {id(array) for *_, array in held(module)}
    found = {}
    for owner in reversed([m for _, m in module.named_modules()]):
        for top, value in owner.items():
            for _, array in _arrays(value, top):
                if not top.startswith("_") and id(array) not in known:
                    found[id(array)] = array
        if weights.counts(owner):
            count = weights.find(owner, norm.COUNTED).value()
            found[id(count)] = count
    return list(found.values())


def named_buffers(module: nn.Module) -> list[tuple[str, mx.array]]:
    """(name, buffer) pairs, each once, with torch's names, layouts and order, counts of batches
    among them. What changes one in place changes the module."""
    found: dict[int, tuple[str, mx.array]] = {}
    for tensor in weights.tensors(module):
        value = tensor.value()
        if not tensor.parameter:
            found.setdefault(id(value), (tensor.name, value))
    return list(found.values())


def set_trainable(module: nn.Module, name: str, value: Any) -> None:
    """torch's `parameter.requires_grad = value` for the parameter of a dotted name, or for all of
    a module's where the name is empty. Buffers stay. Raises ValueError for an array, which only its
    module can freeze."""
    if not isinstance(module, nn.Module):
        if value:
            return
        raise ValueError("requires_grad_(False) of an array: freeze it in the module that holds it")
    tensors = [weights.find(module, name)] if name else weights.tensors(module)
    places = [place for tensor in tensors if tensor.parameter for place in tensor.places]
    for owner, key in places:
        stopped = owner.__dict__.setdefault("_stopped", set())
        if value and key in stopped:
            stopped.discard(key)
            owner._no_grad.discard(key)
        elif not value:
            stopped.add(key)
            owner._no_grad.add(key)


def with_dtype(module: nn.Module, dtype: mx.Dtype) -> nn.Module:
    """torch's `module.to(dtype)`: the module, whose floating-point parameters were cast."""
    module.set_dtype(dtype)
    return module


def frozen(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """The module with the parameters of these dotted names frozen, and no others."""
    for name in names:
        *owners, last = name.split(".")
        held: Any = module
        for part in owners:
            held = held[int(part)] if isinstance(held, list) else held[part]
        held.freeze(keys=[last], recurse=False)
    return module


def freeze(module: nn.Module, name: str = "") -> nn.Module:
    """Parameters that get no gradient from now on: one, or all of a module. Answers the module."""
    set_trainable(module, name, False)
    return module


def unfreeze(module: nn.Module, name: str = "") -> nn.Module:
    """Parameters that get gradients again; unlike `module.unfreeze()` it leaves buffers alone.
    Answers the module."""
    set_trainable(module, name, True)
    return module


def is_trainable(module: nn.Module, name: str) -> bool:
    """torch's `parameter.requires_grad`, of the parameter of torch's name."""
    try:
        tensor = weights.find(module, name)
    except KeyError:
        return False
    return tensor.parameter and tensor.trainable


def named_parameters(
    module: nn.Module, trainable: bool = False, recurse: bool = True
) -> list[tuple[str, mx.array]]:
    """(name, parameter) pairs, each once, with torch's names, layouts and order; `trainable`:
    without frozen ones; without `recurse`, those alone that are of no part of the module."""
    return [
        (tensor.name, tensor.value())
        for tensor in weights.parameters(module)
        if (tensor.trainable or not trainable) and (recurse or "." not in tensor.name)
    ]


def parameters(
    *modules: nn.Module, trainable: bool = False, recurse: bool = True
) -> Iterator[mx.array]:
    """All parameters one by one, as `model.parameters()` gives them in torch."""
    for module in modules:
        yield from (p for _, p in named_parameters(module, trainable, recurse))


class _GroupOptions:
    """One group's options under torch's names: `group["lr"]` reads and sets the learning rate."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def __getitem__(self, name: str) -> Any:
        value = getattr(self._optimizer, _ATTRIBUTES.get(name, name))
        return float(value) if name == "lr" else value

    def __setitem__(self, name: str, value: Any) -> None:
        attribute = _ATTRIBUTES.get(name, name)
        getattr(self._optimizer, attribute)  # an option that it lacks is an error
        setattr(self._optimizer, attribute, value)


_ATTRIBUTES = {"lr": "learning_rate"}


def param_groups(optimizer: Any) -> list[_GroupOptions]:
    """torch's `optimizer.param_groups`, for their options: one for a plain optimizer. Raises
    AttributeError for an option that the optimizer does not have."""
    return [_GroupOptions(each) for each in getattr(optimizer, "optimizers", [optimizer])]
