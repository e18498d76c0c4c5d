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
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(32, 256, (1, 1), bias=False)
        self.normalization = nn.BatchNorm(256)

    def __call__(self, pooler):
        return self.normalization(self.convolution(pooler))


class ResNetConvLayer2(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(32, 64, (1, 1), bias=False)
        self.normalization = nn.BatchNorm(64)
        self.activation = nn.ReLU()

    def __call__(self, pooler):
        return self.activation(self.normalization(self.convolution(pooler)))


class ResNetConvLayer3(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, in_channels, (3, 3), padding=(1, 1), bias=False)
        self.normalization = nn.BatchNorm(in_channels)
        self.activation = nn.ReLU()

    def __call__(self, activation):
        return self.activation(self.normalization(self.convolution(activation)))


class ResNetConvLayer4(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 1), bias=False)
        self.normalization = nn.BatchNorm(out_channels)

    def __call__(self, activation):
        return self.normalization(self.convolution(activation))


class ResNetConvLayer5(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 1), bias=False)
        self.normalization = nn.BatchNorm(out_channels)
        self.activation = nn.ReLU()

    def __call__(self, activation):
        return self.activation(self.normalization(self.convolution(activation)))


class ResNetShortCut2(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, 1), stride=(2, 2), bias=False)
        self.normalization = nn.BatchNorm(out_channels)

    def __call__(self, activation):
        return self.normalization(self.convolution(activation))


class ResNetConvLayer6(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, in_channels, (3, 3), stride=(2, 2), padding=(1, 1), bias=False
        )
        self.normalization = nn.BatchNorm(in_channels)
        self.activation = nn.ReLU()

    def __call__(self, activation):
        return self.activation(self.normalization(self.convolution(activation)))


class ResNetEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = ResNetConvLayer()
        self.pooler = kit.Function(kit.pooling.max_pool, rank=2, kernel_size=3, stride=2, padding=1)

    def __call__(self, pixel_values):
        return self.pooler(self.embedder(pixel_values))


class ResNetBottleNeckLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.shortcut = ResNetShortCut()
        self.layer = nn.Sequential(
            ResNetConvLayer2(), ResNetConvLayer3(64), ResNetConvLayer4(64, 256)
        )
        self.activation = nn.ReLU()

    def __call__(self, pooler):
        return self.activation(self.layer(pooler) + self.shortcut(pooler))


class ResNetBottleNeckLayer2(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layer = nn.Sequential(
            ResNetConvLayer5(in_channels, out_channels),
            ResNetConvLayer3(out_channels),
            ResNetConvLayer4(out_channels, in_channels),
        )
        self.activation = nn.ReLU()

    def __call__(self, activation):
        return self.activation(self.layer(activation) + activation)


class ResNetBottleNeckLayer3(nn.Module):
    def __init__(self, in_channels, out_channels, out_channels_2):
        super().__init__()
        self.shortcut = ResNetShortCut2(in_channels, out_channels)
        self.layer = nn.Sequential(
            ResNetConvLayer5(in_channels, out_channels_2),
            ResNetConvLayer6(out_channels_2),
            ResNetConvLayer4(out_channels_2, out_channels),
        )
        self.activation = nn.ReLU()

    def __call__(self, activation):
        return self.activation(self.layer(activation) + self.shortcut(activation))


class ResNetBottleNeckLayer4(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(
            ResNetConvLayer5(2048, 512), ResNetConvLayer3(512), ResNetConvLayer4(512, 2048)
        )
        self.activation = nn.ReLU()

    def __call__(self, activation):
        activation = self.activation(self.layer(activation) + activation)
        x = activation.transpose(0, 3, 1, 2)
        return activation, x


class ResNetStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer(),
            ResNetBottleNeckLayer2(256, 64),
            ResNetBottleNeckLayer2(256, 64),
        )

    def __call__(self, pooler):
        activation = pooler
        for layer in self.layers.layers:
            activation = layer(activation)
        return activation


class ResNetStage2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer3(256, 512, 128),
            ResNetBottleNeckLayer2(512, 128),
            ResNetBottleNeckLayer2(512, 128),
            ResNetBottleNeckLayer2(512, 128),
        )

    def __call__(self, activation):
        for layer in self.layers.layers:
            activation = layer(activation)
        return activation


class ResNetStage3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer3(512, 1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
            ResNetBottleNeckLayer2(1024, 256),
        )

    def __call__(self, activation):
        for layer in self.layers.layers:
            activation = layer(activation)
        return activation


class ResNetStage4(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            ResNetBottleNeckLayer3(1024, 2048, 512),
            ResNetBottleNeckLayer2(2048, 512),
            ResNetBottleNeckLayer4(),
        )

    def __call__(self, activation):
        activation = self.layers.layers[0](activation)
        activation = self.layers.layers[1](activation)
        activation, x = self.layers.layers[2](activation)
        return activation, x


class ResNetEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = [ResNetStage(), ResNetStage2(), ResNetStage3(), ResNetStage4()]

    def __call__(self, pooler):
        activation = pooler
        activation = self.stages[0](activation)
        activation = self.stages[1](activation)
        activation = self.stages[2](activation)
        activation, x = self.stages[3](activation)
        return activation, x


class ResNetModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = ResNetEmbeddings()
        self.encoder = ResNetEncoder()
        self.pooler = kit.Function(kit.pooling.adaptive_avg_pool, rank=2, output_size=(1, 1))

    def __call__(self, pixel_values):
        encoder, encoder_2 = self.encoder(self.embedder(pixel_values))
        x = self.pooler(encoder).transpose(0, 3, 1, 2)
        return {"last_hidden_state": encoder_2, "pooler_output": x}


def load(folder):
    """The model with the weights in a folder."""
    model = ResNetModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
