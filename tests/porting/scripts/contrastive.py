"""Pictures and words in one space: a learned temperature, a loss in both directions."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Projection(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.projection = nn.Linear(dim_in, dim_out)
        self.gelu = nn.GELU()
        self.fc = nn.Linear(dim_out, dim_out)
        self.layer_norm = nn.LayerNorm(dim_out)

    def forward(self, x):
        projected = self.projection(x)
        x = self.fc(self.gelu(projected))
        x += projected
        return self.layer_norm(x)


class CLIP(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        self.text = nn.EmbeddingBag(20, 12, mode="mean")
        self.image_projection = Projection(64, dim)
        self.text_projection = Projection(12, dim)
        self.logit_scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))

    def forward(self, image, text):
        image_features = self.image_projection(self.image(image))
        text_features = self.text_projection(self.text(text))
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        text_features = text_features / text_features.norm(dim=-1, keepdim=True)
        logit_scale = self.logit_scale.exp().clamp(max=100)
        logits_per_image = logit_scale * image_features @ text_features.t()
        return logits_per_image, logits_per_image.t()


def build():
    return CLIP()


def run(model):
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    draw = np.random.RandomState(0)
    history = [1.0 + len(decay) * 0]
    for step in range(30):
        images = torch.from_numpy(draw.rand(8, 1, 8, 8).astype(np.float32))
        texts = torch.from_numpy(draw.randint(0, 20, (8, 5)))
        logits_per_image, logits_per_text = model(images, texts)
        labels = torch.arange(len(images), device=images.device)
        loss_i = F.cross_entropy(logits_per_image, labels)
        loss_t = F.cross_entropy(logits_per_text, labels)
        loss = (loss_i + loss_t) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history += [loss.item(), model.logit_scale.item()]
    return history
