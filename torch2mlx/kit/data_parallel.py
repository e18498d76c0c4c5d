"""DistributedDataParallel: one model on several processes, whose gradients are averaged."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from torch2mlx.kit.collectives import ReduceOp, broadcast, reduced
from torch2mlx.kit.norm import BatchNorm
from torch2mlx.kit.processes import joined, whole
from torch2mlx.kit.stubs import custom_function, tree_flatten
from torch2mlx.kit.training import held

Named = list[tuple[str, mx.array]]
#: Where a module has the gradients of its own parameters that were taken within `no_sync`.
_APART = "_gradients_apart"


class DistributedDataParallel(nn.Module):
    """torch.nn.parallel.DistributedDataParallel: the same calls, `module` within.

    Parameters and buffers start as those of rank 0; buffers are those of rank 0 again in each
    forward pass after one that trained. Gradients are averaged over the processes as a gradient of
    a call of this module is taken, wherever that is: what `nn.value_and_grad` answers, for the
    wrapper or what is in it, is the average. Arguments about devices, buckets and unused parameters
    are taken and ignored: a parameter that a process does not use adds zeros.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool | None = True,
        init_sync: bool = True,
        process_group: Any = None,
        **ignored: Any,
    ) -> None:
        super().__init__()
        whole(process_group)
        self.module = module
        self.forward_sync_buffers = broadcast_buffers is not False
        self.require_backward_grad_sync = True
        self.require_forward_param_sync = True
        if joined() is not None and init_sync:
            self._check()
            _shared(module, tree_flatten(module.parameters()))

    def _check(self) -> None:
        """Raises RuntimeError where the processes hold parameters of other names or shapes."""
        leaves = tree_flatten(self.module.parameters())
        text = " ".join(f"{name}{array.shape}{array.dtype}" for name, array in leaves)
        mark = mx.array(zlib.crc32(text.encode()), mx.int64)
        if mx.any(reduced(mark, ReduceOp.MAX) != reduced(mark, ReduceOp.MIN)):
            raise RuntimeError("the processes have models with other parameters or shapes")

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Gradients of forward passes in here stay this process's until the next one outside."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def join(self, *args: Any, **options: Any) -> Any:
        """Not there: every process needs as many batches as the others."""
        raise NotImplementedError(
            "DistributedDataParallel.join: give every process as many batches (DistributedSampler)"
        )

    def register_comm_hook(self, *args: Any, **options: Any) -> Any:
        """Not there: gradients are averaged."""
        raise NotImplementedError("DistributedDataParallel.register_comm_hook: gradients are means")

    def __call__(self, *args: Any, **options: Any) -> Any:
        if joined() is None:
            return self.module(*args, **options)
        if self.forward_sync_buffers and self.require_forward_param_sync:
            _shared(self.module, _buffers(self.module))
        self.require_forward_param_sync = self.training and self.require_backward_grad_sync
        before: Named = tree_flatten(self.module.trainable_parameters())
        if not before:
            return self.module(*args, **options)
        names = [name for name, _ in before]
        found = self._averaging(names)(*(array for _, array in before))
        self.module.update(tree_unflatten(list(zip(names, found, strict=True))))
        try:
            return self.module(*args, **options)
        finally:
            self.module.update(tree_unflatten(before))

    def _averaging(self, names: list[str]) -> Any:
        """A function that answers its arrays, and whose gradients are averaged."""
        apart = not self.require_backward_grad_sync

        @custom_function
        def same(*arrays: mx.array) -> tuple[mx.array, ...]:
            return arrays

        @same.vjp
        def _average(primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
            given = [cotangents] if isinstance(cotangents, mx.array) else list(cotangents)
            kept = [self._kept(name) for name in names]
            sums = [g if k is None else g + k for g, k in zip(given, kept, strict=True)]
            if apart:
                self._keep(names, sums)
                return given
            means = nn.average_gradients(sums, joined())
            mx.eval(means)  # at once, so that processes that compute in another order still meet
            self._keep(names, None)
            # who adds gradients up has this process's part of those that were kept apart
            return [m if k is None else m - k for m, k in zip(means, kept, strict=True)]

        return same

    def _kept(self, name: str) -> mx.array | None:
        """The gradient of a parameter that was taken within `no_sync`, if any."""
        owner, key = self._place(name)
        found: dict[str, mx.array] = owner.__dict__.get(_APART, {})
        return found.get(key)

    def _keep(self, names: list[str], gradients: list[mx.array] | None) -> None:
        """Keeps gradients that the next average takes in; None: there are none."""
        for place, name in enumerate(names):
            owner, key = self._place(name)
            if gradients is not None:
                owner.__dict__.setdefault(_APART, {})[key] = gradients[place]
            elif _APART in owner.__dict__:
                owner.__dict__[_APART].pop(key, None)

    def _place(self, name: str) -> tuple[nn.Module, str]:
        """The module that holds a parameter, and what is behind it in the name."""
        owner: Any = self.module
        found, rest, parts = owner, name, name.split(".")
        for i, part in enumerate(parts[:-1], 1):
            owner = owner[int(part)] if isinstance(owner, (list, tuple)) else owner[part]
            if isinstance(owner, nn.Module):
                found, rest = owner, ".".join(parts[i:])
        return found, rest


def _buffers(module: nn.Module) -> Named:
    """(name, array) of what a module holds besides parameters."""
    parameters = {name for name, *_ in held(module)}
    return [(n, a) for n, a in tree_flatten(module.parameters()) if n not in parameters]


def _shared(module: nn.Module, arrays: Named) -> None:
    """Sets arrays of a module to those of rank 0."""
    if arrays:
        module.update(tree_unflatten([(name, broadcast(array, 0)) for name, array in arrays]))


def dropped(*modules: nn.Module) -> None:
    """torch's zero_grad, for what `no_sync` keeps apart: forgotten."""
    for module in modules:
        for each in module.modules():
            each.__dict__.pop(_APART, None)


def convert_sync_batchnorm(module: nn.Module, process_group: Any = None) -> nn.Module:
    """torch.nn.SyncBatchNorm.convert_sync_batchnorm: the batch norms of a module take their
    statistics over the batches of all processes. Answers the module."""
    whole(process_group)
    for each in module.modules():
        if isinstance(each, BatchNorm):
            each.synced = True
        elif isinstance(each, nn.BatchNorm):
            raise ValueError("mlx.nn.BatchNorm has no statistics over processes: use the kit's")
    return module
