"""Driver: one torch layer becomes the MLX module that computes the same, with its weights."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, overload

from torch2mlx.catalog.layers import Twin, find_twin
from torch2mlx.catalog.layers.lookup import lookup
from torch2mlx.catalog.layers.recurrent import with_both_biases
from torch2mlx.checkpoint.plan.forms import plan_of
from torch2mlx.checkpoint.plan.training import trained
from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.common.optional import need
from torch2mlx.errors import UnmappedLayersError, Unsupported
from torch2mlx.types import Checkpoint

if TYPE_CHECKING:
    import torch
    from mlx import nn


def resolve(path: str) -> Any:
    """The object that a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _mlx_value(value: Any) -> Any:
    """An option as MLX takes it: tensors as arrays."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return loading.mlx_array(borrow("option", value).load().dense())
    return value


def _make(path: str, arguments: Mapping[str, Any]) -> Any:
    made = resolve(path)
    if isinstance(made, type):
        return made(**arguments)
    from torch2mlx.kit import Function

    return Function(made, **{name: value for name, value in arguments.items() if value is not None})


def _children(value: Any, path: str, both: Collection[int]) -> Any:
    if isinstance(value, list):
        return [_children(item, f"{path}.{i}", both) for i, item in enumerate(value)]
    if value is None or hasattr(value, "dtype"):  # a parameter of a list or dict of them
        return _mlx_value(value)
    return _structure(value, path, both)


def _structure(module: Any, path: str, both: Collection[int] = ()) -> Any:
    """The MLX module of a torch layer, with weights of its own making.

    `both`: ids of the recurrent layers that keep both of torch's biases.
    """
    spec = lookup(type(module))
    if spec is not None and spec.transparent:
        return _structure(getattr(module, spec.transparent), path, both)
    found = find_twin(module)
    where = f"{type(module).__name__}{' at ' + path.lstrip('.') if path else ''}"
    if found is None:
        raise UnmappedLayersError(f"{where}: is no layer of torch.nn that MLX has a twin for")
    if isinstance(found, Unsupported):
        raise UnmappedLayersError(f"{where}: {found.detail}")
    twin = with_both_biases(found) if id(module) in both else None
    return _from_twin(twin or found, path, both)


def _from_twin(twin: Twin, path: str, both: Collection[int] = ()) -> Any:
    children = {n: _children(child, f"{path}.{n}", both) for n, child in twin.children.items()}
    if "*" in children:
        return resolve(twin.path)(*children["*"])
    if "*list" in children:
        return children["*list"]
    arguments = {name: _mlx_value(value) for name, value in twin.arguments.items()}
    return _make(twin.path, {**arguments, **children})


def layer_of(module: Any, path: str = "", twin: Twin | None = None) -> Any:
    """The MLX module of one torch layer, with weights of its own making; `twin`, where known."""
    return _structure(module, path) if twin is None else _from_twin(twin, path)


def _checkpoint(module: Any) -> tuple[Checkpoint, frozenset[str]]:
    """A module's tensors, and the paths of the layers that keep torch's own since they are being
    trained."""
    checkpoint = open_checkpoint(module)
    assert checkpoint.tree is not None
    keeping = trained(checkpoint.tree, module)
    for path in sorted(keeping):
        computed = ", ".join(fold.name for fold in checkpoint.tree.records[path].folds)
        if computed:
            where = f"{type(module.get_submodule(path)).__name__}{' at ' + path if path else ''}"
            raise UnmappedLayersError(
                f"{where}: torch computes {computed} anew at every step of training, which no "
                "layer of MLX does: call eval() first, which fixes it, or translate() the model, "
                "which writes that computation"
            )
    return checkpoint, keeping


def converted_arrays(module: Any) -> dict[str, Any]:
    """The module's tensors as MLX arrays under their MLX names, ties included."""
    return _arrays(*_checkpoint(module))


def _arrays(checkpoint: Checkpoint, keeping: frozenset[str]) -> dict[str, Any]:
    plan = plan_of(checkpoint, keeping)
    need("building a module of MLX", "mlx")
    arrays = {p.target: loading.mlx_array(p.load().dense()).reshape(p.shape) for p in plan.pieces}
    arrays.update({name: arrays[first] for name, first in plan.ties.items()})
    return arrays


@overload
def build(  # type: ignore[overload-overlap] # lists are modules in torch alone
    module: torch.nn.ModuleList | torch.nn.ParameterList,
) -> list[Any]: ...
@overload
def build(  # type: ignore[overload-overlap] # as dicts
    module: torch.nn.ModuleDict | torch.nn.ParameterDict,
) -> dict[str, Any]: ...
@overload
def build(module: torch.nn.Module) -> nn.Module: ...
def build(module: Any) -> Any:
    """The MLX module that computes what a torch layer computes, with its weights and its mode.

    Takes layers of torch.nn with any of their options, and Sequential, ModuleList and ModuleDict of
    them; the last two, ParameterList and ParameterDict become lists and dicts. Layers of spatial
    data (convolutions, pooling, batch norms, ...; `layout` tells) take and give channels-last data,
    as everything in MLX.

    In training mode recurrent layers have both of torch's biases, and their sum in eval mode.

    Raises UnmappedLayersError with the reason for what has no twin and, in training mode, for
    layers whose weights are computed (weight norm, spectral norm, any parametrization);
    UnsupportedTensorError for tensors without an MLX form.
    """
    need("registry.build", "torch", "mlx")
    import mlx.nn

    checkpoint, keeping = _checkpoint(module)
    both = {id(module.get_submodule(path)) for path in keeping}
    made = _structure(module, "", both)
    holder, prefix = made, ""
    if not isinstance(made, mlx.nn.Module):  # a list or dict: held while it is loaded
        holder, prefix = mlx.nn.Module(), "held."
        holder.held = made
    if checkpoint.tensors:
        arrays = _arrays(checkpoint, keeping)
        holder.load_weights([(prefix + name, a) for name, a in arrays.items()], strict=True)
    holder.train(module.training)
    return made


def layout(module: Any) -> str:
    """ "channels_last" or "same": how the twin of a layer takes its data.

    Raises UnmappedLayersError for what has no twin.
    """
    found = find_twin(module)
    if not isinstance(found, Twin):
        raise UnmappedLayersError(f"{type(module).__name__}: has no twin")
    return found.layout
