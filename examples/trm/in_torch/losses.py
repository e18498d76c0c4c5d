"""The loss of a call: cells by stablemax, and whether to halt by the answer being right."""

import torch
import torch.nn.functional as F
from torch import nn

from .model import Carry, RecursiveModel

IGNORED = -100  # label of a cell that does not count


def log_stablemax(x: torch.Tensor) -> torch.Tensor:
    """log of s(x) / sum s(x) with s(x) = x + 1 from 0 on, 1 / (1 - x) below: no exponential."""
    s = torch.where(x < 0, 1 / (1 - x + 1e-30), x + 1)
    return torch.log(s / s.sum(dim=-1, keepdim=True))


class LossHead(nn.Module):
    """The model with its loss. `precision` is the dtype of stablemax: float64, where it exists."""

    def __init__(self, model: RecursiveModel, precision: str = "float64"):
        super().__init__()
        self.model = model
        self.precision = getattr(torch, precision)

    def cell_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy of each cell, 0 where it does not count."""
        counted = labels != IGNORED
        wanted = torch.where(counted, labels, 0).to(torch.long)
        logs = log_stablemax(logits.to(self.precision))
        picked = torch.gather(logs, -1, wanted.unsqueeze(-1)).squeeze(-1)
        return -torch.where(counted, picked, 0)

    def measured(self, carry: Carry, right: torch.Tensor, cells: torch.Tensor, q: torch.Tensor):
        """Sums over the puzzles that halted in this call."""
        solved = right.sum(-1) == cells
        ended = carry.halted & (cells > 0)
        share = right.sum(-1).to(torch.float32) / cells.clamp_min(1)
        return {
            "count": ended.sum(),
            "accuracy": torch.where(ended, share, 0).sum(),
            "exact_accuracy": (ended & solved).sum(),
            "q_halt_accuracy": (ended & ((q >= 0) == solved)).sum(),
            "steps": torch.where(ended, carry.steps, 0).sum(),
        }

    def forward(self, carry: Carry, batch: dict[str, torch.Tensor]):
        carry, logits, q_halt = self.model(carry, batch)
        labels = carry.data["labels"]
        with torch.no_grad():
            counted = labels != IGNORED
            cells = counted.sum(-1)
            predicted = torch.argmax(logits, dim=-1)
            right = counted & (predicted == labels)
            solved = right.sum(-1) == cells
            metrics = self.measured(carry, right, cells, q_halt)
        losses = self.cell_losses(logits, labels)
        lm_loss = (losses / cells.clamp_min(1).unsqueeze(-1)).sum()
        q_loss = F.binary_cross_entropy_with_logits(
            q_halt, solved.to(q_halt.dtype), reduction="sum"
        )
        metrics["lm_loss"] = lm_loss.detach()
        metrics["q_halt_loss"] = q_loss.detach()
        return carry, lm_loss + 0.5 * q_loss, metrics, predicted
