"""An autoencoder whose halves have optimizers of their own; the rate falls on plateaus."""

import torch
import torch.nn as nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 8), nn.ELU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 12))

    def forward(self, z):
        return self.net(z)


def evaluate(encoder, decoder, x):
    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        value = nn.functional.mse_loss(decoder(encoder(x)), x).item()
    encoder.train()
    decoder.train()
    return value


torch.manual_seed(0)
basis = torch.randn(3, 12)
train_x, val_x = torch.randn(120, 3) @ basis, torch.randn(30, 3) @ basis
encoder, decoder = Encoder(), Decoder()
enc_opt = torch.optim.RMSprop(encoder.parameters(), lr=5e-3, alpha=0.9)
dec_opt = torch.optim.Adam(decoder.parameters(), lr=1e-2)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(dec_opt, mode="min", factor=0.5, patience=1)
criterion = nn.SmoothL1Loss()
for epoch in range(10):
    for batch in train_x.chunk(4):
        enc_opt.zero_grad()
        dec_opt.zero_grad()
        loss = criterion(decoder(encoder(batch)), batch)
        loss.backward()
        enc_opt.step()
        dec_opt.step()
    val = evaluate(encoder, decoder, val_x)
    plateau.step(val)
    print(epoch, loss.item(), val)
