"""Digits read row by row with a GRU; accuracy on what was held out; a plateau schedule."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset


class RNN(nn.Module):
    def __init__(self, input_size=8, hidden_size=16, num_classes=10):
        super(RNN, self).__init__()
        self.gru = nn.GRU(input_size, hidden_size, num_layers=2, bias=False, batch_first=True)
        self.ln = nn.LayerNorm(hidden_size)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x):
        r_out, h_n = self.gru(x, None)
        last = r_out[:, -1, :]
        return self.fc(self.ln(last))


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct, total = 0, 0
    for xb, yb in loader:
        preds = model(xb).argmax(-1)
        correct += int((preds == yb).sum())
        total += len(yb)
    model.train()
    return correct / total


def build():
    return RNN()


def run(rnn):
    bunch = load_digits()
    data = torch.as_tensor(bunch.images, dtype=torch.float32) / 16
    dataset = TensorDataset(data, torch.as_tensor(bunch.target, dtype=torch.int64))
    train = DataLoader(Subset(dataset, range(0, 640)), batch_size=32)
    test = DataLoader(Subset(dataset, range(640, 800)), batch_size=80)
    optimizer = torch.optim.Adam(rnn.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", 0.5, patience=0)
    loss_func = nn.CrossEntropyLoss()
    history = []
    for epoch in range(2):
        running = []
        for step, (b_x, b_y) in enumerate(train):
            output = rnn(b_x)
            loss = loss_func(output, b_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running.append(loss.item())
        scheduler.step(sum(running) / len(running))
        history += running
        history.append(1 + accuracy(rnn, test))
        history.append(optimizer.param_groups[0]["lr"])
    return history
