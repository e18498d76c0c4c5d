"""The same run in torch: same weights, batches and formulas, for its curve and its speed."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import torch

from examples.trm.config import Config
from examples.trm.data import Batch, Metadata, PuzzleSet
from examples.trm.evaluation import scored
from examples.trm.in_torch.losses import LossHead
from examples.trm.in_torch.model import Carry, ModelConfig, RecursiveModel
from examples.trm.training import Trainer, learning_rate, make_model, model_options
from torch2mlx import convert, kit, load_converted


def torch_model(config: Config, told: Metadata) -> LossHead:
    """The model in torch, with weights drawn anew."""
    torch.manual_seed(config.train.seed)
    return LossHead(RecursiveModel(ModelConfig(**model_options(config, told))))


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch as tensors."""
    return {name: torch.from_numpy(value) for name, value in batch.items()}


class TorchTrainer:
    """What Trainer does, in torch."""

    def __init__(self, config: Config, head: LossHead) -> None:
        self.config, self.head = config, head
        named = dict(head.named_parameters())
        self.moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in named.items()}
        self.average = {n: p.detach().clone() for n, p in named.items()}
        self.step = 0
        self.carry: Carry | None = None

    def train_step(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """One call of the model and one step of the optimizers."""
        options = self.config.train
        self.step += 1
        carry = self.carry or self.head.model.initial_carry(batch)
        self.carry, loss, metrics, _ = self.head(carry, batch)
        (loss / options.batch_size).backward()
        with torch.no_grad():
            self._step_rows()
            self._step_weights(learning_rate(self.step, options.lr, self.config))
        return {name: value.item() for name, value in metrics.items()}

    def _step_weights(self, rate: float) -> None:
        """AdamATan2 and the average."""
        options = self.config.train
        b1, b2, t = options.beta1, options.beta2, self.step
        for name, p in self.head.named_parameters():
            first, second = self.moments[name]
            first.lerp_(p.grad, 1 - b1)
            second.lerp_(p.grad.square(), 1 - b2)
            p.mul_(1 - rate * options.weight_decay)
            below = second.sqrt() / math.sqrt(1 - b2**t)
            p.sub_(rate / (1 - b1**t) * torch.atan2(first, below))
            p.grad = None
            self.average[name].lerp_(p, 1 - options.ema)

    def _step_rows(self) -> None:
        """sign-SGD on the rows of the puzzles of this call."""
        inner = self.head.model.inner
        if not self.config.model.puzzle_emb_ndim:
            return
        options, table = self.config.train, inner.puzzle_emb
        rate = learning_rate(self.step, options.puzzle_lr, self.config)
        ids, places = table.local_ids.unique(return_inverse=True)
        total = torch.zeros(len(ids), table.weights.shape[1])
        total.index_add_(0, places, table.local_weights.grad)
        decayed = table.weights[ids] * (1 - rate * options.puzzle_weight_decay)
        table.weights[ids] = decayed - rate * total.sign()
        table.local_weights.grad = None

    def evaluate(self, data: PuzzleSet) -> dict[str, float]:
        """As evaluation.evaluate, with the averaged weights."""
        kept = {n: p.detach().clone() for n, p in self.head.named_parameters()}
        with torch.inference_mode(False), torch.no_grad():
            self._put(self.average)
            self.head.eval()
            held = data.testing(self.config.train.batch_size)
            means = scored(self.head, (tensors(batch) for batch, _ in held))
            self._put(kept)
            self.head.train()
        return means

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, p in self.head.named_parameters():
            p.copy_(values[name])


def with_weights_of(config: Config, data: PuzzleSet) -> tuple[Trainer, TorchTrainer]:
    """Both trainers with torch's first weights, carried over by `convert`."""
    theirs = torch_model(config, data.metadata)
    ours = make_model(config, data.metadata)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        convert(theirs, path, on_unmapped="ignore")
        kit.files.load_state_dict(ours, load_converted(path), strict=True)
        mx.eval(ours.parameters())
    ours.train(), theirs.train()
    return Trainer(config, ours), TorchTrainer(config, theirs)
