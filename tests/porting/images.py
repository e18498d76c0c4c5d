"""Networks for images and sequences in the ways that people write them; CASES has their inputs."""

from collections import OrderedDict
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

CASES = {}


def case(*shapes):
    def note(cls):
        CASES[cls.__name__] = shapes
        return cls

    return note


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=2):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


def conv_bn(inp, oup, stride=1, act=nn.ReLU6, norm_layer=nn.BatchNorm2d):
    layers = [nn.Conv2d(inp, oup, 3, stride, 1, bias=False)]
    if norm_layer is not None:
        layers.append(norm_layer(oup))
    layers += [act()]
    return nn.Sequential(*layers)


class ConvBNReLU(nn.Sequential):
    def __init__(self, inp, oup, groups=1):
        super().__init__(
            nn.Conv2d(inp, oup, 3, padding=1, groups=groups, bias=False),
            nn.BatchNorm2d(oup),
            nn.ReLU6(inplace=True),
        )


@case((2, 3, 9, 7))
class MobileNet(nn.Module):
    """Blocks with expansions, residuals, squeeze and excite, activations of the file."""

    class Block(nn.Module):
        pass

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 8, 2), ConvBNReLU(8, 8, groups=8), SqueezeExcite(8), Swish()
        )
        self.head = conv_bn(8, 6, act=nn.SiLU, norm_layer=None)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x):
        x = self.features(x)
        x = self.head(x) + 0
        x = x.mean([2, 3])
        return self.classifier(x)


@case((2, 4, 6, 6))
class DenseBlock(nn.Module):
    """A list of features that grows."""

    def __init__(self, channels=4, growth=3):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(3):
            self.layers.append(
                nn.Sequential(
                    nn.BatchNorm2d(channels + i * growth),
                    nn.ReLU(),
                    nn.Conv2d(channels + i * growth, growth, 3, padding=1),
                )
            )

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            new = layer(torch.cat(features, dim=1))
            features.append(new)
        return torch.cat(features, 1)


@case((2, 3, 16, 16))
class Pyramid(nn.Module):
    """Several scales, added from the top; a list of results."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)])
        self.lateral = nn.ModuleList([nn.Conv2d(c, 5, 1) for c in (4, 6)])

    def _upsample_add(self, x, y):
        _, _, h, w = y.shape
        return F.interpolate(x, size=(h, w), mode="nearest") + y

    def forward(self, x):
        found = []
        for i, conv in enumerate(self.down):
            x = F.relu(conv(x))
            found.append(self.lateral[i](x))
        results = [found[-1]]
        for level in found[:-1][::-1]:
            results.insert(0, self._upsample_add(results[0], level))
        return results


@case((2, 3, 8, 8), (2, 7))
class TimeBlock(nn.Module):
    """A block of a diffusion model: norm first, time added to every place, attention."""

    def __init__(self, channels=4):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.norm1 = nn.GroupNorm(2, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(7, channels)
        self.norm2 = nn.GroupNorm(2, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.qkv = nn.Conv2d(channels, channels * 3, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def attend(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=1)
        q = q.reshape(b, c, h * w).transpose(1, 2)
        k = k.reshape(b, c, h * w)
        v = v.reshape(b, c, h * w).transpose(1, 2)
        y = torch.softmax(q @ k * c**-0.5, dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, c, h, w))

    def forward(self, x, t):
        x = self.stem(x)
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(t)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        x = x + h
        return x + self.attend(x)


@case((2, 5, 11))
class Sequence(nn.Module):
    """Convolutions over time of what comes time first."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(11, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.dense = nn.Linear(6, 6)
        self.norm2 = nn.BatchNorm1d(6)
        self.slopes = nn.PReLU(6)

    def forward(self, x):
        y = x.permute(0, 2, 1)
        y = self.slopes(self.norm(self.conv(y)))
        y = y.transpose(1, 2)
        pooled = F.max_pool1d(y.permute(0, 2, 1), y.size(1)).squeeze(2)
        return y, self.norm2(self.dense(pooled))


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


@case((2, 3, 8, 8))
class Mixer(nn.Module):
    """Wrappers around modules that they are given; OrderedDict; a patch embedding."""

    def __init__(self, dim=6, depth=2):
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(
                [("conv", nn.Conv2d(3, dim, 2, 2)), ("act", nn.GELU()), ("bn", nn.BatchNorm2d(dim))]
            )
        )
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(
                    Residual(
                        nn.Sequential(nn.Conv2d(dim, dim, 3, groups=dim, padding="same"), nn.GELU())
                    ),
                    nn.Conv2d(dim, dim, 1),
                    nn.BatchNorm2d(dim),
                )
                for i in range(depth)
            ]
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(dim, 4))

    def forward(self, x):
        x = self.blocks(self.stem(x))
        tokens = x.flatten(2).transpose(1, 2)
        return self.head(x), tokens


@case((2, 3, 8, 8))
class Cbam(nn.Module):
    """Attention over channels and over places."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.mlp = nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1))
        self.place = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        avg = self.mlp(torch.mean(x, dim=(2, 3), keepdim=True))
        top = self.mlp(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(avg + top)
        avg = torch.mean(x, dim=1, keepdim=True)
        top, _ = torch.max(x, dim=1, keepdim=True)
        mask = torch.sigmoid(self.place(torch.cat([avg, top], dim=1)))
        return x * mask, x.amax(dim=-1), x.sum(3).sum(2), F.softmax(x, dim=1)


@case((2, 6))
class Decoder(nn.Module):
    """From a vector to an image."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 4 * 2 * 3),
            nn.Unflatten(1, (4, 2, 3)),
            nn.ConvTranspose2d(4, 3, 4, 2, 1),
            nn.ReLU(True),
            nn.Upsample(scale_factor=2),
            nn.ReflectionPad2d(1),
            nn.Conv2d(3, 4, 3),
            nn.PixelShuffle(2),
        )

    def forward(self, z):
        return torch.tanh(self.net(z))


@case((2, 3, 6, 6))
class Switches(nn.Module):
    """Branches, a loop over what may be there, layers by their classes, a wrapped norm."""

    def __init__(self, norm=partial(nn.BatchNorm2d, eps=1e-3), pool=True):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)])
        self.norms = nn.ModuleList([norm(3) if i != 1 else nn.Identity() for i in range(3)])
        self.pool = nn.MaxPool2d(2) if pool else None
        self.skip = nn.Conv2d(3, 3, 1, stride=2)
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 0.5)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        identity = x
        out = None
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.1)
            out = x if out is None else out + x
        if self.pool is not None:
            out = self.pool(out)
        if out.shape[1:] != identity.shape[1:]:
            identity = self.skip(identity)
        out += identity
        rows = out[:, :, 0]
        return out, rows, out.view(out.size(0), -1)


class Stem(nn.Module):
    """Used by two networks, by one of them before what is no image."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return x, x.shape[-2:]


@case((2, 3, 5, 6))
class Tokens(nn.Module):
    """A network that leaves images at once."""

    def __init__(self):
        super().__init__()
        self.stem = Stem(4)
        self.norm = nn.LayerNorm(4)
        self.back = nn.Conv2d(4, 2, 1)
        self.gamma = nn.Parameter(torch.full((1, 2, 1, 1), 0.5))
        self.scale = nn.Parameter(torch.full((2, 1, 1), 1.5))

    def forward(self, x):
        x, (h, w) = self.stem(x)
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        image = tokens.permute(0, 2, 1).reshape(x.shape[0], -1, h, w)
        y = self.back(image)
        y = y.permute(0, 2, 3, 1)
        y = y.permute(0, 3, 1, 2) * self.gamma + self.back(x) * self.scale
        return y.clamp(min=0), tokens


@case((2, 3, 5, 6))
class Twice(nn.Module):
    """A module that is called here and from outside of its class."""

    def __init__(self):
        super().__init__()
        self.inner = Tokens()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())

    def encode(self, x):
        return self.features(x)

    def forward(self, x):
        one = self.inner.stem.conv(x)
        return one, self.encode(x), self.features[0](x)


@case((1, 2, 4, 5, 6))
class Volume(nn.Module):
    """Three spatial axes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.up = nn.ConvTranspose3d(4, 2, 2, 2)

    def forward(self, x):
        y = self.up(F.max_pool3d(F.relu(self.norm(self.conv(x))), 2))
        y = F.pad(y, (0, 1, 1, 0))
        a, b = torch.split(y, 1, dim=1)
        return torch.cat([a, b * 2], dim=-1), y.mean(dim=(2, 3, 4)), y.size(3)


def block(in_feat, out_feat, normalize=True):
    layers = [nn.Conv2d(in_feat, out_feat, 3, padding=1)]
    if normalize:
        layers.append(nn.InstanceNorm2d(out_feat, affine=True))
    layers.append(nn.LeakyReLU(0.2, inplace=True))
    return layers


@case((2, 3, 8, 8), (2, 3, 8, 8))
class Pairs(nn.Module):
    """Two images, joined; layers from a function's list; named by add_module."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(*block(6, 4, False), *block(4, 4), nn.ZeroPad2d((1, 0, 1, 0)))
        self.add_module("last", nn.Conv2d(4, 1, 4, padding=1, bias=False))

    def forward(self, img_a, img_b):
        both = torch.cat((img_a, img_b), 1)
        out = self.last(self.model(both))
        return out.squeeze(1), torch.where(out > 0, out, out * 0.1).flatten(1)


class Norm(nn.Module):
    """A layer that takes what it gets, wrapped."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(2, channels)

    def forward(self, x):
        return self.norm(x)


class Slopes(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.slopes = nn.Parameter(torch.linspace(0.1, 0.9, channels))

    def forward(self, x):
        return F.prelu(x, self.slopes)


@case((2, 3, 4, 4))
class Wrapped(nn.Module):
    """The same wrapped layers for images, for vectors and for sequences."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm1, self.norm2 = Norm(4), Norm(4)
        self.slopes = Slopes(4)
        self.body = nn.Sequential(Norm(4), nn.Conv2d(4, 4, 1), Slopes(4))
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.slopes(self.norm1(self.conv(x)))
        y = self.body(x)
        vectors = self.slopes(self.norm2(self.fc(y.mean(dim=(2, 3)))))
        rows = self.slopes(x.flatten(2))
        return y, vectors, rows


@case((2, 4, 4, 4))
class PreNorm(nn.Module):
    """Norms first, in a Sequential and without."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU())
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(self.head(x)) + x
