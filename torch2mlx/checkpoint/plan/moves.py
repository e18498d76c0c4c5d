"""Tensors that are only moved: copied, renamed, with other axes. Most modules have no others.

What equal modules share is found once: a checkpoint of 200,000 tensors has a few dozen kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch2mlx import _core
from torch2mlx.catalog.layers.entry import LayerSpec
from torch2mlx.catalog.weights.actions import Merge, Move, On, Rule, Shapes, rule_actions
from torch2mlx.catalog.weights.layout import Steps, parse
from torch2mlx.checkpoint.plan.owners import Owner
from torch2mlx.types import Borrowed, ModuleRecord, TensorSource

NO_RULE: Rule = {}


def _address(source: TensorSource) -> int | None:
    """Where a tensor's first byte lies; None where it has none, or is not there yet."""
    if not isinstance(source, Borrowed) or 0 in source.shape:
        return None
    return source.tensor.address


def repeated(sources: Iterable[TensorSource]) -> frozenset[int]:
    """Addresses that several tensors begin at: the only ones that may be tied."""
    addresses = [at for at in map(_address, sources) if at is not None]
    if len(set(addresses)) == len(addresses):
        return frozenset()
    return frozenset(at for at, n in Counter(addresses).items() if n > 1)


def identity(source: TensorSource, rule: str, repeated: frozenset[int]) -> tuple[object, ...]:
    """Equal for two tensors that are the same bytes under the same rule; () for no other."""
    if not repeated or not isinstance(source, Borrowed) or _address(source) not in repeated:
        return ()
    tensor = source.tensor
    return (tensor.address, tensor.shape, tensor.strides, tensor.dtype, rule)


class View(NamedTuple):
    """The `load` of a piece that rearranges its source."""

    source: TensorSource
    rearrange: Callable[[_core.Tensor], _core.Tensor]

    def __call__(self) -> _core.Tensor:
        return self.rearrange(self.source.load())


@dataclass(frozen=True, slots=True)
class Fitted:
    """A layout with the sizes of its letters for tensors of one shape."""

    text: str
    sizes: dict[str, int]
    shape: tuple[int, ...]
    steps: Steps

    def view(self, tensor: _core.Tensor) -> _core.Tensor:
        """The tensor with its axes in their new order, without a copy."""
        return self.steps.view(tensor)


#: (layout, sizes of its letters, shape in MLX, the view of a tensor) of what is laid out anew.
_Laid = tuple[str, dict[str, int], tuple[int, ...], Callable[[_core.Tensor], _core.Tensor]]
#: (name in the module, name in its twin, None for a copy) for each tensor of a module.
_Moves = tuple[tuple[str, str, _Laid | None], ...]


@dataclass
class Seen:
    """What equal modules of one plan share: the actions of a rule, the fit of a layout.

    `repeated` are the addresses that several source tensors begin at.
    """

    repeated: frozenset[int]
    _rules: dict[tuple[Any, ...], list[On | Merge]] = field(default_factory=dict)
    _fits: dict[tuple[Any, ...], Fitted] = field(default_factory=dict)

    def actions(self, rule: Rule, record: ModuleRecord, shapes: Shapes) -> list[On | Merge]:
        """The actions of a rule; a function may look at anything, so it is asked each time."""
        if callable(rule):
            return rule_actions(rule, record, shapes)
        key = (id(rule), *shapes)
        if key not in self._rules:
            self._rules[key] = rule_actions(rule, record, shapes)
        return self._rules[key]

    def fit(self, text: str, shape: tuple[int, ...], known: Mapping[str, int]) -> Fitted:
        """Raises ValueError when the layout does not take such a tensor."""
        key = (text, shape, *known.items())
        if key not in self._fits:
            layout = parse(text)
            sizes = layout.sizes(shape, known)
            self._fits[key] = Fitted(str(layout), sizes, layout.shape(sizes), layout.steps(sizes))
        return self._fits[key]

    def moves(self, owner: Owner, sources: Mapping[str, TensorSource]) -> _Moves | None:
        """What becomes of each tensor of a module, by name, where all of them are only moved."""
        shapes = {name: source.shape for name, source in sources.items()}
        rule = owner.spec.weights if owner.spec else NO_RULE
        if callable(rule):
            return self._found(rule_actions(rule, owner.record, shapes), shapes)
        return self._found(self.actions(rule, owner.record, shapes), shapes)

    def _found(self, actions: list[On | Merge], shapes: Shapes) -> _Moves | None:
        moves = []
        for on in actions:
            if isinstance(on, Merge) or not isinstance(on.action, Move) or on.action.letters:
                return None
            laid = None
            if on.action.layout is not None:
                try:
                    fitted = self.fit(on.action.layout, shapes[on.name], {})
                except ValueError:
                    return None  # said where its key is known
                laid = (fitted.text, fitted.sizes, fitted.shape, fitted.view)
            moves.append((on.name, on.action.to or on.name, laid))
        return tuple(moves)


def shared_rule(spec: LayerSpec | None) -> Rule | None:
    """The rule of a layer's tensors, where modules with equal shapes are planned alike."""
    rule = spec.weights if spec else NO_RULE
    return None if callable(rule) and not getattr(rule, "by_shapes", False) else rule
