"""Gradient accumulation, mixed precision, an average of the weights, checkpoints."""

import copy
import os
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split


class Sines(Dataset):
    def __init__(self, n):
        draw = np.random.RandomState(3)
        self.x = draw.rand(n, 1).astype(np.float32) * 6
        self.y = np.sin(self.x)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, idx):
        return {"x": torch.from_numpy(self.x[idx]), "y": torch.from_numpy(self.y[idx])}


class EMA:
    def __init__(self, model, decay):
        self.model = copy.deepcopy(model)
        self.decay = decay

    def update(self, model):
        state = model.state_dict()
        average = self.model.state_dict()
        for name in average:
            average[name] = self.decay * average[name] + (1 - self.decay) * state[name]
        self.model.load_state_dict(average)


class Trainer:
    def __init__(self, model, device):
        self.device = device
        self.model = model.to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=5e-3)
        self.criterion = nn.MSELoss()
        self.scaler = torch.amp.GradScaler(enabled=False)
        self.ema = EMA(model, 0.9)
        self.history = []

    def fit(self, loader, epochs, accumulation_steps=2):
        self.model.train()
        for epoch in range(epochs):
            self.optimizer.zero_grad()
            for i, batch in enumerate(loader):
                x, y = batch["x"].to(self.device), batch["y"].to(self.device)
                with torch.autocast("cpu", enabled=False):
                    pred = self.model(x)
                    loss = self.criterion(pred, y)
                    loss = loss / accumulation_steps
                self.scaler.scale(loss).backward()
                if (i + 1) % accumulation_steps == 0:
                    self.scaler.unscale_(self.optimizer)
                    torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                    self.optimizer.zero_grad()
                    self.ema.update(self.model)
                self.history.append(loss.item())

    @torch.no_grad()
    def evaluate(self, loader):
        self.ema.model.eval()
        total = 0.0
        for batch in loader:
            pred = self.ema.model(batch["x"])
            total += self.criterion(pred, batch["y"]).item() * len(batch["x"])
        return total / len(loader.dataset)

    def save(self, path):
        torch.save({"model": self.model.state_dict(), "epoch": 3, "history": self.history}, path)

    def load(self, path):
        checkpoint = torch.load(path, map_location=self.device)
        self.model.load_state_dict(checkpoint["model"])
        return checkpoint["epoch"]


def build():
    return nn.Sequential(
        nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)
    )


def run(model):
    trainer = Trainer(model, torch.device("cpu"))
    loader = DataLoader(Sines(128), batch_size=16, shuffle=False, drop_last=True)
    trainer.fit(loader, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.pt")
        trainer.save(path)
        epoch = trainer.load(path)
    return trainer.history + [trainer.evaluate(loader), float(epoch)]
