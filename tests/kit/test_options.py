"""Options of layers, read from them as torch's layers give them."""

import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import torch.nn

import torch2mlx
from torch2mlx import kit

#: A layer of torch.nn -> names of its options.
LAYERS = {
    "nn.Linear(4, 3)": "in_features out_features",
    "nn.Conv1d(2, 4, 3, stride=2)": "in_channels out_channels kernel_size stride padding dilation",
    "nn.Conv2d(4, 6, (2, 3), 2, 1, groups=2)": "in_channels out_channels kernel_size stride padding"
    " dilation groups",
    "nn.Conv2d(4, 6, 3, padding='same')": "padding kernel_size",
    "nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2)": "in_channels out_channels kernel_size stride"
    " padding output_padding groups dilation",
    "nn.BatchNorm2d(3, momentum=0.2)": "num_features eps momentum affine track_running_stats",
    "nn.InstanceNorm1d(3, affine=True)": "num_features eps affine track_running_stats",
    "nn.GroupNorm(2, 4)": "num_groups num_channels eps affine",
    "nn.LayerNorm((3, 2), eps=1e-3)": "normalized_shape eps elementwise_affine",
    "nn.LayerNorm(3)": "normalized_shape eps elementwise_affine",
    "nn.Embedding(5, 3, padding_idx=1)": "num_embeddings embedding_dim padding_idx",
    "nn.Embedding(5, 3)": "num_embeddings embedding_dim padding_idx",
    "nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)": "input_size hidden_size num_layers"
    " bias batch_first dropout bidirectional proj_size",
    "nn.GRU(4, 3)": "input_size hidden_size num_layers bidirectional",
    "nn.RNN(4, 3)": "input_size hidden_size num_layers bidirectional",
    "nn.LSTMCell(4, 3)": "input_size hidden_size",
    "nn.MultiheadAttention(4, 2, kdim=3, vdim=5)": "embed_dim num_heads head_dim kdim vdim"
    " batch_first dropout",
    "nn.Dropout(0.25)": "p",
    "nn.Dropout2d(0.25)": "p",
    "nn.PReLU(3)": "num_parameters",
    "nn.LeakyReLU(0.2)": "negative_slope",
    "nn.ELU()": "alpha",
    "nn.Softmax(dim=1)": "dim",
    "nn.MaxPool2d(2)": "kernel_size stride padding dilation ceil_mode",
    "nn.AvgPool2d(3, stride=2, padding=1)": "kernel_size stride padding count_include_pad",
    "nn.AdaptiveAvgPool2d((1, 2))": "output_size",
    "nn.Upsample(scale_factor=2, mode='nearest')": "scale_factor mode size",
    "nn.Bilinear(2, 3, 4)": "in1_features in2_features out_features",
}


@pytest.mark.parametrize("layer", LAYERS)
def test_options_are_torchs(layer):
    theirs, here = eval(layer, {"nn": torch.nn}), {}
    exec(torch2mlx.port(f"import torch.nn as nn\nmade = {layer}\n").source, here)
    for name in LAYERS[layer].split():
        found = kit.options.of(here["made"], name)
        assert found == pytest.approx(getattr(theirs, name)), name


def test_what_is_no_layer_has_its_own_attributes():
    class Own:
        hidden_size = 3

    assert kit.options.of(Own(), "hidden_size") == 3
    with pytest.raises(AttributeError):
        kit.options.of(Own(), "other")
    with pytest.raises(AttributeError, match="MaxPool2d keeps no other"):
        kit.options.of(kit.channels_first.MaxPool2d(2), "other")
