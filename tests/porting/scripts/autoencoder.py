"""A script without functions: an autoencoder of digits, everything at the top."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
EPOCH = 2
BATCH_SIZE = 64
LR = 0.005
images = load_digits()["data"].astype("float32") / 16.0
train_data = torch.utils.data.TensorDataset(torch.tensor(images[:1024]))
train_loader = torch.utils.data.DataLoader(dataset=train_data, batch_size=BATCH_SIZE)


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 32),
            nn.Tanh(),
            nn.Linear(32, 3),
        )
        self.decoder = nn.Sequential(
            nn.Linear(3, 32),
            nn.Tanh(),
            nn.Linear(32, 64),
            nn.Sigmoid(),
        )

    def forward(self, x):
        encoded = self.encoder(x)
        decoded = self.decoder(encoded)
        return encoded, decoded


def build():
    return AutoEncoder()


def run(autoencoder):
    optimizer = torch.optim.Adam(
        list(autoencoder.encoder.parameters()) + list(autoencoder.decoder.parameters()), lr=LR
    )
    loss_func = nn.MSELoss()
    history = []
    for epoch in range(EPOCH):
        for step, (x,) in enumerate(train_loader):
            b_x = x.view(-1, 64)  # the picture
            b_y = x.view(-1, 64)  # what is to come out
            encoded, decoded = autoencoder(b_x)
            loss = loss_func(decoded, b_y)  # mean square error
            optimizer.zero_grad()  # clear gradients for this training step
            loss.backward()  # backpropagation, compute gradients
            optimizer.step()  # apply gradients
            history.append(loss.item())
    return history
