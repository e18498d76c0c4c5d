"""UNet in MLX, translated from tests.export.models."""

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit


class Residual(nn.Module):
    def __init__(self, num_channels, num_channels_2, shortcut):
        super().__init__()
        self.norm1 = kit.GroupNorm(4, num_channels)
        self.norm2 = kit.GroupNorm(4, num_channels_2)
        self.conv1 = nn.Conv2d(num_channels, num_channels_2, (3, 3), padding=(1, 1))
        self.conv2 = nn.Conv2d(num_channels_2, num_channels_2, (3, 3), padding=(1, 1))
        self.time = nn.Linear(16, num_channels_2)
        self.shortcut = shortcut

    def __call__(self, x, time):
        x_2 = self.conv1(nn.silu(self.norm1(x))) + self.time(nn.silu(time))[:, None, None]
        return self.conv2(nn.silu(self.norm2(x_2))) + self.shortcut(x)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, (3, 3), padding=(1, 1))
        self.down1 = Residual(8, 8, nn.Identity())
        self.down2 = Residual(8, 16, nn.Conv2d(8, 16, (1, 1)))
        self.pool = nn.Conv2d(16, 16, (3, 3), stride=(2, 2), padding=(1, 1))
        self.middle = Residual(16, 16, nn.Identity())
        self.up = kit.Function(kit.resample.interpolate, scale_factor=2.0)
        self.up1 = Residual(32, 8, nn.Conv2d(32, 8, (1, 1)))
        self.up2 = Residual(16, 8, nn.Conv2d(16, 8, (1, 1)))
        self.norm = kit.GroupNorm(4, 8)
        self.out = nn.Conv2d(8, 3, (3, 3), padding=(1, 1))

    def __call__(self, image, step):
        if step.shape[0] != image.shape[0]:
            raise ValueError(
                f"step.shape[0] is {step.shape[0]}, not {image.shape[0]} as image.shape[0]"
            )
        rates = mx.exp(mx.arange(8, dtype=mx.int64) * (-0.5))
        angles = step[:, None].astype(mx.float32) * rates[None]
        time = mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=-1)
        down1 = self.down1(self.stem(image.transpose(0, 2, 3, 1)), time)
        down2 = self.down2(down1, time)
        joined = mx.concatenate(
            [
                self.up1(
                    mx.concatenate([self.up(self.middle(self.pool(down2), time)), down2], axis=-1),
                    time,
                ),
                down1,
            ],
            axis=-1,
        )
        return self.out(nn.silu(self.norm(self.up2(joined, time)))).transpose(0, 3, 1, 2)


def load(folder):
    """The model with the weights in a folder."""
    model = UNet()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
