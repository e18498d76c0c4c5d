"""Feature matching with Gram matrices: hooks-free, a total variation term, several losses."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class ConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride):
        super(ConvLayer, self).__init__()
        reflection_padding = kernel_size // 2
        self.reflection_pad = nn.ReflectionPad2d(reflection_padding)
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride)

    def forward(self, x):
        out = self.reflection_pad(x)
        out = self.conv2d(out)
        return out


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super(ResidualBlock, self).__init__()
        self.conv1 = ConvLayer(channels, channels, kernel_size=3, stride=1)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = ConvLayer(channels, channels, kernel_size=3, stride=1)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)
        self.relu = nn.ReLU()

    def forward(self, x):
        residual = x
        out = self.relu(self.in1(self.conv1(x)))
        out = self.in2(self.conv2(out))
        out = out + residual
        return out


class UpsampleConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, upsample=None):
        super(UpsampleConvLayer, self).__init__()
        self.upsample = upsample
        self.conv = ConvLayer(in_channels, out_channels, kernel_size, stride)

    def forward(self, x):
        x_in = x
        if self.upsample:
            x_in = torch.nn.functional.interpolate(x_in, mode="nearest", scale_factor=self.upsample)
        return self.conv(x_in)


class TransformerNet(nn.Module):
    def __init__(self):
        super(TransformerNet, self).__init__()
        self.conv1 = ConvLayer(3, 6, kernel_size=3, stride=2)
        self.res1 = ResidualBlock(6)
        self.deconv = UpsampleConvLayer(6, 3, kernel_size=3, stride=1, upsample=2)

    def forward(self, X):
        y = F.relu(self.conv1(X))
        y = self.res1(y)
        return self.deconv(y)


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.slice1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.slice2 = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
        for param in self.parameters():
            param.requires_grad = False

    def forward(self, X):
        first = self.slice1(X)
        second = self.slice2(first)
        return first, second


def gram_matrix(y):
    (b, ch, h, w) = y.size()
    features = y.view(b, ch, w * h)
    features_t = features.transpose(1, 2)
    gram = features.bmm(features_t) / (ch * h * w)
    return gram


def build():
    return TransformerNet(), Features()


def run(transformer, vgg):
    optimizer = torch.optim.Adam(transformer.parameters(), 1e-3)
    mse_loss = torch.nn.MSELoss()
    draw = np.random.RandomState(0)
    style = torch.from_numpy(draw.rand(1, 3, 16, 16).astype(np.float32)).repeat(2, 1, 1, 1)
    features_style = vgg(style)
    gram_style = [gram_matrix(y) for y in features_style]
    history = []
    agg_content_loss = 0.0
    for batch_id in range(25):
        x = torch.from_numpy(draw.rand(2, 3, 16, 16).astype(np.float32))
        n_batch = len(x)
        optimizer.zero_grad()
        y = transformer(x)
        features_y = vgg(y)
        features_x = vgg(x)
        content_loss = mse_loss(features_y[1], features_x[1])
        style_loss = 0.0
        for ft_y, gm_s in zip(features_y, gram_style):
            gm_y = gram_matrix(ft_y)
            style_loss += mse_loss(gm_y, gm_s[:n_batch, :, :])
        style_loss *= 100.0
        variation = torch.mean(torch.abs(y[:, :, :, 1:] - y[:, :, :, :-1]))
        total_loss = content_loss + style_loss + 0.1 * variation
        total_loss.backward()
        optimizer.step()
        agg_content_loss += content_loss.item()
        history += [total_loss.item(), content_loss.item(), agg_content_loss]
    return history
