"""A mean teacher: an average of weights that the student should agree with."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.bn = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(F.relu(self.bn(self.fc1(x))))


class EMA:
    def __init__(self, model, decay=0.95):
        self.module = copy.deepcopy(model)
        self.module.eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ema_p, p in zip(self.module.parameters(), model.parameters()):
            ema_p.mul_(self.decay).add_(p, alpha=1 - self.decay)
        for ema_b, b in zip(self.module.buffers(), model.buffers()):
            ema_b.copy_(b)


def sigmoid_rampup(current, length=20):
    phase = 1.0 - min(current, length) / length
    return float(2.718281828 ** (-5.0 * phase * phase))


torch.manual_seed(0)
labeled, targets = torch.randn(40, 6), torch.randint(0, 3, (40,))
unlabeled = torch.randn(160, 6)
student = Net()
ema = EMA(student)
optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
for step in range(40):
    i, j = (step * 10) % 40, (step * 20) % 160
    xl, yl, xu = labeled[i : i + 10], targets[i : i + 10], unlabeled[j : j + 20]
    noisy = xu + 0.05 * torch.randn_like(xu)
    logits = student(torch.cat([xl, noisy]))
    sup = F.cross_entropy(logits[:10], yl)
    with torch.no_grad():
        teacher = F.softmax(ema.module(xu), dim=1)
    cons = F.mse_loss(F.softmax(logits[10:], dim=1), teacher)
    loss = sup + 10 * sigmoid_rampup(step) * cons
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ema.update(student)
    if step % 10 == 0:
        print(step, sup.item(), cons.item())
