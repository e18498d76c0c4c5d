"""ConvNextModel in MLX, translated from transformers.models.convnext.modeling_convnext."""

import mlx.core as mx
import mlx.nn as nn


class ConvNextLayerNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = mx.zeros((size,))
        self.bias = mx.zeros((size,))

    def __call__(self, features):
        return mx.fast.layer_norm(features, self.weight, self.bias, 1e-06)


class ConvNextEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embeddings = nn.Conv2d(3, 8, (4, 4), stride=(4, 4))
        self.layernorm = ConvNextLayerNorm(8)

    def __call__(self, pixel_values):
        return self.layernorm(self.patch_embeddings(pixel_values))


class ConvNextLayer(nn.Module):
    def __init__(self, in_channels, output_dims):
        super().__init__()
        self.dwconv = nn.Conv2d(
            in_channels, in_channels, (7, 7), padding=(3, 3), groups=in_channels
        )
        self.layernorm = ConvNextLayerNorm(in_channels)
        self.pwconv1 = nn.Linear(in_channels, output_dims)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(output_dims, in_channels)
        self.layer_scale_parameter = mx.zeros((in_channels,))

    def __call__(self, features):
        features_2 = self.layer_scale_parameter * self.pwconv2(
            self.act(self.pwconv1(self.layernorm(self.dwconv(features))))
        )
        return features + features_2


class ConvNextStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [ConvNextLayer(8, 32) for _ in range(2)]

    def __call__(self, features):
        for layer in self.layers:
            features = layer(features)
        return features


class ConvNextStage2(nn.Module):
    def __init__(self, size, out_channels, output_dims):
        super().__init__()
        self.downsampling_layer = [
            ConvNextLayerNorm(size), nn.Conv2d(size, out_channels, (2, 2), stride=(2, 2))
        ]
        self.layers = [ConvNextLayer(out_channels, output_dims) for _ in range(2)]

    def __call__(self, features):
        features = self.downsampling_layer[1](self.downsampling_layer[0](features))
        for layer in self.layers:
            features = layer(features)
        return features


class ConvNextEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = [
            ConvNextStage(),
            ConvNextStage2(8, 16, 64),
            ConvNextStage2(16, 24, 96),
            ConvNextStage2(24, 32, 128),
        ]

    def __call__(self, hidden_states):
        for stage in self.stages:
            hidden_states = stage(hidden_states)
        return hidden_states


class ConvNextModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = ConvNextEmbeddings()
        self.encoder = ConvNextEncoder()
        self.layernorm = nn.LayerNorm(32, eps=1e-12)

    def __call__(self, pixel_values):
        encoder = self.encoder(self.embeddings(pixel_values.transpose(0, 2, 3, 1)))
        layernorm = self.layernorm(mx.mean(encoder, axis=(1, 2)))
        features = encoder.transpose(0, 3, 1, 2)
        return {"last_hidden_state": features, "pooler_output": layernorm}


def load(folder):
    """The model with the weights in a folder."""
    model = ConvNextModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
