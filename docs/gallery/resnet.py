"""ResNetModel in MLX, translated from transformers.models.resnet.modeling_resnet."""

import mlx.nn as nn
from torch2mlx import kit


class ResNetConvLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 32, (7, 7), stride=(2, 2), padding=(3, 3), bias=False)
        self.normalization = nn.BatchNorm(32)
        self.activation = nn.ReLU()

    def __call__(self, hidden_states):
        return self.activation(
            self.normalization(self.convolution(hidden_states.transpose(0, 2, 3, 1)))
        )


class ResNetShortCut(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 1), stride=stride, bias=False)
        self.normalization = nn.BatchNorm(out_channels)

    def __call__(self, input):
        return self.normalization(self.convolution(input))


class ResNetConvLayer2(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, padding):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False
        )
        self.normalization = nn.BatchNorm(out_channels)
        self.activation = nn.ReLU()

    def __call__(self, hidden_states):
        return self.activation(self.normalization(self.convolution(hidden_states)))


class ResNetConvLayer3(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 1), bias=False)
        self.normalization = nn.BatchNorm(out_channels)

    def __call__(self, hidden_states):
        return self.normalization(self.convolution(hidden_states))


class ResNetEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = ResNetConvLayer()
        self.pooler = kit.Function(kit.pooling.max_pool, rank=2, kernel_size=3, stride=2, padding=1)

    def __call__(self, pixel_values):
        return self.pooler(self.embedder(pixel_values))


class ResNetBottleNeckLayer(nn.Module):
    def __init__(self, in_channels, out_channels, stride, out_channels_2):
        super().__init__()
        self.shortcut = ResNetShortCut(in_channels, out_channels, stride)
        self.layer = nn.Sequential(
            ResNetConvLayer2(in_channels, out_channels_2, (1, 1), (1, 1), (0, 0)),
            ResNetConvLayer2(out_channels_2, out_channels_2, (3, 3), stride, (1, 1)),
            ResNetConvLayer3(out_channels_2, out_channels),
        )
        self.activation = nn.ReLU()

    def __call__(self, hidden_state):
        return self.activation(self.layer(hidden_state) + self.shortcut(hidden_state))


class ResNetBottleNeckLayer2(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layer = nn.Sequential(
            ResNetConvLayer2(in_channels, out_channels, (1, 1), (1, 1), (0, 0)),
            ResNetConvLayer2(out_channels, out_channels, (3, 3), (1, 1), (1, 1)),
            ResNetConvLayer3(out_channels, in_channels),
        )
        self.activation = nn.ReLU()

    def __call__(self, hidden_state):
        return self.activation(self.layer(hidden_state) + hidden_state)


class ResNetStage(nn.Module):
    def __init__(self, in_channels, out_channels, stride, out_channels_2):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(in_channels, out_channels, stride, out_channels_2),
            ResNetBottleNeckLayer2(out_channels, out_channels_2),
            ResNetBottleNeckLayer2(out_channels, out_channels_2),
        )

    def __call__(self, input):
        hidden_state = input
        for layer in self.layers.layers:
            hidden_state = layer(hidden_state)
        return hidden_state


class ResNetStage2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(256, 512, (2, 2), 128),
            ResNetBottleNeckLayer2(512, 128),
            ResNetBottleNeckLayer2(512, 128),
            ResNetBottleNeckLayer2(512, 128),
        )

    def __call__(self, input):
        hidden_state = input
        for layer in self.layers.layers:
            hidden_state = layer(hidden_state)
        return hidden_state


class ResNetStage3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(512, 1024, (2, 2), 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
        )

    def __call__(self, input):
        hidden_state = input
        for layer in self.layers.layers:
            hidden_state = layer(hidden_state)
        return hidden_state


class ResNetEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = [
            ResNetStage(32, 256, (1, 1), 64),
            ResNetStage2(),
            ResNetStage3(),
            ResNetStage(1024, 2048, (2, 2), 512),
        ]

    def __call__(self, hidden_state):
        input = hidden_state
        for stage in self.stages:
            input = stage(input)
        return input


class ResNetModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = ResNetEmbeddings()
        self.encoder = ResNetEncoder()
        self.pooler = kit.Function(kit.pooling.adaptive_avg_pool, rank=2, output_size=(1, 1))

    def __call__(self, pixel_values):
        encoder = self.encoder(self.embedder(pixel_values))
        x = self.pooler(encoder).transpose(0, 3, 1, 2)
        x_2 = encoder.transpose(0, 3, 1, 2)
        return {"last_hidden_state": x_2, "pooler_output": x}


def load(folder):
    """The model with the weights in a folder."""
    model = ResNetModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
