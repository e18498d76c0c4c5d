"""A live torch module as records. Uses the module's own attributes; torch is never imported."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch2mlx import _core
from torch2mlx.catalog.layers.entry import class_name
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.common import options
from torch2mlx.errors import ConversionError
from torch2mlx.types import Fold, ModuleRecord, ModuleTree

_PLAIN = (bool, int, float, str, type(None))
_PLAIN_TYPES = frozenset(_PLAIN)


def is_module(value: Any) -> bool:
    """Whether this is an nn.Module, asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        short = len(value) <= 32
        return short and (_PLAIN_TYPES.issuperset(map(type, value)) or all(map(_plain, value)))
    return isinstance(value, _PLAIN)


_CONTAINERS = ("torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict")


def _own_forward(cls: type) -> bool:
    """Whether a subclass of a container computes something of its own."""
    base = next((c for c in cls.__mro__ if class_name(c) in _CONTAINERS), None)
    return base is not None and getattr(cls, "forward", None) is not getattr(base, "forward", None)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is the same for all modules of a class."""

    names: tuple[str, ...]
    own_forward: bool


def _kind(cls: type) -> _Kind:
    names = tuple(class_name(c) for c in cls.__mro__ if c is not object)
    return _Kind(names, _own_forward(cls))


@lru_cache(maxsize=1024)
def _public(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without an underscore before them; modules of one class have the same ones."""
    return tuple(name for name in names if name[:1] != "_")


def _options(module: Any, kind: _Kind) -> dict[str, Any]:
    held = vars(module)
    options = {
        name: value
        for name in _public(tuple(held))
        if type(value := held[name]) in _PLAIN_TYPES or _plain(value)
    }
    if kind.own_forward:
        options["own_forward"] = True
    return options


def _hook_folds(module: Any) -> Iterator[Fold]:
    """weight_norm and spectral_norm in their hook forms, and pruning."""
    for hook in module._forward_pre_hooks.values():
        name, kind = getattr(hook, "name", ""), class_name(type(hook))
        if kind == "torch.nn.utils.weight_norm.WeightNorm":
            yield Fold(name, "weight_norm", (f"{name}_g", f"{name}_v"), hook.dim)
        elif kind == "torch.nn.utils.spectral_norm.SpectralNorm":
            sources = (f"{name}_orig", f"{name}_u", f"{name}_v")
            yield Fold(name, "spectral_norm", sources, hook.dim)
        elif hasattr(hook, "_tensor_name") and kind.startswith("torch.nn.utils.prune."):
            name = hook._tensor_name
            yield Fold(name, "mask", (f"{name}_orig", f"{name}_mask"))


def _parametrization(name: str, stack: Any) -> Fold:
    """One parametrized tensor: a formula we know, or "module" for anything else."""
    prefix = f"parametrizations.{name}."
    sources = tuple(prefix + key for key in stack.state_dict())
    kinds = [class_name(type(p)) for p in stack]
    if kinds == ["torch.nn.utils.parametrizations._WeightNorm"]:
        return Fold(name, "weight_norm", (f"{prefix}original0", f"{prefix}original1"), stack[0].dim)
    if kinds == ["torch.nn.utils.parametrizations._SpectralNorm"]:
        if hasattr(stack[0], "_u"):
            parts = (f"{prefix}original", f"{prefix}0._u", f"{prefix}0._v")
            return Fold(name, "spectral_norm", parts, stack[0].dim)
        return Fold(name, "unit_vector", (f"{prefix}original",))
    return Fold(name, "module", sources, None)


def _folds(module: Any) -> tuple[Fold, ...]:
    stacks = module._modules.get("parametrizations")
    if stacks is None:
        return tuple(_hook_folds(module)) if module._forward_pre_hooks else ()
    parametrized = [_parametrization(name, stack) for name, stack in stacks.items()]
    return (*parametrized, *_hook_folds(module))


def _present(members: dict[str, Any]) -> tuple[str, ...]:
    """Names of parameters, buffers or sub-modules that are not None."""
    return tuple([name for name, member in members.items() if member is not None])


def _record(path: str, module: Any, kind: _Kind) -> ModuleRecord:
    folds = _folds(module)
    children = _present(module._modules) if module._modules else ()
    if folds:
        children = tuple(name for name in children if name != "parametrizations")
    tensors = _present(module._parameters) if module._parameters else ()
    if module._buffers:
        tensors += _present(module._buffers)
    return ModuleRecord(path, kind.names, _options(module, kind), children, tensors, folds)


def _buffers(path: str, module: Any) -> Iterator[str]:
    """Names in the whole model of a module's own buffers, and of its parametrizations'."""
    head = f"{path}." if path else ""
    yield from (head + name for name in _present(module._buffers))
    stacks = module._modules.get("parametrizations")
    if stacks is not None:
        inner = f"{head}parametrizations"
        yield from (n for n, _ in stacks.named_buffers(inner, remove_duplicate=False))


def _walk(module: Any) -> tuple[dict[str, ModuleRecord], list[str]]:
    """The records of all modules, and the names of all buffers."""
    records: dict[str, ModuleRecord] = {}
    buffers: list[str] = []
    kinds: dict[type, _Kind] = {}
    waiting = [("", module)]
    while waiting:
        path, current = waiting.pop()
        cls = type(current)
        if cls not in kinds:
            kinds[cls] = _kind(cls)
        records[path] = record = _record(path, current, kinds[cls])
        if current._buffers or record.folds:
            buffers += _buffers(path, current)
        for name in reversed(record.children):
            waiting.append((f"{path}.{name}" if path else name, current._modules[name]))
    return records, buffers


def _ties(state: dict[str, Any]) -> dict[str, str]:
    first: dict[int, str] = {}
    return {k: first[id(t)] for k, t in state.items() if first.setdefault(id(t), k) != k}


def _is_lazy(kind: type) -> bool:
    """Whether a parameter of this class has no shape yet: asked for it, it raises."""
    return kind.__name__.startswith("Uninitialized")


def _tensors(state: dict[str, Any]) -> dict[str, Any]:
    """The entries of a state dict that are tensors."""
    torch = sys.modules["torch"]
    sure = {kind: issubclass(kind, torch.Tensor) for kind in set(map(type, state.values()))}
    if all(sure.values()):
        return state
    return {key: value for key, value in state.items() if sure[type(value)] or _shaped(value)}


def _shaped(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _shapes(tensors: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    lazy = {kind for kind in set(map(type, tensors.values())) if _is_lazy(kind)}
    return {key: tuple(t.shape) for key, t in tensors.items() if not lazy or type(t) not in lazy}


def _compute(root: Any, path: str, name: str) -> _core.Tensor:
    """What a parametrization gives in eval mode; the user's module stays untouched."""
    torch = sys.modules["torch"]
    module = root.get_submodule(path)
    stack = copy.deepcopy(module.parametrizations[name]).eval()
    with torch.no_grad():
        return borrow(f"{path}.{name}", stack()).load()


def parts(module: Any) -> Iterator[Any]:
    """A module and all within it, each once; `modules()` takes a step for each level above."""
    seen: set[int] = set()
    waiting = [module]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            if part._modules:
                waiting += [child for child in part._modules.values() if child is not None]


def _refuse_scripted(module: Any) -> None:
    """TorchScript hides the classes that rules need: Conv2d is a RecursiveScriptModule there."""
    kinds: dict[type, bool] = {}
    for part in parts(module):
        if type(part) not in kinds:
            names = map(class_name, type(part).__mro__)
            kinds[type(part)] = "torch.jit._script.ScriptModule" in names
        if kinds[type(part)]:
            path = next(path for path, other in module.named_modules() if other is part)
            where = f"module {path!r}" if path else "the module"
            raise ConversionError(
                f"{where} is TorchScript, which hides its layers' types: pass the Python module it "
                "was made from, or its state_dict() with "
                f"{options.option('module')}"
            )


def state_of(module: Any) -> dict[str, Any]:
    """A module's state dict with its own parameters in it, so that equal ones are one object.

    Raises ConversionError for TorchScript, and for a tree deeper than torch itself can walk.
    """
    try:
        _refuse_scripted(module)
        state: dict[str, Any] = module.state_dict(keep_vars=True)
        return state
    except RecursionError as error:
        raise ConversionError(
            f"the modules of {type(module).__name__} are nested too deeply for torch to list them"
        ) from error


def describe(module: Any, state: dict[str, Any] | None = None) -> ModuleTree:
    """The records of a module and all under it, and the tensors its state dict has.

    The module may live on torch's meta device: nothing here reads a value. `state`: what
    `state_of` says, where it was asked already. Raises ConversionError as it does.
    """
    state = state_of(module) if state is None else state
    tensors = _tensors(state)
    records, buffers = _walk(module)
    return ModuleTree(
        records,
        _shapes(tensors),
        _ties(tensors),
        tuple(name for name in buffers if name not in state),
        lambda path, name: _compute(module, path, name),
    )
