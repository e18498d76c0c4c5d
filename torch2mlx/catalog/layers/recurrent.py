"""RNN, LSTM, GRU and their cells: the kit's, which answer what torch's answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from torch2mlx.catalog.layers.entry import Twin, layer, one_of, taken, without
from torch2mlx.catalog.weights.recurrent import rule

_LAYER = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")


def _kind(module: Any, suffix: str = "") -> str:
    return one_of(module, frozenset(f"{kind}{suffix}" for kind in ("RNN", "LSTM", "GRU")))


def recurrent(module: Any) -> Twin:
    """A layer of the kit."""
    kind = _kind(module)
    arguments = {**taken(module, _LAYER), "bidirectional": module.bidirectional}
    if kind == "RNN":
        arguments["nonlinearity"] = module.nonlinearity
    if kind == "LSTM":
        arguments["proj_size"] = module.proj_size
    return Twin(f"torch2mlx.kit.{kind}", arguments)


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


_NAME = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)(?P<suffix>(?:_l\d+(?:_reverse)?)?)")


def _tensors(gates: int) -> Callable[[Collection[str]], dict[str, str]]:
    """The tensors of a recurrent layer: one set of names for each suffix that is there."""

    def row(names: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for match in filter(None, map(_NAME.fullmatch, names)):
            end = match["suffix"]
            state = f"projected{end}" if f"weight_hr{end}" in names else f"hidden{end}"
            found[f"weight_ih{end}"] = f"{gates}*hidden{end} in{end}"
            found[f"weight_hh{end}"] = f"{gates}*hidden{end} {state}"
            found[f"weight_hr{end}"] = f"projected{end} hidden{end}"
            found[f"bias_ih{end}"] = found[f"bias_hh{end}"] = f"{gates}*hidden{end}"
        return found or {"weight_ih": f"{gates}*hidden in"}

    return row


for _name, _gates in (("RNN", 1), ("LSTM", 4), ("GRU", 3)):
    for _suffix, _make in (("", recurrent), ("Cell", cell)):
        layer(
            _name + _suffix,
            _make,
            mlx="torch2mlx.kit.{name}",
            native=f"mlx.nn.{_name}",
            weights=rule(_name.lower()),
            tensors=_tensors(_gates),
            note="torch's arguments and answers, and both of its biases",
        )
without("RNNBase RNNCellBase", "a base class of torch's: RNN, LSTM or GRU")
