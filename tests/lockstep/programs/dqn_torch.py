"""Q-learning on stored transitions, against a target network that is copied now and then."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


class Q(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(4, 24)
        self.l2 = nn.Linear(24, 3)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


states, following = torch.randn(100, 4), torch.randn(100, 4)
actions, rewards = torch.randint(0, 3, (100,)), torch.randn(100)
policy, target = Q(), Q()
target.load_state_dict(policy.state_dict())
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3, amsgrad=False)
for step in range(8):
    rows = torch.randint(0, 100, (16,))
    values = policy(states[rows]).gather(1, actions[rows][:, None]).squeeze(1)
    with torch.no_grad():
        ahead = target(following[rows]).max(1).values
    loss = F.huber_loss(values, rewards[rows] + 0.9 * ahead)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(policy.parameters(), 0.01)
    optimizer.step()
    if step % 2 == 1:
        target.load_state_dict(policy.state_dict())
