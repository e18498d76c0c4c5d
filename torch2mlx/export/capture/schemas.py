"""What an operator's schema says: which argument it writes to, whether its result shows another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.export.ir.provenance import hints


def name_of(target: Any) -> str:
    """ "namespace::name" of an operator."""
    return str(target._schema.name)


def flat(value: Any) -> list[Any]:
    """A value as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def aliases(target: Any) -> bool:
    """Whether the result may share the memory of the first argument."""
    returns = target._schema.returns
    return bool(returns) and any(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )


def shows(node: Any, target: Any) -> bool:
    """Whether a graph node may show its first argument's memory."""
    return aliases(target) and bool(node.args) and hasattr(node.args[0], "users")


def assigns(target: Any) -> bool:
    """Whether an operator is what is left of `x.data = y` (see export/capture/assigned.py)."""
    return str(target).startswith("aten._has_compatible_shallow_copy_type")


def turns_in_place(target: Any) -> bool:
    """Whether an operator in place changes the shape of its argument and none of its numbers: the
    tensor then is another view of the same memory (`squeeze_`, `t_`, `resize_`)."""
    tags = {str(tag).rsplit(".", 1)[-1] for tag in target.tags}
    return "inplace_view" in tags and name_of(target) != "aten::detach_"


def writes_of(target: Any, node: Any) -> Iterator[Any]:
    """The graph nodes of the arguments that an operator writes to."""
    for argument, value in zip(target._schema.arguments, node.args, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield value
    for argument in target._schema.arguments:
        if written_out(argument, node):
            yield node.kwargs[argument.name]


def written_by(target: Any, node: Any) -> Any:
    """The graph node of the (first) argument that an operator writes to."""
    return next(writes_of(target, node), None)


def written_out(argument: Any, node: Any) -> bool:
    """Whether an argument is a tensor that the result is written to, `out=`."""
    return bool(argument.kwarg_only and argument.is_out and argument.name in node.kwargs)


def expected_of(node: Any) -> tuple[str | None, tuple[Any, ...] | None]:
    """Dtype and shape of a graph node's (first) result."""
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        value = value[0] if value else None
    if not hasattr(value, "dtype"):
        return None, None
    return str(value.dtype).rsplit(".", 1)[-1], hints(value)[0]
