"""Control flow that arrays decide: torch.cond, while_loop, scan and map; gradients of one's own.

Branches are taken in Python, so that only one is computed; `mx.compile` cannot trace `cond` and
`while_loop`, whose course depends on values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import mlx.core as mx

from torch2mlx.kit.stubs import custom_function

Body = Callable[..., Sequence[Any]]


def cond(predicate: Any, true: Body, false: Body, operands: Sequence[Any] = ()) -> Any:
    """`true(*operands)` where the predicate (one truth) holds, `false(*operands)` elsewhere."""
    return (true if bool(predicate) else false)(*operands)


def while_loop(
    condition: Body, body: Body, carried: Sequence[Any], extra: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """`body(*carried, *extra)` gives the next values as long as `condition(*carried, *extra)`
    holds."""
    values = tuple(carried)
    while bool(condition(*values, *extra)[0]):
        values = tuple(body(*values, *extra))
    return values


def scan(
    step: Body, start: Sequence[Any], items: Sequence[Any], extra: Sequence[Any] = ()
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
    return (*carried, *(mx.stack(list(turns)) for turns in zip(*kept, strict=True)))


def map_items(function: Body, items: Sequence[Any], extra: Sequence[Any] = ()) -> tuple[Any, ...]:
    """`function(*items[i], *extra)` for each i of the first axis, results stacked."""
    found = [function(*(x[i] for x in items), *extra) for i in range(items[0].shape[0])]
    return tuple(mx.stack(list(turns)) for turns in zip(*found, strict=True))


def associative_scan(
    combine: Body, items: Sequence[Any], extra: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """Running combinations along the first axis: the first item, combine(first, second), ..."""
    running = [tuple(item[0] for item in items)]
    for i in range(1, items[0].shape[0]):
        running.append(tuple(combine(*running[-1], *(item[i] for item in items), *extra)))
    return tuple(mx.stack(list(turns)) for turns in zip(*running, strict=True))


def with_backward(forward: Body, backward: Body, *arrays: Any) -> tuple[Any, ...]:
    """`forward(*arrays)`, with `backward(*arrays, *cotangents)` for its gradient: one for each
    array."""

    @custom_function
    def call(*given: Any) -> Any:
        return list(forward(*given))

    @call.vjp
    def gradient(primals: Any, cotangents: Any, _: Any) -> Any:
        inputs = primals if isinstance(primals, (list, tuple)) else (primals,)
        several = cotangents if isinstance(cotangents, (list, tuple)) else (cotangents,)
        found = backward(*inputs, *several)
        return list(found) if isinstance(primals, (list, tuple)) else found[0]

    return tuple(call(*arrays))


class Context:
    """What the forward of a `Function` leaves for its backward."""

    def __init__(self, count: int) -> None:
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad = (True,) * count

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps arrays for the backward."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Nothing: integers have no gradient anyway."""

    def set_materialize_grads(self, value: bool) -> None:
        """Nothing: cotangents always are arrays."""


class Function:
    """torch.autograd.Function: static `forward(ctx, ...)` and `backward(ctx, *cotangents)`.

    The backward runs the forward again, for what that leaves in the context.
    """

    forward: ClassVar[Callable[..., Any]]
    backward: ClassVar[Callable[..., Any]]

    @classmethod
    def _run(cls, context: Context, given: Sequence[Any]) -> tuple[Any, ...]:
        if hasattr(cls, "setup_context"):
            found = cls.forward(*given)
            cls.setup_context(context, tuple(given), found)
        else:
            found = cls.forward(context, *given)
        return found if isinstance(found, tuple) else (found,)

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """The forward, with the class's own gradient."""
        places = [i for i, value in enumerate(given) if isinstance(value, mx.array)]

        def filled(arrays: Sequence[Any]) -> list[Any]:
            values = list(given)
            for place, array in zip(places, arrays, strict=True):
                values[place] = array
            return values

        def forward(*arrays: Any) -> tuple[Any, ...]:
            return cls._run(Context(len(given)), filled(arrays))

        def backward(*arrays: Any) -> tuple[Any, ...]:
            context, inputs = Context(len(given)), arrays[: len(places)]
            cls._run(context, filled(inputs))
            found = cls.backward(context, *arrays[len(places) :])
            found = found if isinstance(found, tuple) else (found,)
            pairs = zip(places, inputs, strict=True)
            return tuple(mx.zeros_like(x) if found[i] is None else found[i] for i, x in pairs)

        made = with_backward(forward, backward, *(given[i] for i in places))
        return made if len(made) > 1 else made[0]


def unported(why: str) -> Any:
    """Stands where a call was refused that would run in MLX and do something else."""
    raise NotImplementedError(why)
