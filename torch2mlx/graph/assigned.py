"""`x.data` while a model is traced: torch.export does not see it, and keeps what was read there as
a constant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def traced_data() -> Iterator[None]:
    """While open, `x.data` of a tensor that is being traced is `x.detach()`, which shows the same
    memory. An assignment to it leaves the operator `_has_compatible_shallow_copy_type` in the
    program, by which the lowering knows it."""
    import torch
    from torch.fx.experimental import proxy_tensor

    original = torch._C.TensorBase.data

    def read(tensor: Any) -> Any:
        fake = isinstance(tensor, torch._subclasses.FakeTensor)
        if fake and proxy_tensor.get_proxy_mode() is not None:
            return tensor.detach()
        return original.__get__(tensor)

    own = vars(torch.Tensor).get("data")
    torch.Tensor.data = property(read, lambda tensor, value: original.__set__(tensor, value))
    try:
        yield
    finally:
        if own is None:
            del torch.Tensor.data
        else:
            torch.Tensor.data = own
