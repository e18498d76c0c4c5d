"""Images: convolutions, batch norm, pooling; SGD with momentum, weight decay and a schedule."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

draw = np.random.RandomState(0)
images = draw.rand(32, 3, 8, 8).astype(np.float32)
labels = draw.randint(0, 4, 32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 2 * 2, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.avg_pool2d(F.leaky_relu(self.bn2(self.conv2(x)), 0.1), 2)
        return self.fc(torch.flatten(x, 1))


net = Net()
optimizer = torch.optim.SGD(
    net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2, nesterov=True
)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
for epoch in range(6):
    net.train()
    for i in range(0, 32, 16):
        x, y = torch.from_numpy(images[i : i + 16]), torch.from_numpy(labels[i : i + 16])
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    scheduler.step()
    net.eval()
    with torch.no_grad():
        print(
            epoch, F.cross_entropy(net(torch.from_numpy(images)), torch.from_numpy(labels)).item()
        )
