"""Models that are run to be looked at: afterwards they, and the random streams, are as before."""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from torch2mlx.export.capture.empty_weights import stands_in
from torch2mlx.export.verify.outside import Outside

#: Parameters are kept as copies up to this many bytes in all; buffers always are.
KEPT_BYTES = 1 << 30
#: Objects that are looked into for tensors, lists and numbers that a forward may change.
MAX_OBJECTS = 100_000
_OURS = ("torch", "numpy", "mlx", "torch2mlx", "builtins", "logging", "threading")


@contextmanager
def preserved(model: Any) -> Iterator[None]:
    """On leaving, also by an exception, a torch model's tensors, modes and attributes, what its
    code keeps in files, functions and classes, torch's modes, and the random streams of torch,
    numpy, Python and MLX are what they were on entering.

    Tensors keep their memory; only what was written to is written back. While open, modules within
    that torch.compile made are what they were made of.
    """
    undo = [random_states(), *_torch_modes(), *_state(model), *_outside(model)]
    undo += [_uncompiled(part) for part in list(model.modules())]
    try:
        yield
    finally:
        for back in undo:
            back()


def _uncompiled(part: Any) -> Callable[[], None]:
    """Puts modules in place of compiled ones among a module's own; gives what puts these back."""
    compiled = {n: m for n, m in part._modules.items() if _is_compiled(m)}
    part._modules.update({name: module._orig_mod for name, module in compiled.items()})
    return lambda: part._modules.update(compiled)


def _is_compiled(module: Any) -> bool:
    return type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")


def random_states() -> Callable[[], None]:
    """What sets the random streams back to where they are now."""
    import mlx.core as mx
    import torch

    ours, theirs, numpys = random.getstate(), torch.get_rng_state(), np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    mlx = mlx_state()

    def back() -> None:
        random.setstate(ours)
        np.random.set_state(numpys)
        torch.set_rng_state(theirs)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        mx.random.seed(mlx)

    return back


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, all streams of random numbers start at a seed; afterwards they are as before."""
    import torch

    back = random_states()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        back()


def registered(model: Any) -> list[Callable[[], None]]:
    """What brings a model's parameters and buffers, and the random streams, back to where they are
    now; what else hangs on the model stays as it is."""
    undo = [random_states()]
    for module in model.modules():
        undo += [_container(module._parameters), _container(module._buffers)]
    for tensor in (*model.parameters(), *model.buffers()):
        undo += _tensor(tensor)
    return undo


class Streams:
    """The random streams that a torch model may draw from, to see which of them moved on."""

    def __init__(self, model: Any) -> None:
        self._own = _sources(model)
        self._before = self._now()

    def _now(self) -> dict[str, Any]:
        import torch

        own = [torch.get_rng_state(), *(g.get_state() for g in self._own)]
        return {
            "torch": [state.numpy().tobytes() for state in own],
            "numpy": pickle.dumps(np.random.get_state()),
            "Python": random.getstate(),
        }

    def moved(self) -> frozenset[str]:
        """Which of "torch", "numpy" and "Python" were drawn from since."""
        now = self._now()
        return frozenset(name for name, state in self._before.items() if now[name] != state)


def _sources(model: Any) -> list[Any]:
    """Random generators that a model holds."""
    import torch

    return [v for v in _reachable(model) if isinstance(v, torch.Generator)]


def mlx_state() -> int:
    """MLX's random state as the seed that gives it."""
    import mlx.core as mx

    state: Any = mx.random.state
    high, low = (int(v) for v in state[0].tolist())
    return high << 32 | low


def _torch_modes() -> Iterator[Callable[[], None]]:
    import torch

    graded, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    yield _later(torch.set_grad_enabled, graded)
    yield _later(torch.set_default_dtype, dtype)


def _state(model: Any) -> Iterator[Callable[[], None]]:
    """What brings back each container and each tensor that hangs on the model."""
    import torch

    left = KEPT_BYTES
    for value in _reachable(model):
        if isinstance(value, torch.Tensor):
            if isinstance(value, torch.nn.Parameter):
                left -= value.numel() * value.element_size()
            if left >= 0 or not isinstance(value, torch.nn.Parameter):
                yield from _tensor(value)
        elif isinstance(value, torch.Generator):
            yield _later(value.set_state, value.get_state())
        elif isinstance(value, np.random.Generator):
            yield _later(setattr, value.bit_generator, "state", value.bit_generator.state)
        elif isinstance(value, (random.Random, np.random.RandomState)):
            word = "state" if isinstance(value, random.Random) else "_state"
            yield _later(getattr(value, f"set{word}"), getattr(value, f"get{word}")())
        else:
            yield _container(value)


def _outside(model: Any) -> Iterator[Callable[[], None]]:
    """What brings back what the model's code can reach outside of its modules."""
    outside = Outside(model)
    for _, value in outside.containers:
        yield _container(value)
    for _, value in outside.tensors:
        yield from _tensor(value)
    yield from outside.undo()


def _later(call: Any, *args: Any) -> Callable[[], None]:
    return lambda: call(*args)


def _reachable(model: Any) -> Iterator[Any]:
    """Tensors, containers and sources of random numbers under a model, each once."""
    import torch

    leaves = (torch.Tensor, torch.Generator, np.random.Generator, np.random.RandomState)
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting and len(seen) < MAX_OBJECTS:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (*leaves, random.Random)):
            yield value
        elif isinstance(value, (dict, list, set, deque)):
            yield value
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, (tuple, frozenset)):
            waiting += value
        elif _has_state(value, torch):
            waiting.append(vars(value))


def _has_state(value: Any, torch: Any) -> bool:
    if isinstance(value, torch.nn.Module):
        return True
    if isinstance(value, type) or callable(value):
        return False
    return hasattr(value, "__dict__") and type(value).__module__.split(".")[0] not in _OURS


def _container(value: Any) -> Callable[[], None]:
    """Puts back what a dict, list, set or deque held, where it holds something else."""
    keyed = isinstance(value, dict)
    held = list(value.items()) if keyed else list(value)

    def same() -> bool:
        if len(value) != len(held):
            return False
        if not keyed:
            return all(a is b for a, b in zip(value, held, strict=True))
        pairs = zip(value.items(), held, strict=True)
        return all(a[0] is b[0] and a[1] is b[1] for a, b in pairs)

    def back() -> None:
        if same():
            return
        value.clear()
        (value.update if keyed or isinstance(value, set) else value.extend)(held)

    return back


def _tensor(tensor: Any) -> Iterator[Callable[[], None]]:
    import torch

    if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta or _wraps(tensor):
        return
    if stands_in(tensor):  # nobody reads it: a copy would take the memory that it does not
        return
    plain = tensor if type(tensor) is torch.Tensor else tensor.as_subclass(torch.Tensor)
    with torch.no_grad():
        memory, values = plain.detach(), plain.detach().clone()
    layout = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
    asked, grad = tensor.requires_grad, tensor.grad if tensor.is_leaf else None

    def back() -> None:
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            if (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) != layout:
                tensor.data = memory
            if not torch.equal(memory, values):
                memory.copy_(values)
        if tensor.is_leaf and tensor.requires_grad != asked:
            tensor.requires_grad_(asked)
        if tensor.is_leaf and tensor.grad is not grad:
            tensor.grad = grad

    yield back


def _wraps(tensor: Any) -> bool:
    """Whether a tensor is a wrapper around others, without memory of its own."""
    import torch

    plain = tensor.layout == torch.strided and not tensor.is_quantized
    return not plain or hasattr(tensor, "__tensor_flatten__")


@contextmanager
def preserved_stream() -> Iterator[None]:
    """On leaving, MLX's random stream is as before."""
    import mlx.core as mx

    seed = mlx_state()
    try:
        yield
    finally:
        mx.random.seed(seed)


@contextmanager
def preserved_twin(module: Any) -> Iterator[None]:
    """On leaving, an MLX module's arrays and attributes, and MLX's random stream, are as before."""
    kept = [(one, dict(one), dict(vars(one))) for _, one in module.named_modules()]
    undo = [back for one, items, _ in kept for back in _held(items.values())]
    try:
        with preserved_stream():
            yield
    finally:
        for back in undo:
            back()
        for one, items, attributes in kept:
            dict.clear(one)
            dict.update(one, items)
            vars(one).clear()
            vars(one).update(attributes)


def _held(values: Iterable[Any]) -> Iterator[Callable[[], None]]:
    """What puts back the lists and dicts among values that modules hold, and those within."""
    import mlx.nn

    for value in values:
        if isinstance(value, (list, dict)) and not isinstance(value, mlx.nn.Module):
            yield _container(value)
            yield from _held(value.values() if isinstance(value, dict) else value)
