"""Which axes of the example inputs are traced with free lengths, and which example they are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch2mlx.export.capture.empty_weights import is_empty
from torch2mlx.export.capture.kept_lengths import Place
from torch2mlx.export.capture.structured import with_leaves
from torch2mlx.export.ir.structures import copied


@dataclass(frozen=True)
class Way:
    """One way to trace a model.

    `free`: "all" axes longer than 1; the "first" ones, those that usually vary; "none"; or
    "given", those of `shapes`. `strict`: through torch's strict tracer. `twice`: a batch of one is
    traced as a batch of two. `own_gradients`: each autograd.Function stays one operator. `kept`:
    where `int()` and `float()` of a length stay lengths; None where it is to be found out, which
    `NumbersAsked` then says.
    """

    free: str
    strict: bool = False
    twice: bool = False
    own_gradients: bool = True
    shapes: Any = None
    kept: tuple[Place, ...] | None = ()

    @property
    def dynamic(self) -> bool:
        """Whether some length is free."""
        return self.free != "none"

    def __str__(self) -> str:
        free = {
            "all": "all lengths free",
            "first": "lengths of the first axes free",
            "none": "fixed shapes",
            "given": "dynamic_shapes as given",
        }[self.free]
        free += ", a batch of two for one" if self.twice else ""
        return f"{free}, strict" if self.strict else free


def ways(model: Any, args: Any, kwargs: Any, dynamic: bool, shapes: Any) -> list[Way]:
    """The ways to trace a model, the freest first."""
    fixed = [Way("none"), Way("none", strict=True)]
    if shapes is not None:
        given = Way("given", shapes=shapes)
        return [replace(given, kept=None), replace(given, strict=True)]
    if not dynamic:
        return fixed
    free = [Way("all", kept=None)]
    if _batch_of_one(args, kwargs) and same_twice(model, args, kwargs):
        free.insert(0, Way("all", twice=True, kept=None))
    first = _axes(args, kwargs, "first")
    if first != _axes(args, kwargs, "all"):
        free.append(Way("first", kept=None))
    return [*free, *fixed]


def dynamic_shapes(model: Any, args: Any, kwargs: Any, way: Way) -> Any:
    """The `dynamic_shapes` of torch.export for one way."""
    if way.free == "given":
        return way.shapes
    if way.free == "none":
        return None
    bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    return _axes(dict(bound), {}, way.free)[0]


def _axes(args: Any, kwargs: Any, free: str) -> Any:
    """Dim.AUTO for the free axes of each tensor; None for what is no tensor."""
    import torch
    from torch.utils import _pytree as pytree

    def axes(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        several = leaf.ndim
        if free == "first":
            several = 1 if leaf.ndim > 3 and leaf.is_floating_point() else min(2, leaf.ndim)
        return {i: torch.export.Dim.AUTO for i in range(several) if leaf.shape[i] > 1} or None

    return with_leaves((args, kwargs), map(axes, pytree.tree_leaves((args, kwargs))))


def _tensors(*values: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _batch_of_one(args: Any, kwargs: Any) -> bool:
    return any(leaf.ndim and leaf.shape[0] == 1 for leaf in _tensors(args, kwargs))


def twice(values: Any) -> Any:
    """Inputs with each tensor whose first axis is one given twice along it."""
    import torch
    from torch.utils import _pytree as pytree

    def doubled(leaf: Any) -> Any:
        one = isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == 1
        return torch.cat([leaf, leaf]) if one else leaf

    return pytree.tree_map(doubled, values)


def same_twice(model: Any, args: Any, kwargs: Any) -> bool:
    """Whether a model answers to a batch of two as it does to each: it has to be run for that.

    A model without values is none that could be asked.
    """
    import torch

    if is_empty(model) or any(leaf.is_meta for leaf in _tensors(args, kwargs)):
        return False
    args, kwargs = copied((tuple(args), dict(kwargs)))  # a forward may write to what it gets
    more_args, more_kwargs = twice(copied((args, kwargs)))
    with torch.no_grad(), _evaluating(model):
        try:
            one = _tensors(model(*args, **kwargs))
            two = _tensors(model(*more_args, **more_kwargs))
        except Exception:  # whatever the model raises for two
            return False
    return len(one) == len(two) and all(map(_alike, one, two))


def _alike(one: Any, two: Any) -> bool:
    import torch

    if one.shape != two.shape:
        one = torch.cat([one, one]) if one.ndim else one
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if not one.is_floating_point() and not one.is_complex():
        return True  # the nearest of equal scores may be another one
    return bool(torch.allclose(one, two, rtol=1e-3, atol=1e-4, equal_nan=True))


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """While open, a model is in evaluation mode; the mode of each module comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def without_own_gradients(way: Way) -> Way:
    """The same with each autograd.Function traced through."""
    return replace(way, own_gradients=False)


__all__ = ["Way", "dynamic_shapes", "same_twice", "twice", "ways", "without_own_gradients"]
