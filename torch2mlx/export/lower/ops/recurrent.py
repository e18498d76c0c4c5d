"""Recurrent layers, called by their operators: steps are written out by the kit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.random import mode
from torch2mlx.export.lower.ops.registry import lowers


def options(
    b: Builder, kind: str, nonlinearity: str, layers: int, dropout: float, train: bool
) -> dict[str, Any]:
    """Arguments that most calls of a recurrent function do without."""
    more: dict[str, Any] = {"nonlinearity": nonlinearity} if kind == "rnn" else {}
    when = mode(b, train)
    if dropout and layers > 1 and when is not None:
        more |= {"dropout": dropout, "training": when}
    return more


def _run(kind: str, nonlinearity: str = "tanh") -> Any:
    def function(
        b: Builder,
        input: Node,
        hx: Any,
        params: Sequence[Node],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Node, ...]:
        states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        more = options(b, kind, nonlinearity, num_layers, dropout, train)
        found = b.call(
            f"kit.sequences.{kind}",
            input,
            states,
            tuple(params),
            has_biases,
            num_layers,
            bidirectional,
            batch_first,
            **more,
        )
        return b.items(found)

    function.__name__ = kind
    return function


lowers("aten::lstm.input")(_run("lstm"))
lowers("aten::gru.input")(_run("gru"))
lowers("aten::rnn_tanh.input")(_run("rnn"))
lowers("aten::rnn_relu.input")(_run("rnn", "relu"))


def _cell(kind: str, nonlinearity: str = "tanh") -> Any:
    def function(
        b: Builder, input: Node, hx: Any, w_ih: Node, w_hh: Node, b_ih: Any = None, b_hh: Any = None
    ) -> Any:
        states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        more = {"nonlinearity": nonlinearity} if kind == "rnn" else {}
        found = b.call(f"kit.sequences.{kind}_cell", input, states, w_ih, w_hh, b_ih, b_hh, **more)
        return b.items(found) if kind == "lstm" else b.item(found, 0)

    function.__name__ = f"{kind}_cell"
    return function


lowers("aten::lstm_cell")(_cell("lstm"))
lowers("aten::gru_cell")(_cell("gru"))
lowers("aten::rnn_tanh_cell")(_cell("rnn"))
lowers("aten::rnn_relu_cell")(_cell("rnn", "relu"))
