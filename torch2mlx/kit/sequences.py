"""Recurrent operators with their weights as arguments, in torch's order and layout.

x is (L, B, D), (B, L, D) where `batch_first`, or (L, D); or a PackedSequence of kit.packed, and the
output then is one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import mlx.core as mx

from torch2mlx.kit.dropout import dropout as dropped
from torch2mlx.kit.packed import PackedSequence, on_items, over_padded

States = tuple[mx.array, ...]


def _gates(x: mx.array, weight: mx.array, bias: mx.array | None) -> mx.array:
    y = x @ weight.T
    return y if bias is None else y + bias


def lstm_cell(x, states: States, w_ih, w_hh, b_ih=None, b_hh=None) -> States:
    """One step of torch.lstm_cell: gates in the order input, forget, cell, output."""
    h, c = states
    i, f, g, o = mx.split(_gates(x, w_ih, b_ih) + _gates(h, w_hh, b_hh), 4, axis=-1)
    c = mx.sigmoid(f) * c + mx.sigmoid(i) * mx.tanh(g)
    return mx.sigmoid(o) * mx.tanh(c), c


def gru_cell(x, states: States, w_ih, w_hh, b_ih=None, b_hh=None) -> States:
    """One step of torch.gru_cell: gates in the order reset, update, new."""
    (h,) = states
    xr, xz, xn = mx.split(_gates(x, w_ih, b_ih), 3, axis=-1)
    hr, hz, hn = mx.split(_gates(h, w_hh, b_hh), 3, axis=-1)
    r, z = mx.sigmoid(xr + hr), mx.sigmoid(xz + hz)
    n = mx.tanh(xn + r * hn)
    return (n + z * (h - n),)


def rnn_cell(x, states: States, w_ih, w_hh, b_ih=None, b_hh=None, nonlinearity="tanh") -> States:
    """One step of torch.rnn_tanh_cell or rnn_relu_cell."""
    y = _gates(x, w_ih, b_ih) + _gates(states[0], w_hh, b_hh)
    return (mx.maximum(y, 0) if nonlinearity == "relu" else mx.tanh(y),)


def _layer(cell, x: mx.array, state: States, weights: Sequence[mx.array], backward: bool, lengths):
    """All steps of one direction; weights may end with a projection. Past its length (B,) a
    sequence keeps its state, and gives 0."""
    count = len(weights)
    projection = weights[-1] if count in (3, 5) else None
    weights = weights[: count - 1] if projection is not None else weights
    outputs: list[Any] = [None] * x.shape[0]
    steps = range(x.shape[0])
    for i in reversed(steps) if backward else steps:
        after = cell(x[i], state, *weights)
        if projection is not None:
            after = (after[0] @ projection.T, *after[1:])
        outputs[i] = after[0]
        if lengths is not None:
            inside = (i < lengths)[:, None]
            outputs[i] = mx.where(inside, after[0], 0)
            after = tuple(mx.where(inside, a, s) for a, s in zip(after, state, strict=True))
        state = after
    return mx.stack(outputs), state


def _run(cell, x, states, params, layers, both, batch_first, drop):
    if isinstance(x, PackedSequence):
        run = partial(_stacked, like=x)
        return over_padded(run, x, cell, states, params, layers, both, drop)
    if x.ndim == 2:
        states = [s[:, None] for s in states]
        y, *final = _stacked(x[:, None], cell, states, params, layers, both, drop)
        return y[:, 0], *(s[:, 0] for s in final)
    x = x.swapaxes(0, 1) if batch_first else x
    y, *final = _stacked(x, cell, states, params, layers, both, drop)
    return (y.swapaxes(0, 1) if batch_first else y), *final


def _stacked(x, cell, states, params, layers, both, drop, lengths=None, like=None):
    directions = 2 if both else 1
    each = len(params) // (layers * directions)
    last: list[States] = []
    for layer in range(layers):
        x = on_items(drop, x, like) if layer else x
        results = []
        for backward in (False, True)[:directions]:
            n = len(last)
            weights = params[n * each : (n + 1) * each]
            y, state = _layer(cell, x, tuple(s[n] for s in states), weights, backward, lengths)
            results.append(y)
            last.append(state)
        x = mx.concatenate(results, axis=-1) if both else results[0]
    return x, *(mx.stack(list(parts)) for parts in zip(*last, strict=True))


def lstm(
    x,
    states,
    params,
    biases=True,
    layers=1,
    both=False,
    batch_first=False,
    dropout=0.0,
    training=False,
):
    """torch.lstm: output, h_n, c_n. `params` layer by layer, both directions of a layer
    together; `dropout` between layers, in training."""
    drop = partial(dropped, p=dropout, training=training)
    return _run(lstm_cell, x, states, params, layers, both, batch_first, drop)


def gru(
    x,
    states,
    params,
    biases=True,
    layers=1,
    both=False,
    batch_first=False,
    dropout=0.0,
    training=False,
):
    """torch.gru: output, h_n."""
    drop = partial(dropped, p=dropout, training=training)
    return _run(gru_cell, x, states, params, layers, both, batch_first, drop)


def rnn(
    x,
    states,
    params,
    biases=True,
    layers=1,
    both=False,
    batch_first=False,
    dropout=0.0,
    training=False,
    nonlinearity="tanh",
):
    """torch.rnn_tanh or rnn_relu: output, h_n."""
    cell = partial(rnn_cell, nonlinearity=nonlinearity)
    drop = partial(dropped, p=dropout, training=training)
    return _run(cell, x, states, params, layers, both, batch_first, drop)
