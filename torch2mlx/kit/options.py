"""What layers of torch tell of themselves as attributes: sizes, strides, rates.

MLX's layers keep few of these; most are read from the shapes of their weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import mlx.nn as nn

from torch2mlx.kit import (
    activations,
    attention,
    channels_last,
    conv,
    embedding,
    layers,
    norm,
    recurrent,
)

Options = Mapping[str, Callable[[Any], Any]]


def _each(layer: Any, value: Any) -> Any:
    """A number as torch keeps it, one for each spatial axis."""
    return (value,) * (layer.weight.ndim - 2) if isinstance(value, int) else value


def _sized(name: str) -> Callable[[Any], Any]:
    return lambda layer: _each(layer, getattr(layer, name, 1))


def _inputs(layer: Any) -> int:
    weight = layer.weight
    return int(weight.shape[-1]) * layer._groups


_LINEAR: Options = {
    "in_features": lambda m: m.weight.shape[1],
    "out_features": lambda m: m.weight.shape[0],
}
_BILINEAR: Options = {
    "in1_features": lambda m: m.weight.shape[2],
    "in2_features": lambda m: m.weight.shape[1],
    "out_features": lambda m: m.weight.shape[0],
}
_KERNEL: Options = {
    "out_channels": lambda m: m.weight.shape[0],
    "kernel_size": lambda m: tuple(m.weight.shape[1:-1]),
}
_CONV: Options = {
    **_KERNEL,
    "in_channels": _inputs,
    "stride": lambda m: m._stride,
    "dilation": lambda m: m._dilation,
    "padding": lambda m: m._padding,
    "groups": lambda m: m._groups,
}
_MLX_CONV: Options = {
    **_KERNEL,
    "in_channels": lambda m: m.weight.shape[-1] * getattr(m, "groups", 1),
    "groups": lambda m: getattr(m, "groups", 1),
    **{name: _sized(name) for name in ("stride", "dilation", "padding", "output_padding")},
}
_NORMALIZER: Options = {
    "eps": lambda m: m._eps,
    "momentum": lambda m: m._momentum,
    "affine": lambda m: "weight" in m,
    "track_running_stats": lambda m: "running_mean" in m,
    "num_features": lambda m: m.weight.shape[0] if "weight" in m else m.running_mean.shape[0],
}
_EMBEDDING: Options = {
    "num_embeddings": lambda m: m.weight.shape[0],
    "embedding_dim": lambda m: m.weight.shape[1],
    "padding_idx": lambda m: getattr(m, "_padding", None),
}


def _gates(layer: Any) -> Any:
    """A recurrent layer's own weights, of its first part."""
    first = layer
    if "layers" in layer:
        first = layer["layers"][0]
        first = first["forward"] if isinstance(first, dict) and "forward" in first else first
    return first["Wx"] if "Wx" in first else first["Wxh"]


_RECURRENT: Options = {
    "input_size": lambda m: _gates(m).shape[1],
    "hidden_size": lambda m: m._hidden,
    "num_layers": lambda m: m._depth,
    "bias": lambda m: m._bias,
    "batch_first": lambda m: m._batch_first,
    "dropout": lambda m: m._dropout,
    "bidirectional": lambda m: m._both,
    "proj_size": lambda m: m._projection,
}
_CELL: Options = {
    "input_size": lambda m: _gates(m).shape[1],
    "hidden_size": lambda m: m._layer_of[0]._hidden,
    "bias": lambda m: m._layer_of[0]._bias,
}
_ATTENTION: Options = {
    "embed_dim": lambda m: m.out_proj.weight.shape[0],
    "num_heads": lambda m: m._heads,
    "head_dim": lambda m: m.out_proj.weight.shape[0] // m._heads,
    "kdim": lambda m: m.key_proj.weight.shape[1],
    "vdim": lambda m: m.value_proj.weight.shape[1],
    "batch_first": lambda m: m._batch_first,
    "dropout": lambda m: m._dropout,
}
_SHAPE: Options = {
    "normalized_shape": lambda m: m._shape,
    "eps": lambda m: m._eps,
    "elementwise_affine": lambda m: "weight" in m,
}
_GROUPS: Options = {
    "num_groups": lambda m: m._groups,
    "num_channels": lambda m: m.weight.shape[0],
    "eps": lambda m: m._eps,
    "affine": lambda m: "weight" in m,
}
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
_AVERAGE_POOL = (
    *("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
)
_TABLE: tuple[tuple[Any, Options], ...] = (
    (nn.Linear, _LINEAR),
    (nn.Bilinear, _BILINEAR),
    (conv.CONVOLUTIONS, _CONV),
    (conv.TRANSPOSED, {**_CONV, "output_padding": lambda m: m._more}),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _MLX_CONV),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _MLX_CONV),
    (norm._Normalizer, _NORMALIZER),
    ((layers.Embedding, embedding.Embedding, embedding.EmbeddingBag, nn.Embedding), _EMBEDDING),
    (recurrent.LAYERS, _RECURRENT),
    (recurrent.CELLS, _CELL),
    (attention.MultiheadAttention, _ATTENTION),
    ((norm.LayerNorm, norm.RMSNorm), _SHAPE),
    (norm.GroupNorm, _GROUPS),
    (activations.PReLU, {"num_parameters": lambda m: m.weight.shape[0]}),
    (channels_last.ChannelDropout, {"p": lambda m: m._p}),
    ((nn.Dropout, nn.Dropout2d, nn.Dropout3d), {"p": lambda m: 1 - m._p_1}),
)
#: Layers that are a function, by the ends of their names -> what their arguments are, in order.
_FUNCTIONS = {
    **dict.fromkeys(("MaxPool1d", "MaxPool2d", "MaxPool3d"), _MAX_POOL),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d", "AvgPool3d"), _AVERAGE_POOL),
    **{f"Adaptive{kind}Pool{n}d": ("output_size",) for kind in ("Avg", "Max") for n in (1, 2, 3)},
    "Upsample": ("size", "scale_factor", "mode", "align_corners"),
    "PixelShuffle": ("upscale_factor",),
    "PixelUnshuffle": ("downscale_factor",),
}
#: What these have that was not given.
_DEFAULTS = {
    **{"padding": 0, "dilation": 1, "return_indices": False, "ceil_mode": False},
    **{"count_include_pad": True, "divisor_override": None, "align_corners": None},
    **{"size": None, "scale_factor": None, "mode": "nearest", "inplace": False},
}


def _of_function(layer: Any, name: str) -> Any:
    """An option of a layer that is a function with the arguments of its constructor."""
    found = _given_to(layer, name)
    one = type(layer).__name__ == "AvgPool1d" and name in ("kernel_size", "stride", "padding")
    return (found,) if one and isinstance(found, int) else found  # which torch keeps as tuples


def _given_to(layer: Any, name: str) -> Any:
    order = _FUNCTIONS.get(type(layer).__name__, ())
    given = {**dict(zip(order, layer._args, strict=False)), **layer._kwargs}
    if name in given and not (name == "stride" and given[name] is None):
        return given[name]
    if name == "stride" and "kernel_size" in given:
        return given["kernel_size"]
    if name in order and name in _DEFAULTS:
        return _DEFAULTS[name]
    raise AttributeError(f"{type(layer).__name__} keeps no {name}")


def _of_plain(layer: Any, name: str) -> Any:
    """The same of a layer of kit.layers, whose function has the options as arguments."""
    key = "axis" if name == "dim" else name
    if key in layer._given:
        return layer._given[key]
    parameters = inspect.signature(type(layer)._function).parameters
    if key not in parameters or parameters[key].default is inspect.Parameter.empty:
        raise AttributeError(f"{type(layer).__name__} keeps no {name}")
    return parameters[key].default


def of(layer: Any, name: str) -> Any:
    """An option that a layer was made with, as torch's layer has it under this name; an attribute
    of that name of what is no layer. Raises AttributeError where it is not known."""
    for kind, table in _TABLE:
        if isinstance(layer, kind) and name in table:
            return table[name](layer)
    if isinstance(layer, layers._Options):
        return _of_plain(layer, name)
    if isinstance(layer, channels_last.Options):
        return _of_function(layer, name)
    return getattr(layer, name)


def has(layer: Any, name: str) -> bool:
    """torch's `hasattr(layer, name)` of an option."""
    try:
        of(layer, name)
    except AttributeError:
        return False
    return True


def get(layer: Any, name: str, *default: Any) -> Any:
    """torch's `getattr(layer, name)` of an option, with a default where there is one."""
    return default[0] if default and not has(layer, name) else of(layer, name)


#: Options that may be set, by where layers keep them.
_SET = {"eps": "_eps", "momentum": "_momentum", "padding_idx": "_padding", "p": "_p"}


def put(layer: Any, name: str, value: Any) -> None:
    """Sets an option of a layer, or an attribute of what is no layer. Raises AttributeError for
    options that a layer only has from when it was made."""
    known = any(isinstance(layer, kind) and name in table for kind, table in _TABLE)
    if isinstance(layer, (nn.Dropout, nn.Dropout2d, nn.Dropout3d)) and name == "p":
        layer._p_1 = 1 - value
    elif known and hasattr(layer, _SET.get(name, name)):
        setattr(layer, _SET.get(name, name), value)
    elif known or isinstance(layer, (layers._Options, channels_last.Options)):
        raise AttributeError(f"{type(layer).__name__}: {name} cannot be set: make another layer")
    else:
        setattr(layer, name, value)
