"""Which arguments and results of a translated model have channels last, torch's having them
first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx.export.capture.keywords import positional_names
from torch2mlx.export.ir.nodes import Program, first_order, last_order
from torch2mlx.export.ir.structures import to_mlx


@dataclass(frozen=True)
class Ends:
    """Arguments by the way into them, ("x",) or ("batch", "image"); results by their place."""

    inputs: tuple[tuple[Any, ...], ...] = ()
    outputs: tuple[int, ...] = ()

    def given(self, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Arguments of the torch model, as the translated one takes them: (args, kwargs)."""
        names = positional_names(model.forward, len(args))
        named = {key: to_mlx(value) for key, value in kwargs.items()}
        values = dict(zip(names, (to_mlx(a) for a in args), strict=True)) | named
        for name, *path in self.inputs:
            if name in values:
                values[name] = _changed(values[name], path)
        return [values.pop(n) for n in names], values

    def result(self, place: int, value: Any) -> Any:
        """A result, as torch has it."""
        if place not in self.outputs:
            return value
        return value.transpose(first_order(value.ndim))

    def __str__(self) -> str:
        """For the first lines of the file."""
        ways = [".".join(map(str, path)) for path in self.inputs]
        told = [*ways, *(f"result {place}" for place in self.outputs)]
        return f"Channels are last in: {', '.join(told)}." if told else ""


def _changed(value: Any, path: Sequence[Any]) -> Any:
    if not path:
        return value.transpose(last_order(value.ndim))
    if isinstance(value, dict):
        return {**value, path[0]: _changed(value[path[0]], path[1:])}
    items = list(value)
    items[path[0]] = _changed(items[path[0]], path[1:])
    return type(value)(items) if isinstance(value, (list, tuple)) else items


def ends(program: Program) -> Ends:
    """Those of a program."""
    return Ends(tuple(i.path for i in program.inputs if i.channels_last), program.last_outputs)


def ends_of(folder: Path) -> Ends:
    """Those of a saved translation."""
    said = _config(folder).get("channels_last", {})
    return Ends(tuple(map(tuple, said.get("inputs", ()))), tuple(said.get("outputs", ())))


def graded_of(folder: Path) -> bool:
    """Whether a saved translation is what the model runs while gradients are recorded only."""
    return bool(_config(folder).get("graded", False))


def _config(folder: Path) -> Any:
    path = folder / "config.json"
    return json.loads(path.read_text()) if path.exists() else {}
