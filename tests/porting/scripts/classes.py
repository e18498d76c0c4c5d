"""A trainer in the style of a framework: hooks as methods, a registry, an abstract base, configs."""

import abc
import math
from dataclasses import dataclass, field
from typing import Callable, Dict, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor, optim
from torch.optim.lr_scheduler import LambdaLR

ACTIVATIONS: Dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}


@dataclass
class Config:
    width: int = 24
    depth: int = 3
    activation: str = "gelu"
    lr: float = 3e-3
    betas: Tuple[float, float] = (0.9, 0.99)
    clip: Optional[float] = 1.0
    schedule: Dict[str, int] = field(default_factory=lambda: {"warmup": 5, "total": 40})


class Residual(nn.Module):
    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn
        self.scale = nn.Parameter(torch.ones(1) * 0.5)

    def forward(self, x: Tensor, **kwargs) -> Tensor:
        return self.fn(x, **kwargs) * self.scale + x


class Body(nn.Module):
    def __init__(self, config: Config, inputs: int = 3):
        super().__init__()
        act = ACTIVATIONS[config.activation]
        self.stem = nn.Linear(inputs, config.width)
        self.blocks = nn.ModuleList(
            Residual(
                nn.Sequential(
                    nn.LayerNorm(config.width), nn.Linear(config.width, config.width), act()
                )
            )
            for _ in range(config.depth)
        )
        self.head = nn.Linear(config.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x).squeeze(-1)


class Trainer(abc.ABC):
    def __init__(self, model: nn.Module, config: Config):
        self.model = model
        self.config = config
        self.optimizer = self.configure()
        self.scheduler = LambdaLR(self.optimizer, self.factor)
        self.log: Dict[str, list] = {"loss": [], "lr": [], "norm": []}

    def configure(self):
        return optim.AdamW(self.model.parameters(), lr=self.config.lr, betas=self.config.betas)

    def factor(self, step: int) -> float:
        warmup, total = self.config.schedule["warmup"], self.config.schedule["total"]
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    @abc.abstractmethod
    def batch(self, step: int) -> Tuple[Tensor, Tensor]: ...

    def training_step(self, x: Tensor, y: Tensor) -> Tensor:
        pred = self.model(x)
        return ((pred - y) ** 2).mean()

    def step(self, step: int) -> float:
        self.model.train()
        x, y = self.batch(step)
        self.optimizer.zero_grad()
        loss = self.training_step(x, y)
        loss.backward()
        norm = torch.tensor(0.0)
        if self.config.clip is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.log["loss"].append(loss.item())
        self.log["norm"].append(float(norm))
        return loss.item()

    def fit(self):
        for step in range(self.config.schedule["total"]):
            self.step(step)
        return self.log


class Waves(Trainer):
    def batch(self, step):
        x = np.random.RandomState(step).randn(32, 3).astype(np.float32)
        y = np.sin(x).sum(axis=1)
        return torch.from_numpy(x), torch.from_numpy(y)


def build():
    return Body(Config())


def run(model):
    log = Waves(model, Config()).fit()
    return log["loss"] + log["norm"]
