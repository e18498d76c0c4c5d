"""Averages of weights: a target network, an EMA, pairs of parameters from zip."""

import copy
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = nn.Linear(4, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class EMA:
    def __init__(self, model, decay=0.9):
        self.module = copy.deepcopy(model)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for e, m in zip(self.module.parameters(), model.parameters()):
            e.data.mul_(self.decay).add_(m.detach(), alpha=1 - self.decay)


def soft_update(target, source, tau=0.1):
    for tp, sp in zip(target.parameters(), source.parameters()):
        tp.data.copy_(tau * sp.data + (1.0 - tau) * tp.data)


def hard(target, source):
    for (n, tp), sp in zip(target.named_parameters(), source.parameters()):
        if "bias" in n:
            tp.data = sp.data.clone()


def build():
    return Net()


def run(net):
    target = copy.deepcopy(net)
    ema = EMA(net)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.sin(torch.arange(12.0)).view(4, 3)
    out = []
    for i in range(25):
        with torch.no_grad():
            y = target(x) * 0.9 + 0.1
        loss = ((net(x) - y) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        soft_update(target, net)
        ema.update(net)
        if i == 12:
            hard(target, net)
        out += [loss.item(), target(x).sum().item(), ema.module(x).sum().item()]
    return out
