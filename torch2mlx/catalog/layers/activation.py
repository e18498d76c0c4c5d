"""Activations: mlx.nn's where it computes the same, gradients at kinks included, else the kit's."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Twin, layer, made_of

_KIT = "torch2mlx.kit.activations."

for _name in ("ReLU", "Sigmoid", "Tanh", "SiLU"):
    layer(
        _name,
        made_of(f"mlx.nn.{_name}"),
        mlx="mlx.nn.{name}",
        source="nn",
        bare=True,
    )


def _activation(
    name: str, function: str, names: str = "", native: str = "", bare: bool = False
) -> None:
    """An entry of a function of the kit that treats every item alike."""
    make = made_of(_KIT + function, names)
    native = native or f"mlx.nn.{name}"
    layer(name, make, mlx=_KIT + function, native=native, bare=bare)


_activation("ReLU6", "relu6", bare=True)
_activation("SELU", "selu", bare=True)
_activation("Mish", "mish", bare=True)
_activation("LogSigmoid", "logsigmoid", bare=True)
_activation("Softsign", "softsign", bare=True)
_activation("ELU", "elu", "alpha")
_activation("CELU", "celu", "alpha")
_activation("GELU", "gelu", "approximate")
_activation("LeakyReLU", "leaky_relu", "negative_slope")
_activation("RReLU", "rrelu", "lower upper", "mlx.nn.leaky_relu")
_activation("Hardtanh", "hardtanh", "min_val max_val", "mlx.nn.HardTanh")
_activation("Hardsigmoid", "hardsigmoid", native="mlx.core.clip")
_activation("Hardswish", "hardswish")
_activation("Hardshrink", "hardshrink", "lambd", "mlx.nn.HardShrink")
_activation("Softshrink", "softshrink", "lambd")
_activation("Softplus", "softplus", "beta threshold")
_activation("Tanhshrink", "tanhshrink", native="mlx.core.tanh")
_activation("Threshold", "threshold", "threshold value", "mlx.core.where")

layer("GLU", made_of(_KIT + "glu", axis="dim"), mlx=_KIT + "glu", native="mlx.nn.GLU")
for _name, _function in (
    ("Softmax", "softmax"),
    ("LogSoftmax", "log_softmax"),
    ("Softmin", "softmin"),
):
    # along the layer's axis, which is chosen by rank where there is none
    layer(
        _name,
        made_of(_KIT + _function, axis="dim"),
        mlx=_KIT + _function,
        native="mlx.nn.{name}",
    )


def softmax2d(module: Any) -> Twin:
    """softmax over channels."""
    return Twin(_KIT + "softmax", {"axis": -1}, "channels_last")


layer("Softmax2d", softmax2d, mlx=_KIT + "softmax", native="mlx.core.softmax", images="rigid")
