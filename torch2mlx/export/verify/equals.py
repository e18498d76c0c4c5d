"""torch's choices among equal items, which it leaves open: the same with the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Operators that answer values and places -> where the axis is among their arguments.
_CHOOSING = {"aten::topk": 2, "aten::sort": 1, "aten::kthvalue": 2, "aten::median": 1}


@contextmanager
def last_of_equals() -> Iterator[list[str]]:
    """While open, torch's operators that choose or order go through their rows backwards, so that
    of equal items the last ones come first. What is given are the names of those whose answer is
    another one for it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    told: list[str] = []

    class Backwards(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            place = _axis_of(func, args, kwargs)
            plain = func(*args, **kwargs)
            if place is None:
                return plain
            found = _backwards(func, args, kwargs, place)
            if bool((plain[1] != found[1]).any()):
                told.append(func._schema.name.removeprefix("aten::"))
            return found

    mode: type[Any] = Backwards
    with mode():
        yield told


def _axis_of(func: Any, args: Any, kwargs: Any) -> int | None:
    """Along which axis an operator chooses; None for other operators, and for one that is said to
    keep the order of equal items."""
    schema = getattr(func, "_schema", None)
    place = _CHOOSING.get(getattr(schema, "name", ""))
    if schema is None or place is None or "stable" in kwargs or len(schema.returns) != 2:
        return None
    if not args[0].ndim or schema.overload_name.endswith("values"):
        return None
    axis = args[place] if len(args) > place else kwargs.get("dim", -1)
    return int(axis)


def _backwards(func: Any, args: Any, kwargs: Any, axis: int) -> Any:
    x, *more = args
    values, places = func(x.flip(axis), *more, **kwargs)
    return values, x.shape[axis] - 1 - places
