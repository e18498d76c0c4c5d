"""A U-Net for masks, with the Dice loss beside cross-entropy."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels, bilinear=True):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up = nn.ConvTranspose2d(
                in_channels // 2, in_channels // 2, kernel_size=2, stride=2
            )
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diff_y = x2.size()[2] - x1.size()[2]
        diff_x = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diff_x // 2, diff_x - diff_x // 2, diff_y // 2, diff_y - diff_y // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc = DoubleConv(1, 6)
        self.down = nn.Sequential(nn.MaxPool2d(2), DoubleConv(6, 12))
        self.up = Up(18, 6)
        self.outc = nn.Conv2d(6, 1, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down(x1)
        return self.outc(self.up(x2, x1))


def dice_loss(probs, target, smooth=1.0):
    inter = (probs * target).sum(dim=(1, 2, 3))
    return (
        1 - ((2 * inter + smooth) / (probs.sum((1, 2, 3)) + target.sum((1, 2, 3)) + smooth)).mean()
    )


torch.manual_seed(0)
images = torch.randn(24, 1, 13, 13)
masks = (F.avg_pool2d(images, 3, 1, 1) > 0).float()
model = UNet()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(5):
    model.train()
    for i in range(0, 24, 6):
        logits = model(images[i : i + 6])
        loss = criterion(logits, masks[i : i + 6])
        loss += dice_loss(torch.sigmoid(logits), masks[i : i + 6])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
