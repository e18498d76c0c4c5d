"""RNN, LSTM, GRU and their cells: the kit's, which answer what torch's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch2mlx.catalog.layers.twin import Twin, taken, twin

_LAYER = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")


def _kind(module: Any, suffix: str = "") -> str:
    names = {f"{kind}{suffix}" for kind in ("RNN", "LSTM", "GRU")}
    return next(cls.__name__ for cls in type(module).__mro__ if cls.__name__ in names)


@twin("RNN", "LSTM", "GRU")
def recurrent(module: Any) -> Twin:
    """A layer of the kit."""
    kind = _kind(module)
    arguments = {**taken(module, _LAYER), "bidirectional": module.bidirectional}
    if kind == "RNN":
        arguments["nonlinearity"] = module.nonlinearity
    if kind == "LSTM":
        arguments["proj_size"] = module.proj_size
    return Twin(f"torch2mlx.kit.{kind}", arguments)


@twin("RNNCell", "LSTMCell", "GRUCell")
def cell(module: Any) -> Twin:
    """A cell of the kit."""
    kind = _kind(module, "Cell")
    arguments = taken(module, ("input_size", "hidden_size", "bias"))
    if kind == "RNNCell":
        arguments["nonlinearity"] = module.nonlinearity
    return Twin(f"torch2mlx.kit.{kind}", arguments)


def with_both_biases(found: Twin) -> Twin | None:
    """The twin of a recurrent layer that keeps both of torch's biases; None of other layers."""
    name = found.path.removeprefix("torch2mlx.kit.").removesuffix("Cell")
    if name not in ("RNN", "LSTM", "GRU"):
        return None
    return replace(found, arguments={**found.arguments, "both_biases": True})
