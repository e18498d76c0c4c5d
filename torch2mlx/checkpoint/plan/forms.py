"""Plans for layers that keep torch's own tensors, and which layers do so somewhere."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import replace

from torch2mlx.checkpoint.plan.planner import make_plan
from torch2mlx.checkpoint.plan.trained import target_shapes
from torch2mlx.checkpoint.plan.training import kept, sources
from torch2mlx.checkpoint.plan.typing import from_module
from torch2mlx.types import Checkpoint, ModuleTree, Plan


def plan_of(checkpoint: Checkpoint, keeping: Container[str] = ()) -> Plan:
    """The plan of a live module's tensors; the modules of these paths keep torch's own."""
    assert checkpoint.tree is not None
    return _plan(checkpoint, kept(checkpoint.tree, lambda record: record.path in keeping))


def _plan(checkpoint: Checkpoint, tree: ModuleTree) -> Plan:
    return make_plan(from_module(replace(checkpoint, tree=tree), tree, None))


def keeping(checkpoint: Checkpoint, names: Collection[str]) -> frozenset[str]:
    """Paths of the modules of which the tensors of these MLX names are torch's own."""
    assert checkpoint.tree is not None
    owners = {
        f"{path}.{name}" if path else name: path
        for path, record in checkpoint.tree.records.items()
        for name in sources(record)
    }
    if not owners:
        return frozenset()
    plan = _plan(checkpoint, kept(checkpoint.tree))
    there = [t for t in plan.traces if t.key in owners]
    made = {t.key: {name for name, _ in target_shapes(t.recipe, t.shape)} for t in there}
    return frozenset(owners[key] for key, targets in made.items() if not targets.isdisjoint(names))
