"""`x.data` while a model is traced: torch.export does not see it, and keeps what was read there as
a constant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def traced_data() -> Iterator[None]:
    """While open, `x.data` of a tensor that is being traced is `x.detach()`, which shows the same
    memory, of a constant of the program too, whose values torch.export would lose. An assignment
    to it leaves the operator `_has_compatible_shallow_copy_type` in the program, by which the
    lowering knows it. Raises RuntimeError for one to a tensor that the model does not register:
    it would keep a tensor without values."""
    import torch
    from torch.fx.experimental import proxy_tensor

    original = torch._C.TensorBase.data

    def read(tensor: Any) -> Any:
        if proxy_tensor.get_proxy_mode() is None:
            return original.__get__(tensor)
        traced = isinstance(tensor, torch._subclasses.FakeTensor) or type(tensor) is torch.Tensor
        return tensor.detach() if traced else original.__get__(tensor)

    def write(tensor: Any, value: Any) -> None:
        if type(tensor) is torch.Tensor and isinstance(value, torch._subclasses.FakeTensor):
            raise RuntimeError(
                "the forward assigns to the data of a tensor that is neither parameter nor buffer, "
                "which would be lost: register_buffer it"
            )
        original.__set__(tensor, value)

    own = vars(torch.Tensor).get("data")
    torch.Tensor.data = property(read, write)
    try:
        yield
    finally:
        if own is None:
            del torch.Tensor.data
        else:
            torch.Tensor.data = own
