"""Options of layers, read from them as torch's layers give them."""

import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import torch.nn

import torch2mlx
from torch2mlx import kit
from torch2mlx.catalog.layers.turned import OPTIONS

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


#: What layers are made with, by the beginning of their names, longest first.
MADE = {
    "ConvTranspose": "2, 4, 3",
    "InstanceNorm": "3, affine=True",
    "MultiheadAttention": "4, 2",
    "LeakyReLU": "0.1",
    "Embedding": "5, 3",
    "LayerNorm": "3",
    "GroupNorm": "2, 4",
    "BatchNorm": "3",
    "Bilinear": "2, 3, 4",
    "SyncBatchNorm": "3",
    "Adaptive": "1",
    "Upsample": "scale_factor=2",
    "MaxPool": "2",
    "AvgPool": "2",
    "RMSNorm": "3",
    "Dropout": "0.25",
    "LogSoftmax": "dim=1",
    "Softm": "dim=1",
    "Linear": "4, 3",
    "Conv": "2, 4, 3",
    "PReLU": "3",
    "ELU": "0.5",
    "GLU": "1",
    "LSTM": "4, 3",
    "GRU": "4, 3",
    "RNN": "4, 3",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_that_ports_read_is_there(name):
    made = next(given for head, given in MADE.items() if name.startswith(head))
    theirs, here = eval(f"nn.{name}({made})", {"nn": torch.nn}), {}
    source = f"import torch.nn as nn\nmade = nn.{name}({made})\n"
    exec(torch2mlx.port(source).source, here)
    for option in OPTIONS[name]:
        found = kit.options.of(here["made"], option)
        assert found == pytest.approx(getattr(theirs, option)), option
