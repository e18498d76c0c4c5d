"""What torch has for several processes, and what stands for it over mx.distributed, by full name.

`port` writes it, `op_mapping` (and with it the pages of docs/) shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

_KIT = "kit.distributed."


@dataclass(frozen=True)
class Shared:
    """A name of torch's for several processes.

    `mlx`: what stands for it, "" where nothing does and `note` says why. `returns`: the kind of
    what a call gives. `arguments`: torch's, in order, where one of them is written to: `writes` is
    the tensor that gets what the call in MLX answers, `fills` the list whose tensors are
    overwritten. `dropped`: keywords that mean nothing in MLX. `wraps`: a call answers its first
    argument's kind.
    """

    name: str
    mlx: str = ""
    note: str = ""
    returns: str = "none"
    arguments: tuple[str, ...] = ()
    writes: str = ""
    fills: str = ""
    dropped: tuple[str, ...] = ()
    wraps: bool = False


def _written(name: str, arguments: str, note: str = "") -> Shared:
    """A call that writes to its first argument; `async_op` is nothing, since it has been done."""
    order = tuple(arguments.split())
    full = f"torch.distributed.{name}"
    dropped = ("async_op",)
    return Shared(full, _KIT + name, note, "none", order, order[0], dropped=dropped)


def _filled(name: str, arguments: str, fills: str) -> Shared:
    """A call that overwrites the tensors of a list."""
    order = tuple(arguments.split())
    full = f"torch.distributed.{name}"
    return Shared(full, _KIT + name, "", "none", order, fills=fills, dropped=("async_op",))


_RING = "MLX's ring sends to the next process and the one before it; an error elsewhere"
_PARTS = "MLX's ring knows no groups but that of all processes"
_SPLIT = "parameters are whole on every process: port it with DistributedDataParallel"
_LATER = "calls are made at once in MLX: write send and recv in an order that both sides have"

_CALLS = (
    _written("all_reduce", "tensor op group async_op"),
    _written("reduce", "tensor dst op group async_op"),
    _written("broadcast", "tensor src group async_op"),
    _written("all_gather_into_tensor", "output_tensor input_tensor group async_op"),
    _written("scatter", "tensor scatter_list src group async_op"),
    _written("reduce_scatter", "output input_list op group async_op"),
    _written("reduce_scatter_tensor", "output input op group async_op"),
    _written("all_to_all_single", "output input group", "every process is sent all parts"),
    _written("recv", "tensor src group tag", _RING),
    _filled("all_gather", "tensor_list tensor group async_op", "tensor_list"),
    _filled("gather", "tensor gather_list dst group async_op", "gather_list"),
)
#: Names under torch.distributed -> what they give.
_ASKED = {
    **{name: "none" for name in ("barrier", "send", "all_gather_object", "gather_object")},
    **{name: "none" for name in ("broadcast_object_list", "init_process_group")},
    **{"destroy_process_group": "none", "is_initialized": "bool", "get_backend": "str"},
    **{"get_rank": "int", "get_world_size": "int"},
}
_OTHERS = (
    *(
        Shared(f"torch.distributed.{name}", _KIT + name, "", kind, dropped=("async_op",))
        for name, kind in _ASKED.items()
    ),
    Shared("torch.distributed.monitored_barrier", f"{_KIT}barrier", dropped=("timeout",)),
    Shared("torch.distributed.is_available", "True", returns="bool"),
    *(
        Shared(f"torch.distributed.is_{name}", "False", "MLX chooses its backend", "bool")
        for name in (
            *("nccl_available", "gloo_available", "mpi_available", "ucc_available"),
            "torchelastic_launched",
        )
    ),
    *(
        Shared(f"torch.distributed.ReduceOp.{op}", f"{_KIT}ReduceOp.{op}", returns="op")
        for op in ("SUM", "AVG", "MAX", "MIN", "PRODUCT")
    ),
    Shared("torch.distributed.group.WORLD", "None", "the group of all processes"),
    Shared("torch.distributed.GroupMember.WORLD", "None", "the group of all processes"),
    Shared("torch.distributed.nn.all_gather", f"{_KIT}gathered", returns="list"),
    Shared("torch.distributed.nn.functional.all_gather", f"{_KIT}gathered", returns="list"),
    Shared(
        "torch.nn.parallel.DistributedDataParallel",
        f"{_KIT}DistributedDataParallel",
        "gradients are averaged where they are taken",
        wraps=True,
    ),
    Shared(
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
        f"{_KIT}convert_sync_batchnorm",
        wraps=True,
    ),
    Shared("torch.utils.data.DistributedSampler", f"{_KIT}DistributedSampler", returns="sampler"),
    Shared("torch.multiprocessing.spawn", f"{_KIT}spawn", "processes of this machine, in a ring"),
)
#: Modules -> why nothing of them is there.
_MODULES = {
    "torch.distributed.device_mesh": _PARTS,
    "torch.distributed.fsdp": f"FSDP: {_SPLIT}",
    "torch.distributed._composable": f"FSDP: {_SPLIT}",
    "torch.distributed.tensor": f"tensor parallel: {_SPLIT}",
    "torch.distributed._tensor": f"tensor parallel: {_SPLIT}",
    "torch.distributed.pipelining": f"pipeline parallel: {_SPLIT}",
    "torch.distributed.optim": f"states that are split over processes: {_SPLIT}",
    "torch.distributed.rpc": "calls of functions in other processes",
    "torch.distributed.autograd": "gradients through calls of functions in other processes",
    "torch.distributed.algorithms": "every process takes as many steps: no Join, no hooks",
    "torch.distributed.checkpoint": "save what rank 0 has: torch.save of a state_dict",
    "torch.distributed.nn": "all_gather alone has a gradient over processes",
}
#: Names -> why they are not there.
_REFUSED = {
    "torch.distributed.new_group": _PARTS,
    "torch.distributed.new_subgroups": _PARTS,
    "torch.distributed.split_group": _PARTS,
    "torch.distributed.init_device_mesh": _PARTS,
    "torch.distributed.DeviceMesh": _PARTS,
    "torch.distributed.isend": _LATER,
    "torch.distributed.irecv": _LATER,
    "torch.distributed.P2POp": _LATER,
    "torch.distributed.batch_isend_irecv": _LATER,
    "torch.distributed.all_to_all": "lists of tensors of different shapes: all_to_all_single",
    "torch.distributed.scatter_object_list": "broadcast_object_list, and take your own",
    "torch.distributed.ReduceOp": "sums, averages, maxima, minima and products alone",
    "torch.multiprocessing": "torch.multiprocessing.spawn, or mlx.launch -n 4 script.py",
}
#: Other names of the same.
_SAME = {
    "torch.utils.data.distributed.DistributedSampler": "torch.utils.data.DistributedSampler",
    "torch.nn.parallel.distributed.DistributedDataParallel": (
        "torch.nn.parallel.DistributedDataParallel"
    ),
    "torch.distributed.reduce_op": "torch.distributed.ReduceOp",
    "torch.distributed._all_gather_base": "torch.distributed.all_gather_into_tensor",
    "torch.distributed._reduce_scatter_base": "torch.distributed.reduce_scatter_tensor",
    "torch.distributed.distributed_c10d": "torch.distributed",
}
#: Entries by full name.
SHARED = MappingProxyType({entry.name: entry for entry in (*_CALLS, *_OTHERS)})


def find_shared(full: str) -> Shared | None:
    """The entry of a name for several processes; None for what is none, or is not known."""
    for other, usual in _SAME.items():
        if full == other or full.startswith(f"{other}."):
            full = usual + full[len(other) :]
    if full in SHARED:
        return SHARED[full]
    for start, why in (*_REFUSED.items(), *_MODULES.items()):
        if full == start or full.startswith(f"{start}."):
            return Shared(full, "", why)
    return None


def shown() -> Iterator[tuple[str, str, str]]:
    """(name, what stands for it in full, note) of everything here, without values and switches."""
    for entry in SHARED.values():
        if entry.mlx.startswith(_KIT):
            yield entry.name, f"torch2mlx.{entry.mlx}", entry.note
    for name, why in _REFUSED.items():
        if not any(entry.startswith(name) for entry in SHARED):
            yield name, "", why
