"""A vision transformer on digits, with torch's own encoder layers."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    def __init__(self, in_channels: int, patch_size: int, emb_size: int, img_size: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            in_channels, emb_size, kernel_size=patch_size, stride=patch_size
        )
        num_patches = (img_size // patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, emb_size))
        self.pos_embed = nn.Parameter(torch.randn(1, num_patches + 1, emb_size) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        x = self.projection(x)
        x = x.flatten(2).transpose(1, 2)
        cls_tokens = self.cls_token.expand(b, -1, -1)
        x = torch.cat((cls_tokens, x), dim=1)
        return x + self.pos_embed


class ViT(nn.Module):
    def __init__(self, emb_size: int = 16, depth: int = 2, n_classes: int = 10) -> None:
        super().__init__()
        self.patches = PatchEmbedding(1, 2, emb_size, 8)
        layer = nn.TransformerEncoderLayer(
            emb_size, 2, dim_feedforward=32, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.norm = nn.LayerNorm(emb_size)
        self.head = nn.Linear(emb_size, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        x = self.encoder(x)
        return self.head(self.norm(x[:, 0]))


def build():
    return ViT()


def run(model):
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16.0
    y = torch.tensor(labels, dtype=torch.long)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    warmup = torch.optim.lr_scheduler.LinearLR(opt, start_factor=0.1, total_iters=5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=45)
    schedule = torch.optim.lr_scheduler.SequentialLR(opt, [warmup, cosine], milestones=[5])
    losses = []
    model.train()
    for i in range(50):
        idx = torch.arange(i * 16, i * 16 + 16)
        xb, yb = x[idx], y[idx]
        logits = model(xb)
        loss = loss_fn(logits, yb)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        opt.step()
        schedule.step()
        losses.append(loss.item())
        acc = (logits.argmax(dim=-1) == yb).float().mean()
        losses.append(1.0 + acc.item())
    return losses
