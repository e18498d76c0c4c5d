"""Example inputs of a model at other sizes: the lengths that follow its fields are found by
trying."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch2mlx.export.sizes.fields import Field, Way

#: An axis of an input: the leaf's place, the axis.
Axis = tuple[int, int]
#: Of each axis that follows a field: which.
Following = Mapping[Axis, Way]
_MOST = 200


class Inputs:
    """The inputs that a model was given, in the sizes that others take.

    `follow`: whether lengths may follow fields; those of tokens do not.
    """

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any], follow: bool = True) -> None:
        import torch

        self._leaves, self._spec = torch.utils._pytree.tree_flatten((tuple(args), dict(kwargs)))
        self._following: Following | None = None if follow else {}

    def at(self, model: Any, fields: Sequence[Field], values: Mapping[Way, Any]) -> Any:
        """(args, kwargs) for a model with other values, which is called, and may be another after
        that; None where there are none that it takes.

        Which axes follow a field is settled by the first model of which some do.
        """
        known = [self._following] if self._following is not None else self._ways(fields)
        for following in known:
            args, kwargs = self._made(following, values)
            if _runs(model, args, kwargs):
                if len({*values}) > 1:
                    self._following = following
                return args, kwargs
        return None

    def _ways(self, fields: Sequence[Field]) -> Iterator[Following]:
        """Axes that may follow fields of their lengths: few first."""
        choices: list[tuple[Axis, list[Way]]] = []
        for i, leaf in enumerate(self._leaves):
            for axis, length in enumerate(getattr(leaf, "shape", ())):
                ways = [f.way for f in fields if f.value == length and length > 1]
                if ways:
                    choices.append(((i, axis), ways))
        options = [[None, *ways] for _, ways in choices]
        every = itertools.islice(itertools.product(*options), _MOST * 5)
        for one in sorted(every, key=lambda c: sum(way is not None for way in c))[:_MOST]:
            yield {axis: way for (axis, _), way in zip(choices, one, strict=True) if way}

    def _made(self, following: Following, values: Mapping[Way, Any]) -> Any:
        import torch

        leaves = []
        for i, leaf in enumerate(self._leaves):
            if not isinstance(leaf, torch.Tensor):
                leaves.append(leaf)
                continue
            shape = list(leaf.shape)
            for axis in range(len(shape)):
                shape[axis] = values.get(following.get((i, axis), ()), shape[axis])
            leaves.append(_like(leaf, shape, values))
        return torch.utils._pytree.tree_unflatten(leaves, self._spec)


def _like(leaf: Any, shape: list[int], values: Mapping[Way, Any]) -> Any:
    """A tensor of another shape: floats are drawn, whole numbers kept below all sizes."""
    import torch

    if leaf.dtype.is_floating_point or leaf.dtype.is_complex:
        return leaf if list(leaf.shape) == shape else torch.randn(shape, dtype=leaf.dtype)
    for axis, length in enumerate(shape):
        have = torch.arange(length, device=leaf.device) % leaf.shape[axis]
        leaf = leaf.index_select(axis, have)
    if leaf.dtype == torch.bool:
        return leaf
    sizes = [v for v in values.values() if type(v) is int and v > 8]
    return leaf % min(sizes) if sizes and int(leaf.max()) >= min(sizes) else leaf


def _runs(model: Any, args: Any, kwargs: Any) -> bool:
    import torch

    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception:  # whatever torch raises for inputs of these sizes
        return False
    return True
