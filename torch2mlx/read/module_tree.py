"""A live torch module as records. Uses the module's own attributes; torch is never imported."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

from torch2mlx import _core
from torch2mlx.errors import ConversionError
from torch2mlx.read.tensors import borrow
from torch2mlx.types import Fold, ModuleRecord, ModuleTree
from torch2mlx.weights.catalog import class_name

_PLAIN = (bool, int, float, str, type(None))


def is_module(value: Any) -> bool:
    """Whether this is an nn.Module, asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) <= 32 and all(_plain(item) for item in value)
    return isinstance(value, _PLAIN)


def _own_forward(module: Any) -> bool:
    """Whether a Sequential subclass computes something of its own."""
    bases = [c for c in type(module).__mro__ if class_name(c) == "torch.nn.Sequential"]
    return bool(bases) and type(module).forward is not bases[0].forward


def _options(module: Any) -> dict[str, Any]:
    names = (n for n in vars(module) if not n.startswith("_"))
    options = {n: vars(module)[n] for n in names if _plain(vars(module)[n])}
    if _own_forward(module):
        options["own_forward"] = True
    return options


def _hook_folds(module: Any) -> Iterator[Fold]:
    """weight_norm and spectral_norm in their hook forms, and pruning."""
    for hook in module._forward_pre_hooks.values():
        name, kind = getattr(hook, "name", None), class_name(type(hook))
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
    stacks = getattr(module, "parametrizations", None)
    if stacks is None or "parametrizations" not in module._modules:
        return tuple(_hook_folds(module))
    parametrized = [_parametrization(name, stack) for name, stack in stacks.items()]
    return (*parametrized, *_hook_folds(module))


def _record(path: str, module: Any) -> ModuleRecord:
    folds = _folds(module)
    hidden = {"parametrizations"} if folds else set()
    own = (*module._parameters.items(), *module._buffers.items())
    return ModuleRecord(
        path,
        tuple(class_name(cls) for cls in type(module).__mro__ if cls is not object),
        _options(module),
        tuple(n for n, child in module._modules.items() if child is not None and n not in hidden),
        tuple(n for n, tensor in own if tensor is not None),
        folds,
    )


def _records(module: Any) -> dict[str, ModuleRecord]:
    records: dict[str, ModuleRecord] = {}
    waiting = [("", module)]
    while waiting:
        path, current = waiting.pop()
        records[path] = record = _record(path, current)
        for name in reversed(record.children):
            waiting.append((f"{path}.{name}" if path else name, current._modules[name]))
    return records


def _ties(state: dict[str, Any]) -> dict[str, str]:
    first: dict[int, str] = {}
    return {k: first[id(t)] for k, t in state.items() if first.setdefault(id(t), k) != k}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _compute(root: Any, path: str, name: str) -> _core.Tensor:
    """What a parametrization gives in eval mode; the user's module stays untouched."""
    torch = sys.modules["torch"]
    module = root.get_submodule(path)
    stack = copy.deepcopy(module.parametrizations[name]).eval()
    with torch.no_grad():
        return borrow(f"{path}.{name}", stack()).load()


def _refuse_scripted(module: Any) -> None:
    """TorchScript hides the classes that rules need: Conv2d is a RecursiveScriptModule there."""
    for path, part in module.named_modules():
        if any(class_name(cls) == "torch.jit._script.ScriptModule" for cls in type(part).__mro__):
            where = f"module {path!r}" if path else "the module"
            raise ConversionError(
                f"{where} is TorchScript, which hides its layers' types: pass the Python module it "
                "was made from, or its state_dict() with module="
            )


def describe(module: Any) -> ModuleTree:
    """The records of a module and all under it, and the tensors its state dict has.

    The module may live on torch's meta device: nothing here reads a value. Raises ConversionError
    for TorchScript.
    """
    _refuse_scripted(module)
    state = module.state_dict(keep_vars=True)
    tensors = {k: v for k, v in state.items() if _is_tensor(v)}
    buffers = (name for name, _ in module.named_buffers(remove_duplicate=False))
    return ModuleTree(
        _records(module),
        {k: tuple(v.shape) for k, v in tensors.items() if not _uninitialized(v)},
        _ties(tensors),
        tuple(name for name in buffers if name not in state),
        lambda path, name: _compute(module, path, name),
    )


def _uninitialized(value: Any) -> bool:
    return type(value).__name__.startswith("Uninitialized")
