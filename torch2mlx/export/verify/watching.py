"""The operators that a torch model calls, watched as they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.capture.source_lines import calling_line


@dataclass(frozen=True)
class Operator:
    """An operator as it is called: `name` without namespace, and without the underscore of those
    that write in place."""

    called: Any
    name: str

    @property
    def place(self) -> str:
        """The name with the line of the model that is running now."""
        line = calling_line()
        return f"{self.name} ({line})" if line else self.name


#: What is told of a call: the operator, its args and kwargs, and its result.
Note = Callable[[Operator, Any, Any, Any], None]


@contextmanager
def watched(note: Note) -> Iterator[None]:
    """While open, `note` is told of every operator after it has run."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    nested: list[Any] = []

    class Watching(TorchDispatchMode):
        supports_higher_order_operators = True

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if isinstance(func, torch._ops.HigherOrderOperator):
                nested.append(func)
            if func is torch.ops.higher_order.cond:  # what a branch calls is seen too
                truth, *branches, operands = args
                with self:
                    return branches[not bool(truth)](*operands)
            result = func(*args, **(kwargs or {}))
            note(Operator(func, _name(func)), args, kwargs or {}, result)
            return result

    mode: type[Any] = Watching
    try:
        with mode():
            yield
    finally:
        if nested:  # what dynamo has compiled of a branch meanwhile does not run without the mode
            torch._dynamo.reset()


def _name(func: Any) -> str:
    """The short name; that of a higher-order operator is a method."""
    name = getattr(func, "_schema", func).name
    return str(name() if callable(name) else name).split("::")[-1].removesuffix("_")
