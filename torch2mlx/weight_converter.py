"""The plan stage of `convert` (`checkpoint.plan.planner`), by its public name."""

from torch2mlx.checkpoint.plan.planner import Effective, make_plan

__all__ = ["Effective", "make_plan"]
