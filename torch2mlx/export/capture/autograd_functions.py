"""torch.autograd.Function while a model is traced: each `apply` becomes one operator of the graph.

torch.export would trace the forward alone, and gradients would silently be those of its operators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

NAMESPACE = "torch2mlx_functions"


@dataclass(frozen=True)
class Applied:
    """One use of a Function: the class, its arguments with None for tensors, how many results."""

    kind: Any
    arguments: tuple[Any, ...]
    tensors: tuple[int, ...]
    results: int

    def run(self, tensors: Sequence[Any], context: Any) -> tuple[Any, ...]:
        """The forward on tensors."""
        given = list(self.arguments)
        for place, tensor in zip(self.tensors, tensors, strict=True):
            given[place] = tensor
        if self.kind.setup_context is not _base().setup_context:
            found = self.kind.forward(*given)
            self.kind.setup_context(context, tuple(given), found)
        else:
            found = self.kind.forward(context, *given)
        return found if isinstance(found, tuple) else (found,)


class Context(SimpleNamespace):
    """What a forward leaves for its backward."""

    def __init__(self, count: int) -> None:
        super().__init__(saved_tensors=(), needs_input_grad=(True,) * count)

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    save_for_forward = save_for_backward

    def mark_dirty(self, *tensors: Any) -> None:
        raise NotImplementedError("an autograd.Function that writes to its arguments")

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Cotangents of integers are zeros in any case."""

    def set_materialize_grads(self, value: bool) -> None:
        """Cotangents always are arrays in MLX."""


def _base() -> Any:
    import torch

    return torch.autograd.Function


@contextmanager
def recorded(wanted: bool = True) -> Iterator[dict[str, Applied]]:
    """While open, every `apply` on traced tensors becomes an operator; yields those by name."""
    import torch

    base = _base()
    found: dict[str, Applied] = {}
    original = base.__dict__["apply"]
    library = torch.library.Library(NAMESPACE, "FRAGMENT")

    def apply(kind: Any, *args: Any, **kwargs: Any) -> Any:
        from torch.fx.experimental import proxy_tensor

        tensors = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
        if not wanted or kwargs or not tensors or proxy_tensor.get_proxy_mode() is None:
            return original.__get__(None, kind)(*args, **kwargs)
        return _as_operator(library, found, kind, args, tensors)

    base.apply = classmethod(apply)
    try:
        yield found
    finally:
        base.apply = original


def _as_operator(library: Any, found: Any, kind: Any, args: Any, tensors: list[int]) -> Any:
    import torch
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

    plain = tuple(None if isinstance(a, torch.Tensor) else a for a in args)
    with disable_proxy_modes_tracing(), torch.no_grad():
        trial = Applied(kind, plain, tuple(tensors), 0)
        given = [torch.empty_like(args[i]) for i in tensors]
        results = trial.run(given, Context(len(args)))
    applied = Applied(kind, plain, tuple(tensors), len(results))
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower().strip("_")
    serial = 1
    while hasattr(getattr(torch.ops, NAMESPACE), f"{words}_{serial}"):
        serial += 1
    name = f"{words}_{serial}"
    inputs = ", ".join(f"Tensor x{i}" for i in range(len(tensors)))
    outputs = ", ".join("Tensor" for _ in results)
    library.define(f"{name}({inputs}) -> ({outputs})")

    def fake(*given: Any) -> Any:
        made = applied.run(given, Context(len(args)))
        copies = tuple(torch.empty_like(x) for x in made)
        return copies if len(copies) > 1 else copies[0]

    library.impl(name, fake, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    found[name] = applied
    return getattr(getattr(torch.ops, NAMESPACE), name)(*(args[i] for i in tensors))
