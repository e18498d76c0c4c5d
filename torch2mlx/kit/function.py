"""A function with its options as a module: what torch layers without weights become."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn


class Function(nn.Module):
    """Calls `function(*inputs, **options)`.

    Options that are arrays (class weights of a loss) are kept as frozen parameters of their name;
    a function that takes `training` gets the module's mode.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self._function = function
        self._options = {n: o for n, o in options.items() if not isinstance(o, mx.array)}
        self._arrays = [name for name in options if name not in self._options]
        for name in self._arrays:
            self[name] = options[name]
        self._has_mode = "training" in inspect.signature(function).parameters
        self.freeze(recurse=False)

    def unfreeze(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Its arrays are options, never trained."""
        return self

    def _extra_repr(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"{self._function.__name__}, {options}"

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        options = {**self._options, **{name: self[name] for name in self._arrays}, **more}
        if self._has_mode:
            options["training"] = self.training
        return self._function(*inputs, **options)
