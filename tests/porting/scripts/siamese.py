"""A Siamese network: one encoder for two digits, a margin on their distance."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import Dataset


class SiameseNetwork(nn.Module):
    """A shared convolutional encoder and a head on what it says of both pictures."""

    def __init__(self):
        super(SiameseNetwork, self).__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
            nn.Conv2d(4, 8, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((2, 2)),
        )
        self.fc = nn.Sequential(nn.Linear(32, 16), nn.ReLU(inplace=True), nn.Linear(16, 8))
        self.cnn.apply(self.init_weights)
        self.fc.apply(self.init_weights)

    def init_weights(self, m):
        if isinstance(m, nn.Linear):
            torch.nn.init.xavier_uniform_(m.weight)
            m.bias.data.fill_(0.01)

    def forward_once(self, x):
        output = self.cnn(x)
        output = output.view(output.size()[0], -1)
        output = self.fc(output)
        return output

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        return output1, output2


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        euclidean_distance = F.pairwise_distance(output1, output2, keepdim=True)
        positive = (1 - label) * torch.pow(euclidean_distance, 2)
        negative = label * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2)
        loss_contrastive = torch.mean(positive + negative)
        return loss_contrastive


class Pairs(Dataset):
    def __init__(self, count=256):
        images, labels = load_digits(return_X_y=True)
        self.images = images.reshape(-1, 1, 8, 8).astype("float32") / 16
        self.labels = labels
        self.pairs = np.random.RandomState(5).randint(0, len(images), (count, 2))

    def __getitem__(self, index):
        a, b = self.pairs[index]
        different = np.array([int(self.labels[a] != self.labels[b])], dtype=np.float32)
        return self.images[a], self.images[b], torch.from_numpy(different)

    def __len__(self):
        return len(self.pairs)


def build():
    return SiameseNetwork()


def run(net):
    criterion = ContrastiveLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0005)
    dataloader = torch.utils.data.DataLoader(Pairs(), batch_size=16, num_workers=0)
    counter, loss_history = [], []
    for epoch in range(0, 3):
        for i, (img0, img1, label) in enumerate(dataloader, 0):
            optimizer.zero_grad()
            output1, output2 = net(img0, img1)
            loss_contrastive = criterion(output1, output2, label)
            loss_contrastive.backward()
            optimizer.step()
            loss_history.append(loss_contrastive.item())
    return loss_history
