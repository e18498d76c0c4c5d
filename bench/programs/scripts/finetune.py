"""Fine-tuning: a backbone that is frozen, then partly thawed; a head that is replaced."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = self.bn1(self.conv1(x))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.layer1 = BasicBlock(3, 6)
        self.layer2 = BasicBlock(6, 12, stride=2)
        self.fc = nn.Linear(12, num_classes)

    def forward(self, x):
        out = self.layer2(self.layer1(x))
        out = F.adaptive_avg_pool2d(out, (1, 1))
        return self.fc(torch.flatten(out, 1))


torch.manual_seed(0)
model = ResNet()
for param in model.parameters():
    param.requires_grad = False
model.fc = nn.Linear(model.fc.in_features, 3)

x = torch.randn(48, 3, 8, 8)
y = torch.randint(0, 3, (48,))
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.05, momentum=0.9)
for epoch in range(4):
    for i in range(0, 48, 12):
        optimizer.zero_grad()
        loss = criterion(model(x[i : i + 12]), y[i : i + 12])
        loss.backward()
        optimizer.step()
    print("head", epoch, loss.item())
