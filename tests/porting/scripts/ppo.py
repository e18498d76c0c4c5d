"""Proximal policy optimisation on recorded episodes: a discrete and a continuous action."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, Normal, kl_divergence


class ActorCritic(nn.Module):
    def __init__(self, state_dim=6, hidden=16, choices=4, moves=2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(state_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()
        )
        self.choice = nn.Linear(hidden, choices)
        self.move = nn.Linear(hidden, moves)
        self.log_std = nn.Parameter(torch.zeros(moves) - 0.5)
        self.value = nn.Linear(hidden, 1)

    def forward(self, state):
        h = self.body(state)
        return self.choice(h), self.move(h), self.value(h).squeeze(-1)

    def distributions(self, state):
        logits, mean, value = self.forward(state)
        moves = Independent(Normal(mean, self.log_std.exp().expand_as(mean)), 1)
        return Categorical(logits=logits), moves, value


class Memory:
    def __init__(self, seed, steps=24):
        rng = np.random.RandomState(seed)
        self.states = torch.tensor(rng.randn(steps, 6), dtype=torch.float32)
        self.choices = torch.tensor(rng.randint(0, 4, steps))
        self.moves = torch.tensor(rng.randn(steps, 2) * 0.5, dtype=torch.float32)
        self.rewards = rng.rand(steps).tolist()
        self.done = [(i + 1) % 8 == 0 for i in range(steps)]


def advantages(memory, values, gamma=0.99, lam=0.95):
    result, running, after = [], 0.0, 0.0
    for i in reversed(range(len(memory.rewards))):
        if memory.done[i]:
            running, after = 0.0, 0.0
        delta = memory.rewards[i] + gamma * after - values[i]
        running = delta + gamma * lam * running
        after = values[i]
        result.insert(0, running)
    adv = torch.tensor(result)
    returns = adv + torch.tensor(values)
    return (adv - adv.mean()) / (adv.std() + 1e-8), returns


def build():
    return ActorCritic()


def run(model, updates=6, epochs=4, clip=0.2):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-5)
    history = []
    for update in range(updates):
        memory = Memory(update)
        with torch.no_grad():
            choice, moves, value = model.distributions(memory.states)
            old = choice.log_prob(memory.choices) + moves.log_prob(memory.moves)
            before = choice
        adv, returns = advantages(memory, value.tolist())
        for _ in range(epochs):
            choice, moves, value = model.distributions(memory.states)
            log_prob = choice.log_prob(memory.choices) + moves.log_prob(memory.moves)
            ratio = torch.exp(log_prob - old)
            surrogate = torch.min(ratio * adv, torch.clamp(ratio, 1 - clip, 1 + clip) * adv)
            entropy = choice.entropy().mean() + moves.entropy().mean()
            loss = -surrogate.mean() + 0.5 * F.mse_loss(value, returns) - 0.01 * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            history.append(loss.item())
        with torch.no_grad():
            choice, _, _ = model.distributions(memory.states)
            history.append(kl_divergence(before, choice).mean().item())
    return history
