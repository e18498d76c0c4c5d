"""Models that are in memory a tensor at a time: values come from files when they are used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.checkpoint.source.as_loaded import as_loaded
from torch2mlx.checkpoint.source.module_tree import describe
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.errors import StateDictMismatchError

#: Parameters that stay loaded between calls (a call holds its own), as several often ask in a row.
KEPT = 2


@contextmanager
def values_from(model: Any, source: Any, key: str | None = None) -> Iterator[None]:
    """While this is open, parameters on the meta device have the values of a checkpoint.

    Each is read when a torch function is called with it, cast to the parameter's dtype, and
    forgotten some calls later. `source` and `key` are any that `convert` takes. Raises
    StateDictMismatchError for a parameter that the checkpoint lacks or has in another shape.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    tensors = as_loaded(open_checkpoint(source, key), model).tensors
    ties = describe(model).ties
    keys = {id(p): ties.get(name, name) for name, p in model.state_dict(keep_vars=True).items()}
    kept: OrderedDict[int, Any] = OrderedDict()

    def value(parameter: Any) -> Any:
        if id(parameter) not in kept:
            kept[id(parameter)] = _read(tensors, keys[id(parameter)], parameter)
            while len(kept) > KEPT:
                kept.popitem(last=False)
        kept.move_to_end(id(parameter))
        return kept[id(parameter)]

    def filled(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return value(item) if item.is_meta and id(item) in keys else item
        if isinstance(item, (list, tuple)) and any(isinstance(i, torch.Tensor) for i in item):
            return type(item)([filled(i) for i in item])
        return item

    class Filling(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            named = {k: filled(v) for k, v in (kwargs or {}).items()}
            return func(*(filled(a) for a in args), **named)

    with Filling():
        yield


def _read(tensors: Any, key: str, parameter: Any) -> Any:
    import torch

    if key not in tensors:
        raise StateDictMismatchError(f"the checkpoint has no {key!r}")
    found = tensors[key].load().dense()
    given, wanted = tuple(found.shape), tuple(parameter.shape)
    if given != wanted:
        raise StateDictMismatchError(f"{key!r}: {given} in the checkpoint, {wanted} in the model")
    raw = np.array(found)
    half = found.dtype == "bfloat16"
    made = torch.from_numpy(raw.view(np.int16) if half else raw)
    return (made.view(torch.bfloat16) if half else made).to(parameter.dtype)


class Unread:
    """The arrays of a translated folder, each in memory while its module is being called."""

    def __init__(self, module: Any, folder: Path, dtype: Any = None) -> None:
        """`dtype`: of all floating-point weights in the comparison; None leaves the files'."""
        self._names = {id(m): path for path, m in module.named_modules()}
        self._folder, self._dtype = folder, dtype
        self._idle = self._loaded()
        for _, one in module.named_modules():
            self._put(one, self._idle)

    def _loaded(self) -> dict[str, Any]:
        import mlx.core as mx

        files = (self._folder / n for n in ("weights.safetensors", "constants.safetensors"))
        arrays: dict[str, mx.array] = {}
        for path in files:
            if path.exists():
                read: Any = mx.load(str(path))
                arrays.update(read)
        if self._dtype is None:
            return arrays
        floats = {k for k, v in arrays.items() if mx.issubdtype(v.dtype, mx.floating)}
        return {k: v.astype(self._dtype) if k in floats else v for k, v in arrays.items()}

    def _put(self, one: Any, arrays: dict[str, Any]) -> None:
        prefix = self._names.get(id(one))
        for key in list(one):
            name = f"{prefix}.{key}" if prefix else key
            if prefix is not None and name in arrays:
                one[key] = arrays[name]

    def take(self, one: Any) -> None:
        """Gives a module arrays that will be read when they are used."""
        self._put(one, self._loaded())

    def drop(self, one: Any) -> None:
        """Forgets what of a module has been read. (Never read themselves, the idle ones cost
        nothing, and hold one open file instead of one for each module.)"""
        self._put(one, self._idle)
