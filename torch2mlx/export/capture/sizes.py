"""Other sizes of example inputs: free lengths shorter, then longer by repeating what is there."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch2mlx.common import options
from torch2mlx.export.capture.keywords import positional_names
from torch2mlx.export.capture.structured import leaves_with_keys, with_leaves

Way = tuple[Any, ...]
#: Lengths of each argument: numbers where they are fixed, else expressions of symbols, as text.
Shapes = Mapping[Way, tuple[Any, ...]]

_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True)
class Sized:
    """Arguments of another size; `label` says which. `less` are such with another batch alone, for
    models to which the other lengths are no sizes of theirs."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    label: str
    less: Sized | None = None


def other_sizes(model: Any, args: Any, kwargs: Any, shapes: Shapes) -> Iterator[Sized]:
    """Inputs with all free lengths shorter, and with all longer."""
    known = lengths(model, args, kwargs, shapes)
    if not known:
        return
    batch = {dims[0] for dims in shapes.values() if dims}
    shorter = {s: 1 if s in batch else (n + 1) // 2 for s, n in known.items()}
    longer = {s: n + 1 if s in batch else 2 * n for s, n in known.items()}
    for wanted in (shorter, longer):
        alone = {s: wanted[s] if s in batch else n for s, n in known.items()}
        made, less = (
            resized(model, args, kwargs, shapes, lengths) if lengths != known else None
            for lengths in (wanted, alone)
        )
        if made is not None:
            yield replace(made, less=less if alone != wanted else None)


def shapes_of(translated: Any) -> Shapes:
    """The lengths that a translation, or the folder of a saved one, has; none of other modules."""
    if not isinstance(translated, (str, Path)):
        return getattr(translated, "shapes", None) or {}
    path = Path(translated) / "config.json"
    said = json.loads(path.read_text()).get("shapes", ()) if path.exists() else ()
    return {tuple(way): tuple(dims) for way, dims in said}


def lengths(model: Any, args: Any, kwargs: Any, shapes: Shapes) -> dict[str, int]:
    """The length that each symbol has in some inputs."""
    found: dict[str, int] = {}
    for way, leaf in ways_to(model, args, kwargs):
        for dim, length in zip(shapes.get(way, ()), getattr(leaf, "shape", ()), strict=False):
            if isinstance(dim, str) and dim.isidentifier():
                found.setdefault(dim, int(length))
    return found


def resized(
    model: Any, args: Any, kwargs: Any, shapes: Shapes, wanted: Mapping[str, int]
) -> Sized | None:
    """Inputs with these lengths of symbols; None where a length is not known from them."""
    told: list[str] = []

    def change(way: Way, leaf: Any) -> Any:
        dims = shapes.get(way)
        if dims is None or not hasattr(leaf, "shape") or len(dims) != len(leaf.shape):
            return leaf
        shape = tuple(_length(dim, n, wanted) for dim, n in zip(dims, leaf.shape, strict=True))
        if shape != tuple(leaf.shape):
            told.append(f"{named(way)} {shape}")
        return fitted(leaf, shape)

    try:
        changed, more = mapped(model, args, kwargs, change)
    except KeyError:
        return None
    return Sized(changed, more, ", ".join(told)) if told else None


def given_sizes(
    model: Any, args: Any, kwargs: Any, sizes: Sequence[Any], shapes: Shapes
) -> Iterator[Sized]:
    """Inputs of given shapes, by the names of arguments; None leaves a length as it is.

    Arguments that are not named follow where they have a free length with a named one in common.
    Raises ValueError for a name that is no argument, and for a shape of another rank.
    """
    known = arrays_of(model, args, kwargs)
    usual = lengths(model, args, kwargs, shapes)
    for wanted in sizes:
        asked = {name: _asked(name, shape, known) for name, shape in dict(wanted).items()}
        symbols = {**usual, **_symbols(asked, shapes)}
        label: list[str] = []

        def change(
            way: Way, leaf: Any, asked: Any = asked, symbols: Any = symbols, label: Any = label
        ) -> Any:
            name = named(way)
            shape = asked.get(name) or _followed(shapes.get(way), leaf, symbols)
            if shape is None or not _is_array(leaf):
                return leaf
            if name in asked or shape != tuple(leaf.shape):
                label.append(f"{name} {shape}")
            return fitted(leaf, shape)

        changed, more = mapped(model, args, kwargs, change)
        yield Sized(changed, more, ", ".join(label))


def _asked(name: str, shape: Sequence[int | None], known: Mapping[str, Any]) -> tuple[int, ...]:
    """A shape that was given for an argument, with the lengths that stay."""
    option = options.option("sizes").rstrip("=")
    if name not in known:
        raise ValueError(f"{option}: {name!r} is no argument: they are {', '.join(known)}")
    now = tuple(known[name].shape)
    if len(shape) != len(now):
        raise ValueError(f"{option}: {name} has {len(now)} axes, {tuple(shape)} {len(shape)}")
    made = tuple(n if new is None else int(new) for new, n in zip(shape, now, strict=True))
    if any(length < 0 for length in made):
        raise ValueError(f"{option}: {name} {made}: a length is not negative")
    return made


def _symbols(asked: Mapping[str, tuple[int, ...]], shapes: Shapes) -> dict[str, int]:
    """The free lengths that given shapes settle."""
    found: dict[str, int] = {}
    for way, dims in shapes.items():
        for dim, length in zip(dims, asked.get(named(way), ()), strict=False):
            if isinstance(dim, str) and dim.isidentifier():
                found.setdefault(dim, length)
    return found


def _followed(dims: Any, leaf: Any, symbols: Mapping[str, int]) -> tuple[int, ...] | None:
    """The shape of an argument at these free lengths; None where it is not known."""
    if dims is None or len(dims) != len(getattr(leaf, "shape", ())):
        return None
    try:
        return tuple(_length(dim, n, symbols) for dim, n in zip(dims, leaf.shape, strict=True))
    except KeyError:
        return None


def fitted(leaf: Any, shape: Sequence[int]) -> Any:
    """A tensor of another shape: cut where it is longer, repeated where it is shorter. It lies in
    memory as one that is made in that shape does, unless the given one does not."""
    import torch

    plain = leaf.is_contiguous() and tuple(shape) != tuple(leaf.shape)
    for axis, length in enumerate(shape):
        have = leaf.shape[axis]
        if have and length > have:
            leaf = torch.cat([leaf] * -(-length // have), axis)
        leaf = leaf.narrow(axis, 0, min(length, leaf.shape[axis]))
    return leaf.clone(memory_format=torch.contiguous_format) if plain else leaf


def named(way: Way) -> str:
    """The name of an argument, `batch.ids` within a container."""
    return ".".join(map(str, way))


def arrays_of(model: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arrays among the arguments by their names, `batch.ids` within a container."""
    return {named(way): leaf for way, leaf in ways_to(model, args, kwargs) if _is_array(leaf)}


def ways_to(model: Any, args: Any, kwargs: Any) -> list[tuple[Way, Any]]:
    """All leaves of the arguments with the ways to them."""
    found: list[tuple[Way, Any]] = []
    mapped(model, args, kwargs, lambda way, leaf: found.append((way, leaf)))
    return found


def mapped(model: Any, args: Any, kwargs: Any, change: Callable[[Way, Any], Any]) -> Any:
    """Arguments with each leaf changed, which is told the way to it."""

    def within(name: str, value: Any) -> Any:
        found = [change((name, *keys), leaf) for keys, leaf in leaves_with_keys(value)]
        return with_leaves(value, found)

    names = positional_names(model.forward, len(args))
    changed = tuple(within(name, value) for name, value in zip(names, args, strict=True))
    return changed, {name: within(name, value) for name, value in kwargs.items()}


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "narrow")


def _length(dim: Any, now: int, wanted: Mapping[str, int]) -> int:
    """A length from its expression."""
    return (
        int(now) if isinstance(dim, int) else _evaluated(ast.parse(dim, mode="eval").body, wanted)
    )


def _evaluated(node: Any, wanted: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant):
        value: Any = node.value
        return int(value)
    if isinstance(node, ast.Name):
        return wanted[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluated(node.left, wanted), _evaluated(node.right, wanted)
        return _OPERATORS[type(node.op)](left, right)
    raise KeyError(ast.dump(node))
