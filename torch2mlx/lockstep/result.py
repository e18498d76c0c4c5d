"""What a comparison of two training scripts found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: Kinds of causes, in the order in which a step goes through them.
KINDS = (
    *("initialisation", "parameters", "optimizer option", "module option", "steps", "mode"),
    *("draw", "batch", "module", "loss", "accumulation", "gradient", "clipping", "schedule"),
    *("slot", "update", "buffer", "parameter"),
)


@dataclass(frozen=True)
class Cause:
    """Why two trainings part.

    `kind` is one of `KINDS`; `step` counts optimizer updates from 1, 0 is before the first;
    `where` names the module, parameter, option or draw; `lines` the lines of both scripts.
    """

    kind: str
    step: int
    where: str
    detail: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        at = f"step {self.step}" if self.step else "before the first step"
        lines = f" ({', '.join(line for line in self.lines if line)})" if any(self.lines) else ""
        where = f" {self.where}" if self.where else ""
        return f"{at}: {self.kind}{where}: {self.detail}{lines}"


@dataclass(frozen=True)
class Agreement:
    """One step: both losses, and the largest relative difference of each kind of number.

    None stands for what the step does not have.
    """

    step: int
    optimizer: str
    torch_loss: float | None
    mlx_loss: float | None
    differences: Mapping[str, float | None]


@dataclass(frozen=True)
class TrainingVerification:
    """`causes`: why the two part, the first first; empty where they agree over all `steps`.

    `steps` has a row for each step that was compared. `notes` say what was left out.
    `matched`: names of torch's tensors by those of MLX's arrays.
    """

    causes: tuple[Cause, ...]
    steps: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()
    matched: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether both agree."""
        return not self.causes

    @property
    def first(self) -> Cause | None:
        """The first cause of a divergence."""
        return self.causes[0] if self.causes else None

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        return {
            "ok": self.ok,
            "causes": [asdict(cause) for cause in self.causes],
            "steps": [asdict(step) for step in self.steps],
            "notes": list(self.notes),
            "matched": dict(self.matched),
        }

    def table(self) -> str:
        """A row for each step, a column for each kind of number, and what that amounts to."""
        kinds = _kinds(self.steps)
        rows = [["step", "optimizer", "torch loss", "MLX loss", *kinds]]
        for step in self.steps:
            losses = (
                f"{v:.6g}" if v is not None else "-" for v in (step.torch_loss, step.mlx_loss)
            )
            found = (step.differences.get(kind) for kind in kinds)
            apart = ("-" if v is None else f"{v:.1e}" for v in found)
            rows.append([str(step.step), step.optimizer, *losses, *apart])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *self._verdict()])

    def __str__(self) -> str:
        count = len(self.steps)
        lines = [f"{count} step{'s' * (count != 1)} compared"]
        lines += [_row(step) for step in self.steps]
        return "\n".join([*lines, *self._verdict()])

    def _verdict(self) -> list[str]:
        lines = [f"note: {note}" for note in self.notes]
        if self.ok:
            lines.append("the two scripts train alike")
        else:
            lines.append(f"the two part: {self.causes[0]}")
            lines += [f"also: {cause}" for cause in self.causes[1:]]
        return lines


def _kinds(steps: Sequence[Agreement]) -> list[str]:
    """The kinds of numbers, in the order in which a step has them."""
    told = (k for step in steps for k, v in step.differences.items() if v is not None)
    known = list(dict.fromkeys(kind for step in steps for kind in step.differences))
    return sorted(set(told), key=known.index)


def _row(step: Agreement) -> str:
    losses = [
        f"{name} {v:.6g}"
        for name, v in (("torch", step.torch_loss), ("MLX", step.mlx_loss))
        if v is not None
    ]
    found = [f"{name} {v:.1e}" for name, v in step.differences.items() if v is not None]
    shown = f"loss {', '.join(losses)}; " if losses else ""
    return f"step {step.step} ({step.optimizer}): {shown}differences: {', '.join(found)}"
