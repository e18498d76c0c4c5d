"""A Transformer encoder that classifies padded sequences, with a warmed-up rate."""

import torch
import torch.nn as nn


class Classifier(nn.Module):
    def __init__(self, vocab=30, width=16, classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, width, padding_idx=0)
        self.pos = nn.Parameter(torch.zeros(1, 10, width))
        layer = nn.TransformerEncoderLayer(
            width, nhead=2, dim_feedforward=32, dropout=0.1, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens):
        mask = tokens == 0
        x = self.embed(tokens) + self.pos[:, : tokens.size(1)]
        x = self.encoder(x, src_key_padding_mask=mask)
        x = x.masked_fill(mask.unsqueeze(-1), 0.0).sum(1) / (~mask).sum(1, keepdim=True)
        return self.head(x)


def warmup(step, steps=10):
    return min(1.0, (step + 1) / steps)


torch.manual_seed(0)
tokens = torch.randint(1, 30, (64, 10))
lengths = torch.randint(3, 11, (64,))
tokens[torch.arange(10)[None, :] >= lengths[:, None]] = 0
labels = tokens.sum(1) % 3
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.98), eps=1e-9)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=warmup)
criterion = nn.CrossEntropyLoss()
for epoch in range(5):
    for start in range(0, 64, 16):
        optimizer.zero_grad()
        logits = model(tokens[start : start + 16])
        loss = criterion(logits, labels[start : start + 16])
        loss.backward()
        optimizer.step()
        scheduler.step()
    print(epoch, loss.item())
