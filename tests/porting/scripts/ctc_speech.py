"""Speech frames to letters: convolution, a bidirectional GRU, CTC."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class SpeechModel(nn.Module):
    def __init__(self, n_feats, hidden, n_class):
        super().__init__()
        self.conv = nn.Conv1d(n_feats, hidden, 3, stride=1, padding=1)
        self.layer_norm = nn.LayerNorm(hidden)
        self.birnn = nn.GRU(
            input_size=hidden,
            hidden_size=hidden,
            num_layers=1,
            batch_first=True,
            bidirectional=True,
        )
        self.classifier = nn.Sequential(
            nn.Linear(hidden * 2, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, n_class)
        )

    def forward(self, x):
        x = self.conv(x)
        x = x.transpose(1, 2)
        x = F.gelu(self.layer_norm(x))
        x, _ = self.birnn(x)
        x = self.classifier(x)
        return x


def greedy_decode(output, blank=0):
    arg_maxes = torch.argmax(output, dim=2)
    decodes = []
    for args in arg_maxes:
        decode, last = [], None
        for index in args.tolist():
            if index != blank and index != last:
                decode.append(index)
            last = index
        decodes.append(decode)
    return decodes


def build():
    return SpeechModel(5, 8, 6)


def run(model):
    for name, parameter in model.named_parameters():
        pass
    criterion = nn.CTCLoss(blank=0, zero_infinity=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    draw = np.random.RandomState(0)
    losses = []
    for batch_idx in range(30):
        spectrograms = torch.tensor(draw.randn(3, 5, 20), dtype=torch.float)
        labels = torch.tensor(draw.randint(1, 6, (3, 4)), dtype=torch.long)
        input_lengths = torch.full((3,), 20, dtype=torch.long)
        label_lengths = torch.full((3,), 4, dtype=torch.long)
        output = model(spectrograms)
        output = F.log_softmax(output, dim=2)
        output = output.transpose(0, 1)  # (time, batch, n_class)
        loss = criterion(output, labels, input_lengths, label_lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    words = greedy_decode(output.transpose(0, 1).detach())
    losses.append(float(1 + len(words)))
    return losses
