"""What of torch's layers has another name or layout in MLX, or is not there: for ported code, which
reads it by torch's.

`torch2mlx.kit.weights` and `torch2mlx.kit.options` read and set it when the code runs; tests hold
the three together.
"""

from __future__ import annotations

_SIZES = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_RECURRENT = (
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size"),
)
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
_AVERAGE_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
_ATTENTION = ("embed_dim", "num_heads", "head_dim", "kdim", "vdim", "batch_first", "dropout")
_DIMS = (1, 2, 3)
#: Layers whose `weight` has another layout, or whose weights have other names.
TURNED: dict[str, tuple[str, ...]] = {
    **{f"Conv{n}d": ("weight",) for n in _DIMS},
    **{f"ConvTranspose{n}d": ("weight",) for n in _DIMS},
    "Bilinear": ("weight",),
}
#: Options that are read as attributes.
OPTIONS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features"),
    "Bilinear": ("in1_features", "in2_features", "out_features"),
    **{f"Conv{n}d": _SIZES for n in _DIMS},
    **{f"ConvTranspose{n}d": (*_SIZES, "output_padding") for n in _DIMS},
    **{f"BatchNorm{n}d": _NORM for n in _DIMS},
    **{f"InstanceNorm{n}d": _NORM for n in _DIMS},
    "SyncBatchNorm": _NORM,
    "GroupNorm": ("num_groups", "num_channels", "eps", "affine"),
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine"),
    "RMSNorm": ("normalized_shape", "eps", "elementwise_affine"),
    "Embedding": ("num_embeddings", "embedding_dim", "padding_idx"),
    "EmbeddingBag": ("num_embeddings", "embedding_dim", "padding_idx"),
    **dict.fromkeys(("RNN", "LSTM", "GRU"), _RECURRENT),
    **dict.fromkeys(("RNNCell", "LSTMCell", "GRUCell"), ("input_size", "hidden_size", "bias")),
    "MultiheadAttention": _ATTENTION,
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"), ("p",)),
    "PReLU": ("num_parameters",),
    "LeakyReLU": ("negative_slope",),
    "ELU": ("alpha",),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Softmin", "GLU"), ("dim",)),
    **{f"MaxPool{n}d": _MAX_POOL for n in _DIMS},
    **{f"AvgPool{n}d": _AVERAGE_POOL for n in _DIMS},
    **{f"Adaptive{kind}Pool{n}d": ("output_size",) for kind in ("Avg", "Max") for n in _DIMS},
    "Upsample": ("size", "scale_factor", "mode", "align_corners"),
}
#: Options that are the length of an axis of the weight.
SIZES = {
    "Linear": {"in_features": 1, "out_features": 0},
    "Embedding": {"num_embeddings": 0, "embedding_dim": 1},
}
