"""What torch's tracers say of themselves while they are at work."""

from __future__ import annotations

from typing import Any


def tracer() -> Any:
    """The tracer that writes a program; None where none does."""
    from torch.fx.experimental import proxy_tensor

    mode = proxy_tensor.get_proxy_mode()
    return None if mode is None else mode.tracer


def node_of(tensor: Any) -> Any:
    """The program's node of a tensor that is being traced; None when it has none."""
    import torch
    from torch.fx.experimental import proxy_tensor

    at_work = tracer()
    if at_work is None:
        return None
    if isinstance(tensor, torch._subclasses.functional_tensor.FunctionalTensor):
        tensor = torch._from_functional_tensor(tensor.elem)
    slot = proxy_tensor.get_proxy_slot(tensor, at_work, None)
    return getattr(getattr(slot, "proxy", slot), "node", None)


def in_branch() -> bool:
    """Whether dynamo traces a branch or the body of a loop, which may have no side effects."""
    import torch

    return bool(torch.compiler.is_dynamo_compiling())
