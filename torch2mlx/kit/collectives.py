"""What processes tell each other, with torch's arguments: sums, gathers, broadcasts, objects.

Every call is made at once, as in torch: processes that compute at different times (one of them
prints) still meet in the order in which the script calls. With one process each answers what torch
does for one. `group` has to be None, or that of all processes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import mlx.core as mx
import numpy as np

from torch2mlx.kit.processes import get_rank, get_world_size, joined, whole
from torch2mlx.kit.stubs import custom_function
from torch2mlx.kit.training import overwritten


class ReduceOp(Enum):
    """How the arrays of all processes become one."""

    SUM = "sum"
    AVG = "avg"
    MAX = "max"
    MIN = "min"
    PRODUCT = "product"


class Work:
    """What `async_op=True` answers: the call has been made already."""

    def wait(self, timeout: Any = None) -> bool:
        """Nothing is left to wait for."""
        return True

    def is_completed(self) -> bool:
        """Always."""
        return True


#: Unsigned integers by size: copies go through them, so that every bit arrives.
_BITS = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}


def _told(value: mx.array) -> mx.array:
    """An array that all processes have computed, by now."""
    mx.eval(value)
    return value


def reduced(x: mx.array, op: ReduceOp = ReduceOp.SUM) -> mx.array:
    """One array of those of all processes. Raises TypeError for the sum of truths, and for the
    average of whole numbers, which torch's backends do not have."""
    if op in (ReduceOp.SUM, ReduceOp.AVG, ReduceOp.PRODUCT) and x.dtype == mx.bool_:
        raise TypeError(f"{op} of bool: cast it to a number first")
    if op is ReduceOp.AVG and not mx.issubdtype(x.dtype, mx.inexact):
        raise TypeError(f"the average of {x.dtype}: cast it to a float first")
    group = joined()
    if group is None:
        return x
    if op is ReduceOp.PRODUCT:
        return _told(mx.prod(_stacked(x), axis=0))
    if op in (ReduceOp.SUM, ReduceOp.AVG):
        total = mx.distributed.all_sum(x, group=group)
        return _told(total / group.size() if op is ReduceOp.AVG else total)
    plain = x.astype(mx.uint8) if x.dtype == mx.bool_ else x
    chosen = mx.distributed.all_max if op is ReduceOp.MAX else mx.distributed.all_min
    return _told(chosen(plain, group=group).astype(x.dtype))


def _stacked(x: mx.array) -> mx.array:
    """(processes, *shape): the arrays of all, which have one shape; every bit as it was."""
    group = joined()
    if group is None:
        return x[None]
    bits = _bits(x)
    parts = mx.distributed.all_gather(bits[None], group=group)
    return _told(_of_bits(parts, (group.size(), *x.shape), x.dtype))


def _bits(x: mx.array) -> mx.array:
    """(n,): an array as whole numbers of its size."""
    return mx.contiguous(x.reshape(-1)).view(_BITS.get(x.dtype.size, mx.uint32))


def _of_bits(bits: mx.array, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    return mx.contiguous(bits.reshape(-1)).view(dtype).reshape(shape)


def _of_source(x: mx.array, source: int) -> mx.array:
    """The array of one process, on all of them; every bit as it was."""
    group = joined()
    if group is None or x.size == 0:
        return x
    bits = _bits(x) if group.rank() == source else mx.zeros_like(_bits(x))
    return _told(_of_bits(mx.distributed.all_sum(bits, group=group), x.shape, x.dtype))


def _process(given: int, group: Any) -> int:
    """A rank. Raises ValueError for one that no process has, and for other groups."""
    whole(group)
    if not 0 <= given < get_world_size():
        raise ValueError(f"rank {given} of {get_world_size()} processes")
    return given


def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work:
    """Waits for all processes."""
    whole(group)
    reduced(mx.array(1))
    return Work()


def all_reduce(tensor: mx.array, op: ReduceOp = ReduceOp.SUM, group: Any = None) -> mx.array:
    """What `all_reduce` writes to its tensor: one array of those of all processes. Its gradient is
    the tensor's, as torch's autograd knows nothing of the call; so in the next two."""
    whole(group)
    return overwritten(tensor, reduced(mx.stop_gradient(tensor), op))


def reduce(tensor: mx.array, dst: int, op: ReduceOp = ReduceOp.SUM, group: Any = None) -> mx.array:
    """What `reduce` writes to its tensor: the result on `dst`, and elsewhere what was there."""
    found = reduced(mx.stop_gradient(tensor), op)
    return overwritten(tensor, found) if get_rank() == _process(dst, group) else tensor


def broadcast(tensor: mx.array, src: int, group: Any = None) -> mx.array:
    """What `broadcast` writes to its tensor: that of `src`."""
    return overwritten(tensor, _of_source(mx.stop_gradient(tensor), _process(src, group)))


def _fill(places: Sequence[mx.array], values: Sequence[mx.array]) -> None:
    """Writes into arrays of a list, which all of their names see."""
    if len(places) != len(values):
        raise ValueError(f"a list of {len(places)} tensors for {len(values)} processes")
    for place, value in zip(places, values, strict=True):
        if place.shape != value.shape:
            raise ValueError(f"{place.shape} is to hold {value.shape}")
        place[...] = value.astype(place.dtype)


def all_gather(
    tensor_list: Sequence[mx.array], tensor: mx.array, group: Any = None, async_op: bool = False
) -> Work:
    """Fills a list with the tensors of all processes."""
    whole(group)
    _fill(tensor_list, list(_stacked(mx.stop_gradient(tensor))))
    return Work()


def all_gather_into_tensor(
    output_tensor: mx.array, input_tensor: mx.array, group: Any = None
) -> mx.array:
    """What it writes to its first tensor: those of all processes, behind each other or stacked."""
    whole(group)
    return _stacked(mx.stop_gradient(input_tensor)).reshape(output_tensor.shape)


def gather(
    tensor: mx.array,
    gather_list: Sequence[mx.array] | None = None,
    dst: int = 0,
    group: Any = None,
    async_op: bool = False,
) -> Work:
    """Fills the list of `dst` with the tensors of all processes."""
    found = _stacked(mx.stop_gradient(tensor))
    if get_rank() == _process(dst, group):
        if gather_list is None:
            raise ValueError("gather_list is to be given on the process that gathers")
        _fill(gather_list, list(found))
    return Work()


def scatter(
    tensor: mx.array,
    scatter_list: Sequence[mx.array] | None = None,
    src: int = 0,
    group: Any = None,
) -> mx.array:
    """What `scatter` writes to its tensor: this process's of the list of `src`."""
    size, here = get_world_size(), get_rank()
    parts = mx.zeros((size, *tensor.shape), tensor.dtype)
    if here == _process(src, group):
        if scatter_list is None or len(scatter_list) != size:
            raise ValueError(f"scatter_list is to have {size} tensors on the process that has it")
        parts = mx.stack(list(scatter_list)).astype(tensor.dtype)
    return _of_source(mx.stop_gradient(parts), src)[here]


def reduce_scatter(
    output: mx.array, input_list: Sequence[mx.array], op: ReduceOp = ReduceOp.SUM, group: Any = None
) -> mx.array:
    """What it writes to its first tensor: this process's place of the lists, all put together."""
    return reduce_scatter_tensor(output, mx.stack(list(input_list)), op, group)


def reduce_scatter_tensor(
    output: mx.array, input: mx.array, op: ReduceOp = ReduceOp.SUM, group: Any = None
) -> mx.array:
    """What it writes to its first tensor: this process's part of the second ones, put together."""
    whole(group)
    found = reduced(mx.stop_gradient(input), op)
    return found.reshape(get_world_size(), *output.shape)[get_rank()]


def all_to_all_single(output: mx.array, input: mx.array, group: Any = None) -> mx.array:
    """What it writes to its first tensor: this process's part of the second one of each. Every
    process is sent all of them."""
    whole(group)
    size = get_world_size()
    parts = _stacked(mx.stop_gradient(input))
    return parts.reshape(size, size, -1)[:, get_rank()].reshape(output.shape)


def _neighbour(other: int, group: Any) -> Any:
    """MLX's group. Raises RuntimeError for a process that the ring does not join to this one."""
    _process(other, group)
    found = joined()
    if found is None or other == found.rank():
        raise ValueError(f"rank {other}: a process does not send to itself")
    if (other - found.rank()) % found.size() not in (1, found.size() - 1):
        raise RuntimeError(
            f"rank {found.rank()} and rank {other} are no neighbours: MLX's ring sends to the next "
            "process alone; use broadcast or all_gather"
        )
    return found


def send(tensor: mx.array, dst: int, group: Any = None, tag: int = 0) -> None:
    """Sends an array to a neighbour in the ring."""
    found = _neighbour(dst, group)
    _told(mx.distributed.send(mx.stop_gradient(tensor), dst, group=found))


def recv(tensor: mx.array, src: int, group: Any = None, tag: int = 0) -> mx.array:
    """What `recv` writes to its tensor: what a neighbour in the ring sends."""
    return _told(mx.distributed.recv_like(tensor, src, group=_neighbour(src, group)))


def _objects(value: Any) -> list[Any]:
    """The values of all processes, pickled on the way: these trust each other, as in torch."""
    data = pickle.dumps(value)
    sizes: Any = _stacked(mx.array(len(data))).tolist()
    room = data + bytes(max(sizes) - len(data))
    parts = _stacked(mx.array(np.frombuffer(room, np.uint8)))
    return [pickle.loads(np.asarray(p).tobytes()[:n]) for p, n in zip(parts, sizes, strict=True)]


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Fills a list with values of all processes, of any kind that can be pickled."""
    whole(group)
    object_list[:] = _objects(obj)


def gather_object(
    obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Any = None
) -> None:
    """Fills the list of `dst` with values of all processes."""
    found = _objects(obj)
    if get_rank() == _process(dst, group):
        if object_gather_list is None:
            raise ValueError("object_gather_list is to be given on the process that gathers")
        object_gather_list[:] = found


def broadcast_object_list(
    object_list: list[Any], src: int = 0, group: Any = None, device: Any = None
) -> None:
    """Fills a list with that of `src`."""
    here = get_rank() == _process(src, group)
    object_list[:] = _objects(list(object_list) if here else None)[src]


def _differentiable(call: Callable[[mx.array], mx.array], back: Any) -> Callable[..., mx.array]:
    """A call whose gradient is another call, of the gradients of all processes."""

    @custom_function
    def made(x: mx.array) -> mx.array:
        return call(x)

    @made.vjp
    def _gradient(primals: Any, cotangent: mx.array, output: Any) -> mx.array:
        return back(cotangent)

    return made


def total(x: mx.array) -> mx.array:
    """The sum over all processes; its gradient is the sum of their gradients."""
    return _differentiable(reduced, reduced)(x) if joined() is not None else x


def gathered(x: mx.array) -> tuple[mx.array, ...]:
    """torch.distributed.nn.all_gather: the arrays of all processes; the gradient of each is the sum
    of what they have for it."""
    if joined() is None:
        return (x,)
    here = get_rank()
    return tuple(_differentiable(_stacked, lambda cotangent: reduced(cotangent)[here])(x))
