"""Control flow that arrays decide: torch.cond, while_loop, scan and map; gradients of one's own.

Branches are taken in Python, so that only one is computed; `mx.compile` cannot trace `cond` and
`while_loop`, whose course depends on values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

Function = Callable[..., Sequence[Any]]


def cond(predicate: Any, true: Function, false: Function, operands: Sequence[Any] = ()) -> Any:
    """`true(*operands)` where the predicate (one truth) holds, `false(*operands)` elsewhere."""
    return (true if bool(predicate) else false)(*operands)


def while_loop(
    condition: Function, body: Function, carried: Sequence[Any], extra: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """`body(*carried, *extra)` gives the next values as long as `condition(*carried, *extra)`
    holds."""
    values = tuple(carried)
    while bool(condition(*values, *extra)[0]):
        values = tuple(body(*values, *extra))
    return values


def scan(
    step: Function, start: Sequence[Any], items: Sequence[Any], extra: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """Carries values along the first axis of `items`.

    `step(*carried, *items[i], *extra)` gives the next carried values and then what is kept of this
    turn; answers with the last carried values, and the kept ones stacked along a new first axis.
    """
    carried, kept = tuple(start), []
    for i in range(items[0].shape[0]):
        found = tuple(step(*carried, *(item[i] for item in items), *extra))
        carried = found[: len(start)]
        kept.append(found[len(start) :])
    return (*carried, *(mx.stack(turns) for turns in zip(*kept, strict=True)))


def map_items(
    function: Function, items: Sequence[Any], extra: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """`function(*items[i], *extra)` for each i of the first axis, results stacked."""
    found = [function(*(x[i] for x in items), *extra) for i in range(items[0].shape[0])]
    return tuple(mx.stack(turns) for turns in zip(*found, strict=True))


def associative_scan(
    combine: Function, items: Sequence[Any], extra: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """Running combinations along the first axis: the first item, combine(first, second), ..."""
    running = [tuple(item[0] for item in items)]
    for i in range(1, items[0].shape[0]):
        running.append(tuple(combine(*running[-1], *(item[i] for item in items), *extra)))
    return tuple(mx.stack(turns) for turns in zip(*running, strict=True))


def with_backward(forward: Function, backward: Function, *arrays: Any) -> tuple[Any, ...]:
    """`forward(*arrays)`, with `backward(*arrays, *cotangents)` for its gradient: one for each
    array."""

    @mx.custom_function
    def call(*given: Any) -> Any:
        return list(forward(*given))

    @call.vjp
    def gradient(primals: Any, cotangents: Any, _: Any) -> Any:
        inputs = primals if isinstance(primals, (list, tuple)) else (primals,)
        several = cotangents if isinstance(cotangents, (list, tuple)) else (cotangents,)
        found = backward(*inputs, *several)
        return list(found) if isinstance(primals, (list, tuple)) else found[0]

    return tuple(call(*arrays))
