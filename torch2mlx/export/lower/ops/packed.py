"""Packed sequences: packing, padding, recurrent layers over them (see packing.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node, learn
from torch2mlx.export.ir.packed import fields, whole
from torch2mlx.export.lower.ops.recurrent import options
from torch2mlx.export.lower.ops.registry import lowers


def _pack(b: Builder, input: Node, lengths: Node, batch_first: bool, **more: Any) -> Any:
    more = {"batch_first": True, **more} if batch_first else more
    made = b.call("kit.packed.pack_padded_sequence", input, lengths, **more)
    learn(made, name="packed")
    return tuple(part for part in fields(b, made) if part is not None)


@lowers("torch2mlx_packed::pack")
def pack(b: Builder, input: Node, lengths: Node, batch_first: bool) -> Any:
    """Sequences in any order."""
    return _pack(b, input, lengths, batch_first, enforce_sorted=False)


@lowers("torch2mlx_packed::pack_sorted")
def pack_sorted(b: Builder, input: Node, lengths: Node, batch_first: bool) -> Any:
    """Sequences that are sorted by their lengths."""
    return _pack(b, input, lengths, batch_first)


@lowers("torch2mlx_packed::pad")
def pad(
    b: Builder,
    data: Node,
    batch_sizes: Node,
    sorted_indices: Any,
    unsorted_indices: Any,
    batch: Any,
    batch_first: bool,
    padding_value: float,
    total_length: Any,
) -> tuple[Node, ...]:
    """The batch with padding, and the lengths."""
    sequence = whole(b, (data, batch_sizes, sorted_indices, unsorted_indices))
    options = {"batch_first": batch_first, "padding_value": padding_value}
    options = {name: value for name, value in options.items() if value}
    if total_length is not None:
        options["total_length"] = total_length
    return b.items(b.call("kit.packed.pad_packed_sequence", sequence, **options))


def _layer(kind: str, nonlinearity: str = "tanh") -> Any:
    def function(
        b: Builder,
        data: Node,
        batch_sizes: Node,
        sorted_indices: Any,
        unsorted_indices: Any,
        batch: Any,
        hx: Any,
        params: Sequence[Node],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[Node, ...]:
        sequence = whole(b, (data, batch_sizes, sorted_indices, unsorted_indices))
        more = options(b, kind, nonlinearity, num_layers, dropout, train)
        given = (sequence, tuple(hx), tuple(params), has_biases, num_layers, bidirectional)
        found = b.call(f"kit.sequences.{kind}", *given, **more)
        output, *last = b.items(found)
        return b.call("attribute.data", output), *last

    function.__name__ = f"packed_{kind}"
    return function


lowers("torch2mlx_packed::lstm")(_layer("lstm"))
lowers("torch2mlx_packed::gru")(_layer("gru"))
lowers("torch2mlx_packed::rnn_tanh")(_layer("rnn"))
lowers("torch2mlx_packed::rnn_relu")(_layer("rnn", "relu"))
