"""Recurrent layers while a model is traced: torch works out the shapes of an LSTM by running its
loop over time, which fixes the length; they follow from those of the arguments alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def _output(x: Any, state: Any, weights: Any, bidirectional: bool, batch_first: bool) -> Any:
    """The states of all steps: (steps, batch, directions * width), or batch first."""
    import torch

    torch.nn.functional.linear(x, weights[0])  # for what it checks of the width
    torch._check(x.size(0 if batch_first else 1) == state.size(1))
    return x.new_empty(x.size(0), x.size(1), (2 if bidirectional else 1) * state.size(2))


def _lstm(x: Any, hx: Any, params: Any, biases: bool, layers: int, *rest: Any) -> Any:
    _, _, bidirectional, batch_first = rest
    made = _output(x, hx[0], params, bidirectional, batch_first)
    return made, hx[0].new_empty(hx[0].shape), hx[1].new_empty(hx[1].shape)


def _one_state(x: Any, hx: Any, params: Any, biases: bool, layers: int, *rest: Any) -> Any:
    _, _, bidirectional, batch_first = rest
    made = _output(x, hx, params, bidirectional, batch_first)
    return made, hx.new_empty(hx.shape)


def _operators() -> list[tuple[Any, Callable[..., Any]]]:
    import torch

    aten = torch.ops.aten
    single = (aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)
    return [(aten.lstm.input, _lstm), *((operator, _one_state) for operator in single)]


@contextmanager
def shapes_without_steps() -> Iterator[None]:
    """While open, recurrent operators tell their shapes without running their steps."""
    from torch._C import DispatchKey

    key = DispatchKey.CompositeImplicitAutograd
    kept = [(operator, operator.py_kernels.get(key)) for operator, _ in _operators()]
    for operator, shapes in _operators():
        operator.py_kernels[key] = shapes
        operator._dispatch_cache.clear()
    try:
        yield
    finally:
        for operator, kernel in kept:
            operator.py_kernels.pop(key)
            if kernel is not None:
                operator.py_kernels[key] = kernel
            operator._dispatch_cache.clear()
