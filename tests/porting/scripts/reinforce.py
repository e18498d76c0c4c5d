"""REINFORCE: the log probabilities of an episode, weighted by what came after."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(4, 16)
        self.dropout = nn.Dropout(p=0.0)
        self.affine2 = nn.Linear(16, 2)
        self.saved_log_probs = []
        self.rewards = []

    def forward(self, x):
        x = self.affine1(x)
        x = self.dropout(x)
        x = F.relu(x)
        action_scores = self.affine2(x)
        return F.softmax(action_scores, dim=1)


def finish_episode(policy, optimizer, states, actions, rewards, eps):
    R = 0
    returns = []
    for r in rewards[::-1]:
        R = r + 0.9 * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    policy_loss = []
    for state, action, R in zip(states, actions, returns):
        probs = policy(state.unsqueeze(0))
        log_prob = torch.log(probs[0, action])
        policy_loss.append(-log_prob * R)
    optimizer.zero_grad()
    loss = torch.stack(policy_loss).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def build():
    return Policy()


def run(policy):
    optimizer = optim.Adam(policy.parameters(), lr=1e-2)
    eps = np.finfo(np.float32).eps.item()
    draw = np.random.RandomState(0)
    running_reward = 10
    history = []
    for i_episode in range(15):
        states, actions, rewards = [], [], []
        for t in range(6):
            state = torch.from_numpy(draw.randn(4).astype(np.float32))
            with torch.no_grad():
                probs = policy(state.unsqueeze(0))
            action = int(draw.rand() < probs[0, 1].item())
            states.append(state)
            actions.append(action)
            rewards.append(float(action == (state[0].item() > 0)))
        running_reward = 0.05 * sum(rewards) + (1 - 0.05) * running_reward
        history.append(10 + finish_episode(policy, optimizer, states, actions, rewards, eps))
        history.append(running_reward)
    return history
