"""A project's whole trainer: data, model, smoothing, EMA, accumulation, early stopping, files."""

import argparse
import copy
import os
import random
import tempfile
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset


def set_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


class AverageMeter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


class Digits(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray, train: bool = True):
        self.images = images.astype(np.float32) / 16.0
        self.labels = labels.astype(np.int64)
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i) -> Dict[str, torch.Tensor]:
        image = torch.from_numpy(self.images[i]).unsqueeze(0)
        return {"image": image, "label": torch.tensor(self.labels[i]), "index": i}


def collate(batch: List[Dict[str, torch.Tensor]]):
    images = torch.stack([b["image"] for b in batch], dim=0)
    labels = torch.stack([b["label"] for b in batch])
    return {"image": images, "label": labels, "index": torch.tensor([b["index"] for b in batch])}


class SEBlock(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Net(nn.Module):
    def __init__(self, num_classes: int = 10, p: float = 0.0):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.1, inplace=True),
            SEBlock(8),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, kernel_size=3, padding=1),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
        )
        self.dropout = nn.Dropout(p)
        self.classifier = nn.Linear(16, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.constant_(m.bias, 0)
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = x.mean([2, 3])
        return self.classifier(self.dropout(x))


class LabelSmoothing(nn.Module):
    def __init__(self, smoothing=0.1):
        super().__init__()
        self.confidence = 1.0 - smoothing
        self.smoothing = smoothing

    def forward(self, x, target):
        logprobs = F.log_softmax(x, dim=-1)
        nll_loss = -logprobs.gather(dim=-1, index=target.unsqueeze(1))
        nll_loss = nll_loss.squeeze(1)
        smooth_loss = -logprobs.mean(dim=-1)
        loss = self.confidence * nll_loss + self.smoothing * smooth_loss
        return loss.mean()


class ModelEMA:
    def __init__(self, model, decay=0.9):
        self.module = copy.deepcopy(model)
        self.module.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for e, m in zip(self.module.parameters(), model.parameters()):
            e.mul_(self.decay).add_(m.detach(), alpha=1 - self.decay)


class EarlyStopping:
    def __init__(self, patience=3):
        self.patience = patience
        self.best: Optional[float] = None
        self.counter = 0
        self.best_state = None

    def step(self, loss: float, model: nn.Module) -> bool:
        if self.best is None or loss < self.best:
            self.best = loss
            self.counter = 0
            self.best_state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
        return self.counter >= self.patience


def train_one_epoch(model, loader, criterion, optimizer, device, accumulation=2, clip=1.0):
    model.train()
    meter = AverageMeter()
    optimizer.zero_grad()
    for i, batch in enumerate(loader):
        images = batch["image"].to(device, non_blocking=True)
        labels = batch["label"].to(device, non_blocking=True)
        outputs = model(images)
        loss = criterion(outputs, labels)
        (loss / accumulation).backward()
        if (i + 1) % accumulation == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        meter.update(loss.item(), images.size(0))
    return meter.avg


@torch.no_grad()
def evaluate(model, loader, criterion, device) -> Tuple[float, float]:
    model.eval()
    losses, preds, targets = [], [], []
    for batch in loader:
        images, labels = batch["image"].to(device), batch["label"].to(device)
        outputs = model(images)
        losses.append(criterion(outputs, labels).item())
        preds.append(outputs.argmax(dim=1).cpu().numpy())
        targets.append(labels.cpu().numpy())
    preds, targets = np.concatenate(preds), np.concatenate(targets)
    return float(np.mean(losses)), accuracy_score(targets, preds)


def build():
    return Net()


def run(model, epochs=13):
    set_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    digits = load_digits()
    train_set = Digits(digits.images[:192], digits.target[:192])
    val_set = Digits(digits.images[200:264], digits.target[200:264], train=False)
    train_loader = DataLoader(
        train_set, batch_size=32, shuffle=False, collate_fn=collate, drop_last=True, num_workers=0
    )
    val_loader = DataLoader(val_set, batch_size=32, shuffle=False, collate_fn=collate)
    model = model.to(device)
    criterion = LabelSmoothing(0.1).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-2)
    scheduler = ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=1)
    stopper = EarlyStopping(patience=20)
    ema = ModelEMA(model)
    out, start = [], 0
    path = os.path.join(tempfile.mkdtemp(), "ckpt.pt")
    for epoch in range(start, epochs):
        train_loss = train_one_epoch(model, train_loader, criterion, optimizer, device)
        val_loss, acc = evaluate(model, val_loader, criterion, device)
        scheduler.step(val_loss)
        ema.update(model)
        out += [train_loss, val_loss, optimizer.param_groups[0]["lr"]]
        print(f"epoch {epoch:03d} train {train_loss:.4f} val {val_loss:.4f} acc {acc:.3f}")
        if stopper.step(val_loss, model):
            break
        torch.save({"epoch": epoch, "model": model.state_dict(), "best": stopper.best}, path)
    checkpoint = torch.load(path, map_location="cpu")
    model.load_state_dict(checkpoint["model"])
    model.load_state_dict(stopper.best_state)
    out += list(evaluate(model, val_loader, criterion, device)) + [checkpoint["epoch"]]
    out += list(evaluate(ema.module, val_loader, criterion, device))
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    print(run(build(), args.epochs))
