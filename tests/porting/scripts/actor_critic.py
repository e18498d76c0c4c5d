"""An actor and a critic in one network, lists of saved values, a sum of losses."""

from collections import namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

SavedAction = namedtuple("SavedAction", ["log_prob", "value"])


class Policy(nn.Module):
    """implements both actor and critic in one model"""

    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(4, 16)
        # actor's layer
        self.action_head = nn.Linear(16, 2)
        # critic's layer
        self.value_head = nn.Linear(16, 1)

    def forward(self, x):
        """forward of both actor and critic"""
        x = F.relu(self.affine1(x))
        action_prob = F.softmax(self.action_head(x), dim=-1)
        state_values = self.value_head(x)
        return action_prob, state_values


def finish_episode(model, optimizer, states, actions, rewards, gamma=0.99):
    R = 0
    saved_actions = []
    for state, action in zip(states, actions):
        probs, value = model(state)
        saved_actions.append(SavedAction(torch.log(probs[action]), value))
    policy_losses = []  # list to save actor (policy) loss
    value_losses = []  # list to save critic (value) loss
    returns = []
    for r in rewards[::-1]:
        R = r + gamma * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + 1e-6)
    for (log_prob, value), R in zip(saved_actions, returns):
        advantage = R - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([R])))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def build():
    return Policy()


def run(model):
    optimizer = optim.Adam(model.parameters(), lr=3e-2)
    draw = np.random.RandomState(0)
    history = []
    for i_episode in range(25):
        states = [torch.from_numpy(draw.randn(4).astype(np.float32)) for _ in range(5)]
        actions = [int(a) for a in draw.randint(0, 2, 5)]
        rewards = [float(r) for r in draw.randn(5)]
        history.append(10 + finish_episode(model, optimizer, states, actions, rewards))
    return history
