"""Activations under torch and torch.nn.functional."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

#: Functions of one array that the kit has with torch's arguments.
_OF_THE_KIT = (
    "celu",
    "elu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "mish",
    "relu6",
    "rrelu",
    "selu",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
)

ENTRIES = (
    *(
        op(f"nn.functional.{name}", same=f"kit.activations.{name}", layout="elementwise")
        for name in _OF_THE_KIT
    ),
    *(
        op(
            f"nn.functional.{name}",
            same=f"kit.activations.{name}",
            layout="elementwise",
            also=f"kit.kinks.{name}",
        )
        for name in ("hardtanh", "leaky_relu", "threshold")
    ),
    op(
        ".relu",
        "input | nn.relu({input})",
        mlx="maximum",
        note="mlx.nn.relu",
        layout="elementwise",
        also="kit.kinks.relu",
    ),
    op("nn.functional.relu", "input | nn.relu({input})", layout="elementwise"),
    op("nn.functional.sigmoid", "input | mx.sigmoid({input})", layout="elementwise"),
    op("nn.functional.tanh", "input | mx.tanh({input})", layout="elementwise"),
    op("nn.functional.silu", "input | nn.silu({input})", layout="elementwise"),
    op(
        "nn.functional.gelu",
        "input approximate | kit.activations.gelu({input}«, {approximate}»)",
        same="kit.activations.gelu",
        also="nn.gelu nn.gelu_approx",
        layout="elementwise",
    ),
    op(
        "nn.functional.softmax",
        "input dim _stacklevel dtype | mx.softmax({input}«.astype({dtype})», axis={dim|-1})",
        mlx="kit.activations.softmax",
        same="kit.activations.softmax",
        layout="along",
    ),
    op(
        "nn.functional.log_softmax",
        "input dim _stacklevel dtype | nn.log_softmax({input}«.astype({dtype})», axis={dim|-1})",
        mlx="kit.activations.log_softmax",
        same="kit.activations.log_softmax",
        layout="along",
    ),
    op(
        "nn.functional.softmin",
        "input dim | mx.softmax(-{input!}, axis={dim|-1})",
        mlx="kit.activations.softmin",
        same="kit.activations.softmin",
    ),
    op(
        "nn.functional.logsigmoid",
        "input | nn.log_sigmoid({input})",
        mlx="kit.activations.logsigmoid",
        same="kit.activations.logsigmoid",
        layout="elementwise",
    ),
    op(
        "nn.functional.glu",
        "input dim | kit.activations.glu({input}«, axis={dim}»)",
        same="kit.activations.glu",
    ),
)
