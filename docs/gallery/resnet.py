"""ResNetModel in MLX, translated from transformers.models.resnet.modeling_resnet."""

import mlx.nn as nn
from torch2mlx import kit


class ResNetConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, activation):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False
        )
        self.normalization = nn.BatchNorm(out_channels)
        self.activation = activation

    def __call__(self, hidden_states):
        return self.activation(self.normalization(self.convolution(hidden_states)))


class ResNetShortCut(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 1), stride=stride, bias=False)
        self.normalization = nn.BatchNorm(out_channels)

    def __call__(self, input):
        return self.normalization(self.convolution(input))


class ResNetEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = ResNetConvLayer(3, 32, (7, 7), (2, 2), (3, 3), nn.ReLU())
        self.pooler = kit.Function(kit.pooling.max_pool, rank=2, kernel_size=3, stride=2, padding=1)

    def __call__(self, pixel_values):
        return self.pooler(self.embedder(pixel_values))


class ResNetBottleNeckLayer(nn.Module):
    def __init__(self, shortcut, in_channels, out_channels, stride, out_channels_2):
        super().__init__()
        self.shortcut = shortcut
        self.layer = nn.Sequential(
            ResNetConvLayer(in_channels, out_channels, (1, 1), (1, 1), (0, 0), nn.ReLU()),
            ResNetConvLayer(out_channels, out_channels, (3, 3), stride, (1, 1), nn.ReLU()),
            ResNetConvLayer(out_channels, out_channels_2, (1, 1), (1, 1), (0, 0), nn.Identity()),
        )
        self.activation = nn.ReLU()

    def __call__(self, hidden_state):
        return self.activation(self.layer(hidden_state) + self.shortcut(hidden_state))


class ResNetStage(nn.Module):
    def __init__(self, shortcut, in_channels, out_channels, stride, out_channels_2):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(shortcut, in_channels, out_channels, stride, out_channels_2),
            ResNetBottleNeckLayer(
                nn.Identity(), out_channels_2, out_channels, (1, 1), out_channels_2
            ),
            ResNetBottleNeckLayer(
                nn.Identity(), out_channels_2, out_channels, (1, 1), out_channels_2
            ),
        )

    def __call__(self, input):
        for layer in self.layers.layers:
            input = layer(input)
        return input


class ResNetStage2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(ResNetShortCut(256, 512, (2, 2)), 256, 128, (2, 2), 512),
            *[ResNetBottleNeckLayer(nn.Identity(), 512, 128, (1, 1), 512) for _ in range(3)],
        )

    def __call__(self, input):
        for layer in self.layers.layers:
            input = layer(input)
        return input


class ResNetStage3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(ResNetShortCut(512, 1024, (2, 2)), 512, 256, (2, 2), 1024),
            *[ResNetBottleNeckLayer(nn.Identity(), 1024, 256, (1, 1), 1024) for _ in range(5)],
        )

    def __call__(self, input):
        for layer in self.layers.layers:
            input = layer(input)
        return input


class ResNetEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = [
            ResNetStage(ResNetShortCut(32, 256, (1, 1)), 32, 64, (1, 1), 256),
            ResNetStage2(),
            ResNetStage3(),
            ResNetStage(ResNetShortCut(1024, 2048, (2, 2)), 1024, 512, (2, 2), 2048),
        ]

    def __call__(self, hidden_state):
        for stage in self.stages:
            hidden_state = stage(hidden_state)
        return hidden_state


class ResNetModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = ResNetEmbeddings()
        self.encoder = ResNetEncoder()
        self.pooler = kit.Function(kit.pooling.adaptive_avg_pool, rank=2, output_size=(1, 1))

    def __call__(self, pixel_values):
        encoder = self.encoder(self.embedder(pixel_values.transpose(0, 2, 3, 1)))
        x = self.pooler(encoder).transpose(0, 3, 1, 2)
        x_2 = encoder.transpose(0, 3, 1, 2)
        return {"last_hidden_state": x_2, "pooler_output": x}


def load(folder):
    """The model with the weights in a folder."""
    model = ResNetModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
