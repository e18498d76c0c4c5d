"""What the plan of the layout says, written: arrays that are turned, layers that work on them."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.values import WAYS
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.text import again, code, expression
from torch2mlx.porting.types import layers

_OPEN = ("Flatten", "Unflatten")


def turned(at: Place, original: Any, updated: Any, made: Any) -> Any:
    """An expression as the plan wants it; `made` is what the other rules made of it."""
    if original in at.file.plan.axes:
        made = expression(str(at.file.plan.axes[original]))
    if original in at.file.plan.dropped:
        made = updated.func.value
        at.change(original, code(original.func), "the channels are last already")
    if original in at.file.plan.spatial:
        made = expression(f"{code(updated.value)}[1:-1]")
    if original in at.file.plan.unpacked:
        parts = [e.value for e in updated.elements]
        parts = [parts[0], *parts[2:], parts[1]]
        elements = [e.with_changes(value=p) for e, p in zip(updated.elements, parts, strict=True)]
        made = updated.with_changes(elements=elements)
    if original in at.file.plan.wraps:
        way = at.file.plan.wraps[original]
        axes = _axes(at.file.plan.ranks.get(original, 0) if way in ("last", "beside") else 0)
        made = expression(WAYS[way].format(code(made) + axes))
    return made


def placed_layer(at: Place, name: str, original: Any, updated: cst.Call) -> Any:
    """A layer that works channels last; None for others."""
    if name == "Sequential" and original in at.file.plan.chains:
        return _turning(at, original, updated)
    if original not in at.file.plan.sites:
        return None
    at.change(original, f"torch.nn.{name}", "takes (N, ..., C), as MLX's own layers")
    group = "kit.channels_last" if name in _OPEN else "kit"
    return again(f"{group}.{name}", updated, layers.DROPPED)


def _turning(at: Place, original: Any, updated: cst.Call) -> Any:
    enters, leaves = at.file.plan.chains[original]
    given = {"enters": enters, "leaves": leaves}
    more = [
        cst.Arg(cst.Name("False"), cst.Name(name), _EQUAL)
        for name, turns in given.items()
        if not turns
    ]
    at.change(original, "torch.nn.Sequential", "turns images to MLX's layout and back")
    made = again("kit.channels_first.Sequential", updated)
    return made.with_changes(args=[*made.args, *more]) if more else made


def class_value(at: Place, full: str, original: Any) -> str | None:
    """A layer's class as a value, where it works channels last."""
    short = full.rpartition(".")[2]
    if full != f"torch.nn.{short}" or short not in layers.IMAGES:
        return None
    return f"kit.{short}" if original in at.file.plan.sites else None


def placed_class(at: Place, original: cst.ClassDef) -> None:
    """Notes that a class is called with another layout than in torch."""
    protocol = at.file.plan.classes.get(original.name.value)
    if protocol is not None:
        names = ", ".join(sorted(protocol.last))
        what = f"{original.name.value}.forward"
        why = f"called by this file's own modules, with channels last: {names}"
        at.change(original, what, why, "layout='torch' keeps (N, C, ...) everywhere")


def headed(at: Place, original: Any, updated: cst.FunctionDef) -> cst.FunctionDef:
    """A function whose arguments are turned where it begins."""
    names = at.file.plan.heads.get(original)
    if not names:
        return updated
    at.change(original, original.name.value, "images are turned once, to MLX's layout")
    lines = [
        cst.parse_statement(f"{name} = kit.to_last({name}{_axes(rank)})")
        for name, rank in names.items()
    ]
    body = list(updated.body.body)
    first = body[0].body[0] if isinstance(body[0], cst.SimpleStatementLine) else None
    text = isinstance(first, cst.Expr) and isinstance(first.value, cst.SimpleString)
    place = 1 if text else 0
    body = [*body[:place], *lines, *body[place:]]
    return updated.with_changes(body=updated.body.with_changes(body=body))


def _axes(rank: int) -> str:
    """The number of spatial axes as a further argument."""
    return f", {rank - 2}" if rank > 2 else ""


_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
