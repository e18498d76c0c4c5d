"""Views that claim more bytes than the file holds: opened freely, written only when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch2mlx import _core
from torch2mlx.common.options import given
from torch2mlx.errors import ConversionError

#: What tensors may claim beyond twice the bytes that are there.
FREE_BYTES = 64 << 20


def _span(tensor: _core.Tensor) -> tuple[int, int]:
    """The addresses of a file's tensor: first, and one behind the last."""
    sizes = list(zip(tensor.shape, tensor.strides, strict=True))
    if not tensor.nbytes:
        return tensor.address, tensor.address
    item = tensor.nbytes
    for size, _ in sizes:
        item //= size
    return tensor.address, tensor.address + item + sum((n - 1) * step for n, step in sizes)


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Bytes that lie in any of the spans."""
    total, end = 0, 0
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def refuse_expanded(tensors: Mapping[str, _core.Tensor | _core.Unresolved], origin: str) -> None:
    """Raises ConversionError where views claim far more bytes than there are.

    Equal views count once, as they are written once. What is within twice the bytes of the file
    and 64 MiB is no matter.
    """
    raw = {key: t.tensor if isinstance(t, _core.Unresolved) else t for key, t in tensors.items()}
    views = {(t.address, t.shape, t.strides, t.dtype): (t, key) for key, t in raw.items()}
    claimed = sum(tensor.nbytes for tensor, _ in views.values())
    if claimed <= FREE_BYTES:
        return
    spans = [_span(tensor) for tensor, _ in views.values()]
    stored = _covered(spans)
    if claimed <= 2 * stored + FREE_BYTES:
        return
    there = [last - first for first, last in spans]
    rows = zip(views.values(), there, strict=True)
    (worst, key), held = max(rows, key=lambda row: row[0][0].nbytes - row[1])
    raise ConversionError(
        f"{origin}: tensor {key!r} claims {worst.nbytes:,} bytes, of which the file stores "
        f"{held:,} (all tensors: {claimed:,} of {stored:,}); save it with .clone(), or "
        f"have it written out with {given('expand', True)}"
    )
