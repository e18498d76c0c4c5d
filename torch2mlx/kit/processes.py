"""The processes of a run: who they are, how they find each other, and how a script starts them.

A ported script is started by `mlx.launch -n 4 script.py`, which gives each process MLX_RANK and
what its backend needs. Under the names that torchrun uses (RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT) the same is in the environment from the moment the kit
is imported. A script that was started otherwise, with those names, or with a rank and a number of
processes of its own, makes a ring of processes of one machine. Without any of that there is one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any
from urllib.parse import parse_qs, urlparse

import mlx.core as mx

#: Names of this machine.
_HERE = ("127.0.0.1", "localhost", "::1", "")
_LAUNCH = "start it with mlx.launch (--hostfile for several machines)"


class _Run:
    """What this process knows: the group that it joined, None before."""

    group: Any = None


def _hosts() -> list[list[str]]:
    """Addresses of the processes of a ring, as mlx.launch writes them; none of other backends."""
    place = os.environ.get("MLX_HOSTFILE", "")
    if not place:
        return []
    with open(place) as file:
        return json.load(file)


def launched() -> bool:
    """Whether something of MLX started this process as one of several."""
    return "MLX_RANK" in os.environ or int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1


def publish() -> None:
    """Gives what mlx.launch says the names of torchrun, where nothing else has set them."""
    if not launched():
        return
    hosts = _hosts()
    rank = int(os.environ.get("MLX_RANK") or os.environ["OMPI_COMM_WORLD_RANK"])
    machines = [addresses[0].rpartition(":")[0] for addresses in hosts]
    if not machines:  # a backend other than the ring, which alone knows
        machines = ["127.0.0.1"] * mx.distributed.init(strict=True).size()
    here = machines[rank]
    told = {"RANK": rank, "WORLD_SIZE": len(machines), "MASTER_ADDR": machines[0]}
    told |= {"LOCAL_RANK": machines[:rank].count(here), "LOCAL_WORLD_SIZE": machines.count(here)}
    told["MASTER_PORT"] = hosts[0][0].rpartition(":")[2] if hosts else 29500
    for name, value in told.items():
        os.environ.setdefault(name, str(value))
    for name in ("RANK", "WORLD_SIZE"):
        if os.environ[name] != str(told[name]):
            raise RuntimeError(
                f"{name} is {os.environ[name]}, and MLX's launcher says {told[name]}: unset one"
            )


def _asked(init_method: str | None, world_size: int, rank: int) -> tuple[int, int, str, int]:
    """(number of processes, own rank, address, port) as the script says; -1 where it does not."""
    address, port = os.environ.get("MASTER_ADDR", ""), int(os.environ.get("MASTER_PORT", "29500"))
    if init_method and not init_method.startswith("env:"):
        place = urlparse(init_method)
        if place.scheme != "tcp":
            raise ValueError(f"init_method={init_method!r}: only env:// and tcp:// are known")
        said = parse_qs(place.query)
        address, port = place.hostname or "", place.port or port
        world_size = int(said.get("world_size", [world_size])[0])
        rank = int(said.get("rank", [rank])[0])
    world_size = int(os.environ.get("WORLD_SIZE", "-1")) if world_size < 0 else world_size
    rank = int(os.environ.get("RANK", "-1")) if rank < 0 else rank
    return world_size, rank, address, port


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: Any = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    **ignored: Any,
) -> None:
    """Joins the processes of this run. MLX chooses the backend.

    Raises RuntimeError for several processes that have no way to each other, for a rank or a number
    that is not the launcher's, and for a second call; ValueError for a store.
    """
    if _Run.group is not None:
        raise RuntimeError("the process group is there already: destroy_process_group first")
    if store is not None:
        raise ValueError(f"store=: MLX's processes meet by addresses; {_LAUNCH}")
    size, own, address, port = _asked(init_method, world_size, rank)
    if not launched() and size > 1:
        _ring(address, port, own, size)
    group = mx.distributed.init(strict=launched())
    for what, said, found in (("world_size", size, group.size()), ("rank", own, group.rank())):
        if said >= 0 and said != found:
            raise RuntimeError(f"{what} is {said}, and MLX has {found}: {_LAUNCH}")
    _Run.group = group


def _ring(address: str, port: int, rank: int, size: int) -> None:
    """Tells MLX of processes of this machine, from the port behind the given one on."""
    if address not in _HERE and address != socket.gethostname():
        raise RuntimeError(f"{size} processes that meet at {address}: {_LAUNCH}")
    if not 0 <= rank < size:
        raise RuntimeError(f"{size} processes, and no rank of this one: {_LAUNCH}")
    if int(os.environ.get("LOCAL_WORLD_SIZE", size)) != size:
        raise RuntimeError(f"{size} processes on several machines: {_LAUNCH}")
    os.environ |= _ring_of([port + 1 + i for i in range(size)], rank)


def _ring_of(ports: Sequence[int], rank: int) -> dict[str, str]:
    """The environment of one process of a ring on this machine."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump([[f"127.0.0.1:{port}"] for port in ports], file)
    return {"MLX_RANK": str(rank), "MLX_HOSTFILE": file.name}


def destroy_process_group(group: Any = None) -> None:
    """Leaves the group. Another `init_process_group` finds the same processes."""
    whole(group)
    _Run.group = None


def is_initialized() -> bool:
    """Whether the group was joined."""
    return _Run.group is not None


def joined() -> Any:
    """MLX's group; None where there is one process alone.

    Raises RuntimeError where several were started and this one has not joined them.
    """
    if _Run.group is None:
        if launched() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RuntimeError("the process group is not there yet: init_process_group first")
        return None
    return _Run.group if _Run.group.size() > 1 else None


def whole(group: Any) -> None:
    """Raises ValueError for a group that is not that of all processes."""
    if group is not None:
        raise ValueError("group=: MLX's ring knows the group of all processes alone")


def get_rank(group: Any = None) -> int:
    """The number of this process; 0 where it is alone."""
    whole(group)
    found = joined()
    return 0 if found is None else found.rank()


def get_world_size(group: Any = None) -> int:
    """How many processes there are."""
    whole(group)
    found = joined()
    return 1 if found is None else found.size()


def get_backend(group: Any = None) -> str:
    """What the processes talk by: MLX's ring, whichever was asked for."""
    whole(group)
    return "ring"


def spawn(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> Any:
    """torch.multiprocessing.spawn: `fn(rank, *args)` in processes of this machine, which are a ring
    of MLX. Answers them when it does not wait for them.

    Raises ValueError for less than one process (there are no CUDA devices to count), RuntimeError
    where one fails; the others are ended then.
    """
    if nprocs < 1:
        raise ValueError(f"nprocs={nprocs}: say how many processes; MLX counts no CUDA devices")
    context, ports = multiprocessing.get_context("spawn"), _free(nprocs)
    started: list[Any] = []
    for rank in range(nprocs):
        told = _ring_of(ports, rank) if nprocs > 1 else {}
        child: Any = context.Process(target=_child, args=(told, fn, rank, tuple(args)))
        child.daemon = daemon
        child.start()
        started.append(child)
    return _awaited(started) if join else Spawned(started)


def _free(count: int) -> list[int]:
    """Ports of this machine that nothing listens to."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _child(told: dict[str, str], fn: Callable[..., Any], rank: int, args: tuple[Any, ...]) -> None:
    os.environ.update(told)
    fn(rank, *args)


def _awaited(started: list[Any]) -> None:
    """Waits for processes. Raises RuntimeError where one fails, and ends the others."""
    waiting: dict[Any, tuple[int, Any]] = {c.sentinel: (r, c) for r, c in enumerate(started)}
    while waiting:
        for sentinel in wait(list(waiting)):
            rank, child = waiting.pop(sentinel)
            child.join()
            if child.exitcode:
                for other in started:
                    other.terminate()
                raise RuntimeError(f"process {rank} ended with exit code {child.exitcode}")


class Spawned:
    """Processes that `spawn` did not wait for."""

    def __init__(self, processes: list[Any]) -> None:
        self.processes = processes

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all have ended. Raises RuntimeError where one failed."""
        _awaited(self.processes)
        return True


publish()
