"""What a forward assigns, while it is traced: torch.export does not see `x.data`, and forgets new
tensors in place of buffers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from torch2mlx.export.capture.patched import replaced

#: What torch.export notes its model's buffers with.
_HOOK = "register_buffer_assignment_hook"


@contextmanager
def traced_data() -> Iterator[None]:
    """While open, `x.data` of a tensor that is being traced is `x.detach()`, which shows the same
    memory, of a constant of the program too, whose values torch.export would lose. An assignment
    to it leaves the operator `_has_compatible_shallow_copy_type` in the program, by which the
    lowering knows it. Raises RuntimeError for one to a tensor that the model does not register:
    it would keep a tensor without values."""
    import torch
    from torch.fx.experimental import proxy_tensor

    kind: Any = torch.Tensor
    original: Any = torch._C.TensorBase.data

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
    kind.data = property(read, write)
    try:
        yield
    finally:
        if own is None:
            del kind.data
        else:
            kind.data = own


@contextmanager
def assigned_buffers(model: Any) -> Iterator[None]:
    """While open, a buffer that a forward gives a new tensor (`self.norm.u = u`) gets its values
    when the forward ends, so that the next call reads them. Buffers that the model itself has only
    since its forward ran are taken away again. torch.export's own way, which is for buffers of the
    model itself alone, counts their places wrongly where one is None or new, and writes to others.

    Raises RuntimeError for a buffer of another shape or dtype, or of a module that is held at
    several places, and for a parameter.
    """
    from torch.nn.modules import module as hooks

    held = [(id(part), path) for path, part in model.named_modules(remove_duplicate=False)]
    own, places = dict(reversed(held)), Counter(part for part, _ in held)
    first: dict[tuple[int, str], tuple[Any, Any]] = {}
    before_all = dict(model._buffers)

    def noted(part: Any, name: str, value: Any) -> None:
        before = part._buffers.get(name)
        if id(part) in own and before is not None and value is not None and _is_traced(value):
            _refuse_another(f"{own[id(part)]}.{name}".lstrip("."), before, value, places[id(part)])
            first.setdefault((id(part), name), (part, before))

    def refused(part: Any, name: str, value: Any) -> None:
        if part._parameters.get(name) is not None and value is not None and _is_traced(value):
            where = f"{own.get(id(part), '')}.{name}".lstrip(".")
            raise RuntimeError(f"the forward gives {where} another parameter: write to its data")

    def ended(*_: Any) -> None:
        for (_of, name), (part, before) in first.items():
            before.copy_(part._buffers[name].detach())
        first.clear()
        _forget_new(model, before_all)

    handles = (
        hooks.register_module_buffer_registration_hook(noted),
        hooks.register_module_parameter_registration_hook(refused),
        model.register_forward_hook(ended),
    )
    try:
        with _instead_of_torchs():
            yield
    finally:
        for handle in handles:
            handle.remove()
    if first:
        raise RuntimeError("the forward gives buffers new tensors, and its class has no forward")


def _forget_new(model: Any, before: dict[str, Any]) -> None:
    for name, value in list(model._buffers.items()):
        if _is_traced(value) and name not in before:
            del model._buffers[name]
        elif _is_traced(value) and before[name] is None:
            model._buffers[name] = None


@contextmanager
def _instead_of_torchs() -> Iterator[None]:
    """While open, torch.export does not see what the model assigns to its own buffers."""
    from torch.export import _trace

    with replaced(_trace, _HOOK, lambda *_: SimpleNamespace(remove=lambda: None)):
        yield


def _is_traced(value: Any) -> bool:
    import torch
    from torch._subclasses.functional_tensor import FunctionalTensor

    return isinstance(value, (torch._subclasses.FakeTensor, FunctionalTensor))


def _refuse_another(name: str, before: Any, value: Any, places: int) -> None:
    if places > 1:
        raise RuntimeError(
            f"the forward gives the buffer {name} a new tensor, and its module is held at {places} "
            f"places: write to it with {name.rpartition('.')[2]}.copy_(...)"
        )
    if value.shape != before.shape or value.dtype != before.dtype:
        kinds = (f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (value, before))
        raise RuntimeError(f"the forward gives the buffer {name} {' instead of '.join(kinds)}")
