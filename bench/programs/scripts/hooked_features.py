"""Forward hooks collect what layers answer; the loss keeps it small."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(6, 12)
        self.layer2 = nn.Linear(12, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, x):
        x = torch.tanh(self.layer1(x))
        x = torch.tanh(self.layer2(x))
        return self.head(x)


features = {}


def get_features(name):
    def hook(module, inputs, output):
        features[name] = output

    return hook


torch.manual_seed(0)
net = Net()
net.layer1.register_forward_hook(get_features("layer1"))
handle = net.layer2.register_forward_hook(get_features("layer2"))
optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05)
x, y = torch.randn(60, 6), torch.randn(60, 1)
for step in range(30):
    optimizer.zero_grad()
    prediction = net(x)
    penalty = sum(value.pow(2).mean() for value in features.values())
    loss = F.mse_loss(prediction, y) + 0.01 * penalty
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(step, loss.item())
handle.remove()
