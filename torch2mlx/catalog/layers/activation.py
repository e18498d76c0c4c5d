"""Activations: mlx.nn's where it computes the same, else the kit's."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, taken, twin

_KIT = "torch2mlx.kit.activations."
_PLAIN = {"ReLU": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "SiLU": "SiLU"}

#: torch layer -> (function of the kit, its options: argument -> attribute)
_OPTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "ELU": ("elu", {"alpha": "alpha"}),
    "CELU": ("celu", {"alpha": "alpha"}),
    "SELU": ("selu", {}),
    "GELU": ("gelu", {"approximate": "approximate"}),
    "ReLU6": ("relu6", {}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": "negative_slope"}),
    "RReLU": ("rrelu", {"lower": "lower", "upper": "upper"}),
    "Hardtanh": ("hardtanh", {"min_val": "min_val", "max_val": "max_val"}),
    "Hardsigmoid": ("hardsigmoid", {}),
    "Hardswish": ("hardswish", {}),
    "Hardshrink": ("hardshrink", {"lambd": "lambd"}),
    "Softshrink": ("softshrink", {"lambd": "lambd"}),
    "Softplus": ("softplus", {"beta": "beta", "threshold": "threshold"}),
    "Softsign": ("softsign", {}),
    "Tanhshrink": ("tanhshrink", {}),
    "Threshold": ("threshold", {"threshold": "threshold", "value": "value"}),
    "Mish": ("mish", {}),
    "LogSigmoid": ("logsigmoid", {}),
    "GLU": ("glu", {"axis": "dim"}),
}


@twin(*_PLAIN)
def plain(module: Any) -> Twin:
    """mlx.nn's class of the same name."""
    names = [cls.__name__ for cls in type(module).__mro__ if cls.__name__ in _PLAIN]
    return Twin(f"mlx.nn.{_PLAIN[names[0]]}")


@twin(*_OPTIONS)
def with_options(module: Any) -> Twin:
    """A function of the kit with the layer's options."""
    names = [cls.__name__ for cls in type(module).__mro__ if cls.__name__ in _OPTIONS]
    function, options = _OPTIONS[names[0]]
    return Twin(_KIT + function, taken(module, options))


@twin("Softmax", "LogSoftmax", "Softmin")
def softmax(module: Any) -> Twin:
    """A function of the kit, along the layer's axis (chosen by rank where there is none)."""
    names = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Softmin": "softmin"}
    found = next(names[cls.__name__] for cls in type(module).__mro__ if cls.__name__ in names)
    return Twin(_KIT + found, {"axis": module.dim})


@twin("Softmax2d")
def softmax2d(module: Any) -> Twin:
    """softmax over channels."""
    return Twin(_KIT + "softmax", {"axis": -1}, "channels_last")
