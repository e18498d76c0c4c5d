"""Which of the values that a model is made with, and that were not varied, change what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch2mlx.export.sizes.fields import Field, Recipe, Way, shapes_of
from torch2mlx.export.sizes.reading import Sized, read_settings


def relevant(recipe: Recipe, varied: Sequence[Field], at: Sized) -> list[Field]:
    """Fields that have to be what they are: with others a model has other tensors, or answers
    otherwise, or does not run. Those of settings that nobody reads are not tried."""
    read = read_settings(recipe, at)
    known = {f.way for f in varied}
    left = [f for f in recipe.fields() if f.way not in known]
    left = [f for f in left if not f.settings or f.way[1] in read]
    usual = _behaviour(recipe, at, at.values)
    return [f for f in left if any(_differs(recipe, at, f, o, usual) for o in _others(f.value))]


def _others(value: Any) -> list[Any]:
    """Other values to try; none that is sure to be one says that it matters."""
    if value is None:
        return [3, True]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, value + 2]
    return [object()]


def _differs(recipe: Recipe, at: Sized, field: Field, value: Any, usual: Any) -> bool:
    import torch

    if isinstance(field.value, (str, list, tuple)):
        return True
    try:
        shapes, answers = _behaviour(recipe, at, {**at.values, field.way: value})
    except Exception:  # whatever the model raises for such a value
        return True
    if shapes != usual[0] or len(answers) != len(usual[1]):
        return True
    pairs = zip(answers, usual[1], strict=True)
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs)


def _behaviour(recipe: Recipe, at: Sized, values: Mapping[Way, Any]) -> tuple[Any, list[Any]]:
    """The shapes of a model's tensors, and what it answers with the first weights it draws."""
    import torch

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = recipe.make(values)
        torch.manual_seed(0)
        answer = model(*at.args, **at.kwargs)
    leaves = torch.utils._pytree.tree_leaves(answer)
    return shapes_of(model), [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
