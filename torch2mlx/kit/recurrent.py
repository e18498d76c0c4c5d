"""RNN, LSTM and GRU as torch has them: layers, directions, projections, both results.

One layer in one direction keeps its weights under mlx.nn's names (`Wx`, `Wh`, `bias`; RNN `Wxh`,
`Whh`; GRU `b`, `bhn`), so converted weights fit mlx.nn's layer too. More layers are a list,
`layers.{k}`, of such parts, or of {"forward": ..., "backward": ...}.

`both_biases`: instead of their sum the layer has both of torch's biases, `bias_ih` and `bias_hh`,
(G * H,) each. An optimizer then moves the sum as far as it does in torch; one bias moves half as
far. `convert(..., training=True)` writes them, and `kit.files.load_state_dict` takes either form.

`lengths` (B,) says how much of each sequence counts, as torch's packed sequences do: outputs past
it are 0, the last state is the one at it, and the backward direction begins there. A
PackedSequence of kit.packed brings its own lengths, and comes back as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit.dropout import dropout
from torch2mlx.kit.packed import PackedSequence, on_items, over_padded

_ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {"tanh": mx.tanh, "relu": nn.relu}
State = tuple[mx.array, ...]
Weights = Mapping[str, Any]


def _uniform(bound: float, *shape: int) -> mx.array:
    return mx.random.uniform(-bound, bound, shape)


class _Part(nn.Module):
    """The weights of one layer in one direction; sequences are (L, B, D)."""

    def __init__(self, base: _Recurrent, inputs: int) -> None:
        super().__init__()
        for name, value in base._weights(inputs).items():
            self[name] = value


class _Recurrent(nn.Module):
    """What the three kinds share: running steps, stacking, batch order."""

    _gates = 1
    _states = 1
    _names = ("Wx", "Wh")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        both_biases: bool = False,
    ) -> None:
        super().__init__()
        self._hidden, self._bias, self._projection = hidden_size, bias, proj_size
        self._two = both_biases
        self._batch_first, self._dropout = batch_first, dropout
        self._both, self._depth = bidirectional, num_layers
        if num_layers == 1 and not bidirectional and not proj_size:
            for name, value in self._weights(input_size).items():
                self[name] = value
            return
        outputs = (proj_size or hidden_size) * (2 if bidirectional else 1)
        sizes = [input_size] + [outputs] * (num_layers - 1)
        self.layers = [self._layer(size) for size in sizes]

    def flatten_parameters(self) -> None:
        """torch's hint to lay the weights side by side in memory: there is nothing to do."""

    def _layer(self, inputs: int) -> Any:
        if self._both:
            return {"forward": _Part(self, inputs), "backward": _Part(self, inputs)}
        return _Part(self, inputs)

    def _weights(self, inputs: int) -> dict[str, mx.array]:
        rows, bound = self._gates * self._hidden, 1 / math.sqrt(self._hidden)
        made = {
            self._names[0]: _uniform(bound, rows, inputs),
            self._names[1]: _uniform(bound, rows, self._projection or self._hidden),
        }
        if self._projection:
            made["Wr"] = _uniform(bound, self._projection, self._hidden)
        if self._bias and self._two:
            made.update({name: _uniform(bound, rows) for name in ("bias_ih", "bias_hh")})
        elif self._bias:
            made.update(self._biases(bound))
        return made

    def _biases(self, bound: float) -> dict[str, mx.array]:
        return {"bias": _uniform(bound, self._gates * self._hidden)}

    def _inputs(self, weights: Weights, x: mx.array) -> mx.array:
        """The part of the gates that does not depend on the state, for all steps at once."""
        y = x @ weights[self._names[0]].T
        if "bias_ih" in weights:
            return y + (weights["bias_ih"] + weights["bias_hh"])
        return y + weights["bias"] if "bias" in weights else y

    def _step(self, weights: Weights, gates: mx.array, state: State) -> State:
        raise NotImplementedError

    def _run(self, weights: Weights, x: mx.array, state: State, backward: bool, lengths):
        """All steps of one direction; past its length a sequence keeps its state, and gives 0."""
        gates = self._inputs(weights, x)
        steps = range(x.shape[0])
        outputs: list[Any] = [None] * x.shape[0]
        for i in reversed(steps) if backward else steps:
            after = self._step(weights, gates[i], state)
            if lengths is not None:
                inside = (i < lengths)[:, None]
                outputs[i] = mx.where(inside, after[0], 0)
                state = tuple(mx.where(inside, a, s) for a, s in zip(after, state, strict=True))
            else:
                outputs[i], state = after[0], after
        return mx.stack(outputs), state

    def _parts(self) -> list[list[Weights]]:
        if "layers" not in self:
            return [[self]]
        return [
            list(p.values()) if isinstance(p, dict) and self._both else [p] for p in self.layers
        ]

    def _zeros(self, batch: int, dtype: mx.Dtype) -> State:
        count = self._depth * (2 if self._both else 1)
        first = mx.zeros((count, batch, self._projection or self._hidden), dtype)
        return (first, mx.zeros((count, batch, self._hidden), dtype))[: self._states]

    def _forward(self, x: Any, initial: State | None, lengths: mx.array | None):
        if isinstance(x, PackedSequence):
            return over_padded(partial(self._stacked, like=x), x, initial)
        if x.ndim == 3 and self._batch_first:
            y, final = self._stacked(x.swapaxes(0, 1), initial, lengths)
            return y.swapaxes(0, 1), final
        return self._stacked(x, initial, lengths)

    def _stacked(
        self,
        x: mx.array,
        initial: State | None,
        lengths: mx.array | None,
        like: PackedSequence | None = None,
    ):
        """All layers over x (L, B, D) or (L, D), padded where it comes from packed sequences."""
        single = x.ndim == 2
        if single:
            x = x[:, None]
            initial = initial and tuple(s[:, None] for s in initial)
        initial = initial or self._zeros(x.shape[1], x.dtype)
        last: list[State] = []
        for depth, parts in enumerate(self._parts()):
            if depth and self._dropout and self.training:
                x = on_items(partial(dropout, p=self._dropout, training=True), x, like)
            results = []
            for part, backward in zip(parts, (False, True), strict=False):
                y, state = self._run(
                    part, x, tuple(s[len(last)] for s in initial), backward, lengths
                )
                results.append(y)
                last.append(state)
            x = mx.concatenate(results, axis=-1) if len(results) > 1 else results[0]
        final = tuple(mx.stack(list(states)) for states in zip(*last, strict=True))
        if single:
            return x[:, 0], tuple(s[:, 0] for s in final)
        return x, final


class RNN(_Recurrent):
    """torch.nn.RNN: x (L, B, D) or (B, L, D) or (L, D), h (layers, B, H) -> output, h_n."""

    _names = ("Wxh", "Whh")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        both_biases: bool = False,
    ) -> None:
        options = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, both_biases=both_biases)
        if nonlinearity not in _ACTIVATIONS:
            raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        self._nonlinearity = nonlinearity

    def _step(self, weights: Weights, gates: mx.array, state: State) -> State:
        activation = _ACTIVATIONS[self._nonlinearity]
        return (activation(gates + state[0] @ weights["Whh"].T),)

    def __call__(
        self, x: mx.array, h: mx.array | None = None, lengths: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        y, (last,) = self._forward(x, None if h is None else (h,), lengths)
        return y, last


class LSTM(_Recurrent):
    """torch.nn.LSTM: x, (h, c) -> output, (h_n, c_n); with proj_size, h has that size."""

    _gates, _states = 4, 2

    def _step(self, weights: Weights, gates: mx.array, state: State) -> State:
        h, c = state
        i, f, g, o = mx.split(gates + h @ weights["Wh"].T, 4, axis=-1)
        c = mx.sigmoid(f) * c + mx.sigmoid(i) * mx.tanh(g)
        h = mx.sigmoid(o) * mx.tanh(c)
        return (h @ weights["Wr"].T if "Wr" in weights else h), c

    def __call__(
        self, x: mx.array, state: State | None = None, lengths: mx.array | None = None
    ) -> tuple[mx.array, State]:
        return self._forward(x, state, lengths)


class GRU(_Recurrent):
    """torch.nn.GRU: x, h -> output, h_n. `bhn`, inside the reset gate, is a parameter apart."""

    _gates = 3

    def _biases(self, bound: float) -> dict[str, mx.array]:
        return {"b": _uniform(bound, 3 * self._hidden), "bhn": _uniform(bound, self._hidden)}

    def _inputs(self, weights: Weights, x: mx.array) -> mx.array:
        y = x @ weights["Wx"].T
        bias = next((name for name in ("b", "bias_ih") if name in weights), None)
        return y + weights[bias] if bias else y

    def _step(self, weights: Weights, gates: mx.array, state: State) -> State:
        (h,) = state
        xr, xz, xn = mx.split(gates, 3, axis=-1)
        hidden = h @ weights["Wh"].T
        if "bias_hh" in weights:
            hidden = hidden + weights["bias_hh"]
        hr, hz, hn = mx.split(hidden, 3, axis=-1)
        if "bhn" in weights:
            hn = hn + weights["bhn"]
        z = mx.sigmoid(xz + hz)
        n = mx.tanh(xn + mx.sigmoid(xr + hr) * hn)
        return ((1 - z) * n + z * h,)

    def __call__(
        self, x: mx.array, h: mx.array | None = None, lengths: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        y, (last,) = self._forward(x, None if h is None else (h,), lengths)
        return y, last


class _Cell(nn.Module):
    """One step. The weights have the names of a single layer."""

    _kind: type[_Recurrent]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **more: Any) -> None:
        super().__init__()
        layer = self._kind(input_size, hidden_size, bias=bias, **more)
        for name, value in layer.parameters().items():
            self[name] = value
        self._layer_of = (layer,)  # in a tuple: it is no sub-module

    def _next(self, x: mx.array, state: State | None) -> State:
        (layer,) = self._layer_of
        single = x.ndim == 1
        if single:
            x, state = x[None], state and tuple(s[None] for s in state)
        if state is None:
            state = tuple(s[0] for s in layer._zeros(x.shape[0], x.dtype))
        after = layer._step(self, layer._inputs(self, x), state)
        return tuple(s[0] for s in after) if single else after


class RNNCell(_Cell):
    """torch.nn.RNNCell: x (B, D), h (B, H) -> h."""

    _kind = RNN

    def __call__(self, x: mx.array, h: mx.array | None = None) -> mx.array:
        return self._next(x, None if h is None else (h,))[0]


class LSTMCell(_Cell):
    """torch.nn.LSTMCell: x (B, D), (h, c) -> (h, c)."""

    _kind = LSTM

    def __call__(self, x: mx.array, state: State | None = None) -> State:
        return self._next(x, state)


class GRUCell(_Cell):
    """torch.nn.GRUCell: x (B, D), h (B, H) -> h."""

    _kind = GRU

    def __call__(self, x: mx.array, h: mx.array | None = None) -> mx.array:
        return self._next(x, None if h is None else (h,))[0]


LAYERS = (RNN, LSTM, GRU)
CELLS = (RNNCell, LSTMCell, GRUCell)
