"""Packed sequences while a model is traced.

torch works their sizes out from the values of the lengths, step by step, which no export can
follow. Here packing, a recurrent layer over packed sequences and padding are one operator each: how
many items there are, and how long the longest sequence is, are lengths that the data decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

NAMESPACE = "torch2mlx_packed"
_SHARED = "Tensor? sorted_indices, Tensor? unsorted_indices, SymInt batch"
_WEIGHTS = "Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, float dropout"
_LAYER = f"Tensor data, Tensor batch_sizes, {_SHARED}, {_WEIGHTS}, bool train, bool bidirectional"
#: Operators by the function of torch._VF that they are.
KINDS = {"lstm": 2, "gru": 1, "rnn_tanh": 1, "rnn_relu": 1}
#: How many sequences a packed batch has, noted on its batch sizes.
_BATCH = "_torch2mlx_batch"


def reads_packed(target: Any) -> bool:
    """Whether an operator's first four arguments are the parts of a packed sequence."""
    mine = getattr(target, "namespace", "") == NAMESPACE
    return mine and not str(target).removeprefix(f"{NAMESPACE}.").startswith("pack")


@contextmanager
def packed_as_operators() -> Iterator[None]:
    """While open, torch's packing, padding and recurrent layers over packed sequences are
    operators of their own, by whatever name a model has imported the functions."""
    from torch import nn
    from torch.nn.utils import rnn

    _define()
    codes = [(rnn.pack_padded_sequence, _pack), (rnn.pad_packed_sequence, _pad)]
    kept = [(function, function.__code__) for function, _ in codes]
    forwards: list[tuple[Any, Any]] = [(kind, kind.forward) for kind in (nn.RNN, nn.LSTM, nn.GRU)]
    for function, ours in codes:
        function.__code__ = ours.__code__
    for kind, forward in forwards:
        kind.forward = _forward(forward)
    parts = rnn._packed_sequence_init_args
    rnn._packed_sequence_init_args = _of_anything(parts)
    try:
        yield
    finally:
        rnn._packed_sequence_init_args = parts
        for function, code in kept:
            function.__code__ = code
        for kind, forward in forwards:
            kind.forward = forward


def _of_anything(original: Callable[..., Any]) -> Callable[..., Any]:
    """What checks the parts of a new packed sequence, for tensors alone: torch.export makes
    containers of what it knows of each leaf."""
    import torch

    def parts(data: Any, batch_sizes: Any = None, *orders: Any) -> Any:
        known = isinstance(data, (list, tuple)) or isinstance(batch_sizes, torch.Tensor)
        return original(data, batch_sizes, *orders) if known else (data, batch_sizes, *orders)

    return parts


def _pack(input: Any, lengths: Any, batch_first: Any = False, enforce_sorted: Any = True) -> Any:
    from torch2mlx.export.capture import packing  # this code runs among the names of torch's module

    return packing.packed(input, lengths, batch_first, enforce_sorted)


def _pad(
    sequence: Any, batch_first: Any = False, padding_value: Any = 0.0, total_length: Any = None
) -> Any:
    from torch2mlx.export.capture import packing

    return packing.padded(sequence, batch_first, padding_value, total_length)


def packed(x: Any, lengths: Any, batch_first: bool, enforce_sorted: bool) -> Any:
    """torch's pack_padded_sequence as one operator."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    if not isinstance(lengths, torch.Tensor):
        numbers = [torch.full((), n, dtype=torch.int64, device="cpu") for n in lengths]
        lengths = torch.stack(numbers)
    operator = "pack_sorted" if enforce_sorted else "pack"
    parts = getattr(getattr(torch.ops, NAMESPACE), operator)(x, lengths, batch_first)
    setattr(parts[1], _BATCH, x.size(0 if batch_first else 1))
    return PackedSequence(*parts)


def padded(sequence: Any, batch_first: bool, padding_value: float, total_length: Any) -> Any:
    """torch's pad_packed_sequence as one operator."""
    import torch

    run = getattr(torch.ops, NAMESPACE).pad
    return run(*sequence, _batch(sequence), batch_first, padding_value, total_length)


def _batch(sequence: Any) -> Any:
    """How many sequences there are."""
    if sequence.unsorted_indices is not None:
        return sequence.unsorted_indices.size(0)
    if not hasattr(sequence.batch_sizes, _BATCH):
        setattr(sequence.batch_sizes, _BATCH, sequence.batch_sizes[0].item())
    return getattr(sequence.batch_sizes, _BATCH)


def _forward(original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        import torch
        from torch.nn.utils.rnn import PackedSequence

        if not isinstance(input, PackedSequence):
            return original(self, input, hx)
        self._update_flat_weights()
        kind = self.mode.lower()
        batch = _batch(input)
        states = _zeros(self, input.data, batch) if hx is None else hx
        states = list(states) if isinstance(states, (tuple, list)) else [states]
        options = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        run = getattr(getattr(torch.ops, NAMESPACE), kind)
        data, *last = run(*input, batch, states, list(self._flat_weights), *options)
        return PackedSequence(data, *input[1:]), tuple(last) if len(last) > 1 else last[0]

    return forward


def _zeros(layer: Any, data: Any, batch: Any) -> list[Any]:
    """The states before the first step."""
    import torch

    count = layer.num_layers * (2 if layer.bidirectional else 1)
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size][: KINDS[layer.mode.lower()]]
    return [torch.zeros(count, batch, n, dtype=data.dtype, device=data.device) for n in widths]


@cache
def _define() -> Any:
    """The operators; what is returned keeps them alive."""
    import torch

    library = torch.library.Library(NAMESPACE, "DEF")
    given = "(Tensor input, Tensor lengths, bool batch_first)"
    sequence = f"Tensor data, Tensor batch_sizes, {_SHARED}"
    options = "bool batch_first, float padding_value, SymInt? total_length"
    found: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
        (f"pack{given} -> (Tensor, Tensor, Tensor, Tensor)", _eager_pack, _shape_of_pack),
        (f"pack_sorted{given} -> (Tensor, Tensor)", _eager_sorted, _shape_of_sorted),
        (f"pad({sequence}, {options}) -> (Tensor, Tensor)", _eager_pad, _shape_of_pad),
    ]
    for kind, states in KINDS.items():
        results = ", ".join(["Tensor"] * (states + 1))
        found.append((f"{kind}({_LAYER}) -> ({results})", _eager_layer(kind), _shape_of_layer))
    for schema, eager, shape in found:
        name = schema.partition("(")[0]
        library.define(schema)
        library.impl(name, eager, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", shape, lib=library)
    return library


def _eager_sorted(x: Any, lengths: Any, batch_first: bool) -> Any:
    import torch

    return torch._VF._pack_padded_sequence(x, lengths, batch_first)


def _eager_pack(x: Any, lengths: Any, batch_first: bool) -> Any:
    import torch

    lengths, order = torch.sort(lengths, descending=True)
    x = x.index_select(0 if batch_first else 1, order)
    return *_eager_sorted(x, lengths, batch_first), order, torch.argsort(order)


def _eager_pad(
    data: Any, sizes: Any, order: Any, back: Any, batch: Any, first: Any, value: Any, total: Any
) -> Any:
    import torch

    longest = sizes.size(0) if total is None else total
    x, lengths = torch._VF._pad_packed_sequence(data, sizes, first, value, longest)
    if back is not None:
        x, lengths = x.index_select(0 if first else 1, back), lengths[back]
    return x.clone(), lengths.clone()


def _eager_layer(kind: str) -> Callable[..., Any]:
    def run(data: Any, sizes: Any, order: Any, back: Any, batch: Any, hx: Any, *rest: Any) -> Any:
        import torch

        states = [s if order is None else s.index_select(1, order) for s in hx]
        given = states if len(states) > 1 else states[0]
        y, *last = getattr(torch._VF, kind)(data, sizes, given, *rest)
        return y, *((s if back is None else s.index_select(1, back)).clone() for s in last)

    return run


def _shape_of_sorted(x: Any, lengths: Any, batch_first: bool) -> Any:
    import torch

    torch._check(lengths.size(0) == x.size(0 if batch_first else 1))
    context = torch.library.get_ctx()
    items, longest = context.new_dynamic_size(min=1), context.new_dynamic_size(min=1)
    return x.new_empty([items, *x.shape[2:]]), lengths.new_empty([longest], dtype=torch.int64)


def _shape_of_pack(x: Any, lengths: Any, batch_first: bool) -> Any:
    import torch

    orders = (lengths.new_empty(lengths.shape, dtype=torch.int64) for _ in range(2))
    return *_shape_of_sorted(x, lengths, batch_first), *orders


def _shape_of_pad(
    data: Any, sizes: Any, order: Any, back: Any, batch: Any, first: Any, value: Any, total: Any
) -> Any:
    longest = sizes.size(0) if total is None else total
    leading = [batch, longest] if first else [longest, batch]
    return data.new_empty([*leading, *data.shape[1:]]), sizes.new_empty([batch])


def _shape_of_layer(
    data: Any,
    sizes: Any,
    order: Any,
    back: Any,
    batch: Any,
    hx: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> Any:
    import torch

    torch.nn.functional.linear(data, params[0])  # for what it checks of the width
    for state in hx:
        torch._check(state.size(1) == batch)
    width = (2 if bidirectional else 1) * hx[0].size(2)
    return data.new_empty([data.size(0), width]), *(state.new_empty(state.shape) for state in hx)
