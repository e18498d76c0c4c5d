"""What a weight rule can say of the tensors of one module. Data; the planner carries it out.

A rule is either a mapping from tensor name to an *entry*, or a function from the module's
record and its tensor shapes to a list of actions. Entries are shorthand:

    "o i h w -> o h w i"        move: permute, keep the name
    "attn_weight"               move: keep the layout, rename
    ("q_proj.weight", "k_proj.weight")   split the first dimension in equal parts
    Drop("why")                 leave it out of the MLX file (kept for revert)

Tensors that a rule does not mention are copied as they are, under a name that MLX can show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.catalog.weights.visible import shown
from torch2mlx.types import ModuleRecord


@dataclass(frozen=True)
class Move:
    """One tensor to one tensor: `layout` (None: unchanged), new name `to` (None: unchanged).

    `letters` names the option of the module that gives the size of a layout letter that a shape
    alone cannot tell: {"g": "groups"}.
    """

    layout: str | None = None
    to: str | None = None
    letters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """One tensor to several: equal parts of dimension 0."""

    to: tuple[str, ...]


@dataclass(frozen=True)
class Drop:
    """A tensor that MLX has no use for; revert still brings it back."""

    reason: str


@dataclass(frozen=True)
class Merge:
    """Several tensors to one: `how` names a function of `merges.MERGES`."""

    sources: tuple[str, ...]
    to: str
    how: str


@dataclass(frozen=True)
class On:
    """`action` (Move, Split or Drop) on the tensor called `name`."""

    name: str
    action: Move | Split | Drop


Entry = str | tuple[str, ...] | Move | Split | Drop
Shapes = Mapping[str, tuple[int, ...]]
RuleFunction = Callable[[ModuleRecord, Shapes], Iterable[On | Merge]]
Rule = Mapping[str, Entry] | RuleFunction


def by_shapes(rule: RuleFunction) -> RuleFunction:
    """Says of a rule that names and shapes alone decide: modules with equal ones share actions."""
    marked: Any = rule
    marked.by_shapes = True
    return rule


def entry_action(entry: Entry) -> Move | Split | Drop:
    """An entry in its long form. Raises TypeError for anything else."""
    if isinstance(entry, (Move, Split, Drop)):
        return entry
    if isinstance(entry, str):
        return Move(layout=entry) if "->" in entry else Move(to=entry)
    if isinstance(entry, tuple) and all(isinstance(name, str) for name in entry):
        return Split(entry)
    raise TypeError(f"a weight rule cannot be {entry!r}: give a layout, a name, a tuple or Drop")


def rule_actions(rule: Rule, record: ModuleRecord, shapes: Shapes) -> list[On | Merge]:
    """The actions of a rule for one module; unmentioned tensors are copied."""
    if callable(rule):
        actions = list(rule(record, shapes))
    else:
        actions = [On(n, entry_action(entry)) for n, entry in rule.items() if n in shapes]
    used: set[str] = set()
    for action in actions:
        used.update(action.sources if isinstance(action, Merge) else (action.name,))
    others = [name for name in shapes if name not in used]
    listed = any(kind.endswith(".ParameterList") for kind in record.kinds)
    hidden = {} if listed or record.options.get("from_keys") else shown(others, shapes)
    return actions + [On(name, Move(to=hidden.get(name))) for name in others]
