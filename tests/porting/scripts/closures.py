"""Two fits whose optimizers call a closure, defined in the loop and before it."""

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from sklearn.datasets import load_digits


class Sequence(nn.Module):
    """A recurrent net that is fed one number at a time."""

    def __init__(self, width=16):
        super().__init__()
        self.cell = nn.Linear(1 + width, width)
        self.linear = nn.Linear(width, 1)
        self.width = width

    def forward(self, input, future=0):
        outputs = []
        h_t = torch.zeros(input.size(0), self.width)
        output = None
        for input_t in input.split(1, dim=1):
            h_t = torch.tanh(self.cell(torch.cat([input_t, h_t], dim=1)))
            output = self.linear(h_t)
            outputs.append(output)
        for _ in range(future):
            h_t = torch.tanh(self.cell(torch.cat([output, h_t], dim=1)))
            output = self.linear(h_t)
            outputs.append(output)
        return torch.cat(outputs, dim=1)


def waves(rows=12, length=24):
    x = np.arange(length)[None] + np.arange(rows)[:, None] * 4
    return np.sin(x / 3.0).astype("float32")


def build():
    return Sequence(), nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))


def fit_waves(seq, steps):
    data = torch.from_numpy(waves())
    input, target = data[3:, :-1], data[3:, 1:]
    test_input, test_target = data[:3, :-1], data[:3, 1:]
    criterion = nn.MSELoss()
    optimizer = optim.SGD(seq.parameters(), lr=0.05, momentum=0.9)
    numbers = []
    for i in range(steps):

        def closure():
            optimizer.zero_grad()
            out = seq(input)
            loss = criterion(out, target)
            loss.backward()
            return loss

        current = optimizer.step(closure)
        numbers.append(current.item())
        # begin to predict, no need to track gradient here
        with torch.no_grad():
            future = 5
            pred = seq(test_input, future=future)
            numbers.append(criterion(pred[:, :-future], test_target).item())
    return numbers


def fit_digits(net, steps):
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:200] / 16.0, dtype=torch.float32)
    y = torch.tensor(labels[:200], dtype=torch.long)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    numbers = []

    def evaluate_and_step():
        """What the optimizer calls."""
        optimizer.zero_grad()
        logits = net(x)
        cost = nn.functional.cross_entropy(logits, y)
        cost.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        numbers.append((logits.argmax(dim=1) == y).float().mean().item())
        return cost

    for _ in range(steps):
        cost_now = optimizer.step(evaluate_and_step)
        numbers.append(cost_now.item())
    return numbers


def run(seq, net):
    return fit_waves(seq, 25) + fit_digits(net, 50)
