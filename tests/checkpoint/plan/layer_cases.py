"""One row per layer kind and option that changes its weights: torch layer, MLX twin, inputs.

`run` calls the MLX layer with torch's inputs and answers in torch's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from torch import nn as tnn

from torch2mlx import kit


@dataclass(frozen=True)
class Case:
    name: str
    torch_layer: Callable[[], Any]
    mlx_layer: Callable[[], Any]
    shapes: tuple[tuple[int, ...], ...]
    run: Callable[..., Any] = lambda layer, *args: layer(*args)
    call: Callable[..., Any] = lambda layer, *args: layer(*args)
    integers: int = 0  # inputs are indices below this


def channels_last(x: mx.array) -> mx.array:
    return mx.moveaxis(x, 1, -1)


def spatial(layer: Any, x: mx.array) -> mx.array:
    """A channels-last layer on channels-first data."""
    return mx.moveaxis(layer(channels_last(x)), -1, 1)


def _convs() -> list[Case]:
    cases = []
    grids = {1: (9,), 2: (9, 8), 3: (7, 6, 5)}
    for n, grid in grids.items():
        torch_conv, torch_up = getattr(tnn, f"Conv{n}d"), getattr(tnn, f"ConvTranspose{n}d")
        mlx_conv, mlx_up = getattr(nn, f"Conv{n}d"), getattr(nn, f"ConvTranspose{n}d")
        kernel = (3, 2, 3)[:n]
        k = kernel[0] if n == 1 else kernel
        for groups in (1, 2, 4):
            if groups == 1 or n < 3:
                twin = lambda f=mlx_conv, k=k, g=groups, n=n: f(
                    4, 8, k, stride=2, padding=1, **({"groups": g} if n < 3 else {})
                )
            else:
                twin = lambda k=k, g=groups: kit.Conv3d(4, 8, k, 2, 1, groups=g)
            cases.append(
                Case(
                    f"Conv{n}d groups={groups}",
                    lambda f=torch_conv, k=k, g=groups: f(4, 8, k, 2, 1, groups=g),
                    twin,
                    ((2, 4, *grid),),
                    spatial,
                )
            )
            up = getattr(kit, f"ConvTranspose{n}d")
            cases.append(
                Case(
                    f"ConvTranspose{n}d groups={groups}",
                    lambda f=torch_up, k=k, g=groups: f(4, 8, k, 2, 1, groups=g),
                    (lambda f=up, k=k, g=groups: f(4, 8, k, 2, 1, groups=g))
                    if groups > 1
                    else (lambda f=mlx_up, k=k: f(4, 8, k, stride=2, padding=1)),
                    ((2, 4, *grid),),
                    spatial,
                )
            )
        cases.append(
            Case(
                f"Conv{n}d bias=False",
                lambda f=torch_conv, k=k: f(4, 6, k, bias=False),
                lambda f=mlx_conv, k=k: f(4, 6, k, bias=False),
                ((2, 4, *grid),),
                spatial,
            )
        )
    return cases


def used(layer: Any, *shape: int) -> Any:
    """A normalisation whose running statistics are not the initial ones."""
    layer.train()
    with torch.no_grad():
        for _ in range(2):
            layer(torch.randn(shape) * 3 + 1)
    if getattr(layer, "weight", None) is not None:
        tnn.init.normal_(layer.weight)
        tnn.init.normal_(layer.bias)
    return layer


def _norms() -> list[Case]:
    cases = []
    for n, grid in {1: (7,), 2: (5, 6), 3: (3, 4, 5)}.items():
        shape = (4, 6, *grid)
        batch, instance = getattr(tnn, f"BatchNorm{n}d"), getattr(tnn, f"InstanceNorm{n}d")
        twin = nn.BatchNorm if n < 3 else kit.BatchNorm
        for affine in (True, False):
            cases.append(
                Case(
                    f"BatchNorm{n}d affine={affine}",
                    lambda f=batch, s=shape, a=affine: used(f(6, affine=a), *s),
                    lambda f=twin, a=affine: f(6, affine=a),
                    (shape,),
                    spatial,
                )
            )
        cases.append(
            Case(
                f"InstanceNorm{n}d affine",
                lambda f=instance: f(6, affine=True),
                lambda: nn.InstanceNorm(6, affine=True),
                (shape,),
                spatial,
            )
        )
        cases.append(
            Case(
                f"InstanceNorm{n}d running",
                lambda f=instance, s=shape: used(f(6, affine=True, track_running_stats=True), *s),
                lambda: kit.InstanceNorm(6, affine=True, track_running_stats=True),
                (shape,),
                spatial,
            )
        )
    cases += [
        Case(
            "BatchNorm1d no running",
            lambda: tnn.BatchNorm1d(6, track_running_stats=False),
            lambda: nn.BatchNorm(6, track_running_stats=False).train(),
            ((5, 6),),
            call=lambda layer, x: layer.train()(x),
            run=lambda layer, x: layer.train()(x),
        ),
        Case(
            "SyncBatchNorm",
            lambda: tnn.SyncBatchNorm.convert_sync_batchnorm(used(tnn.BatchNorm2d(6), 4, 6, 3, 3)),
            lambda: nn.BatchNorm(6),
            ((2, 6, 3, 3),),
            spatial,
        ),
        Case(
            "GroupNorm",
            lambda: tnn.GroupNorm(2, 6),
            lambda: nn.GroupNorm(2, 6, pytorch_compatible=True),
            ((2, 6, 5, 4),),
            spatial,
        ),
        Case("LayerNorm", lambda: tnn.LayerNorm(6), lambda: nn.LayerNorm(6), ((2, 5, 6),)),
        Case(
            "LayerNorm two dimensions",
            lambda: tnn.LayerNorm((5, 6)),
            lambda: nn.LayerNorm(30),
            ((2, 5, 6),),
            lambda layer, x: layer(x.reshape(2, 30)).reshape(2, 5, 6),
        ),
        Case(
            "LayerNorm bias=False",
            lambda: tnn.LayerNorm(6, bias=False),
            lambda: nn.LayerNorm(6, bias=False),
            ((2, 6),),
        ),
        Case("RMSNorm", lambda: tnn.RMSNorm(6, 1e-5), lambda: nn.RMSNorm(6, 1e-5), ((2, 5, 6),)),
        Case(
            "RMSNorm two dimensions",
            lambda: tnn.RMSNorm((5, 6), 1e-5),
            lambda: nn.RMSNorm(30, 1e-5),
            ((2, 5, 6),),
            lambda layer, x: layer(x.reshape(2, 30)).reshape(2, 5, 6),
        ),
    ]
    return cases


def _simple() -> list[Case]:
    return [
        Case("Linear", lambda: tnn.Linear(5, 7), lambda: nn.Linear(5, 7), ((3, 5),)),
        Case(
            "Linear bias=False",
            lambda: tnn.Linear(5, 7, bias=False),
            lambda: nn.Linear(5, 7, bias=False),
            ((3, 5),),
        ),
        Case(
            "Bilinear",
            lambda: tnn.Bilinear(5, 6, 3),
            lambda: nn.Bilinear(5, 6, 3),
            ((4, 5), (4, 6)),
        ),
        Case(
            "Embedding",
            lambda: tnn.Embedding(11, 6),
            lambda: nn.Embedding(11, 6),
            ((3, 4),),
            integers=11,
        ),
        *(
            Case(
                f"EmbeddingBag {mode}",
                lambda m=mode: tnn.EmbeddingBag(11, 6, mode=m),
                lambda m=mode: kit.EmbeddingBag(11, 6, m),
                ((3, 4),),
                integers=11,
            )
            for mode in ("sum", "mean", "max")
        ),
        Case("PReLU", lambda: tnn.PReLU(), lambda: nn.PReLU(), ((3, 4),)),
        Case("PReLU per channel", lambda: tnn.PReLU(4), lambda: nn.PReLU(4), ((3, 4, 5),), spatial),
        Case(
            "Sequential",
            lambda: tnn.Sequential(tnn.Linear(4, 5), tnn.ReLU(), tnn.Linear(5, 3)),
            lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
            ((2, 4),),
        ),
        Case(
            "Sequential in Sequential",
            lambda: tnn.Sequential(tnn.Sequential(tnn.Linear(4, 5)), tnn.Tanh()),
            lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 5)), nn.Tanh()),
            ((2, 4),),
        ),
    ]


class LinearLoss(nn.Module):
    """What torch.nn.LinearCrossEntropyLoss fuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 10, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        targets = mx.arange(x.shape[0]) % 10
        return nn.losses.cross_entropy(self.linear(x), targets, reduction="mean")


def _losses() -> list[Case]:
    def targets(x: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(x)) % 10

    return [
        Case(
            f"AdaptiveLogSoftmaxWithLoss head_bias={bias}",
            lambda b=bias: tnn.AdaptiveLogSoftmaxWithLoss(6, 10, [3, 6], 2.0, head_bias=b),
            lambda b=bias: kit.AdaptiveLogSoftmaxWithLoss(6, 10, [3, 6], 2.0, head_bias=b),
            ((12, 6),),
            run=lambda layer, x: layer(x, mx.arange(12) % 10),
            call=lambda layer, x: layer(x, targets(x)),
        )
        for bias in (False, True)
    ] + [
        Case(
            "LinearCrossEntropyLoss",
            lambda: tnn.LinearCrossEntropyLoss(6, 10),
            LinearLoss,
            ((12, 6),),
            call=lambda layer, x: layer(x, targets(x)),
        )
    ]


def _attention() -> list[Case]:
    def run(layer: Any, q: mx.array, k: mx.array, v: mx.array) -> Any:
        return layer(q, k, v)

    options = {
        "": {},
        "bias=False": {"bias": False},
        "kdim, vdim": {"kdim": 5, "vdim": 7},
        "add_bias_kv": {"add_bias_kv": True},
        "add_zero_attn": {"add_zero_attn": True},
        "batch_first": {"batch_first": True},
    }
    cases = [
        Case(
            f"MultiheadAttention {name}",
            lambda o=option: tnn.MultiheadAttention(8, 2, **o),
            lambda o=option: kit.MultiheadAttention(8, 2, **o),
            ((4, 3, 8), (4, 3, option.get("kdim", 8)), (4, 3, option.get("vdim", 8))),
            run,
        )
        for name, option in options.items()
    ]
    return [
        *cases,
        Case(
            "MultiheadAttention on mlx.nn",
            lambda: tnn.MultiheadAttention(8, 2, batch_first=True),
            lambda: nn.MultiHeadAttention(8, 2, bias=True),
            ((3, 4, 8), (3, 5, 8), (3, 5, 8)),
            call=lambda layer, *args: layer(*args)[0],
        ),
    ]


def _transformers() -> list[Case]:
    cases = []
    for options in ({}, {"norm_first": True}, {"activation": "gelu"}, {"bias": False}):
        text = ", ".join(f"{k}={v}" for k, v in options.items())
        sizes = {"dim_feedforward": 16, "dropout": 0.0, "batch_first": True, **options}
        cases += [
            Case(
                f"TransformerEncoderLayer {text}",
                lambda s=sizes: tnn.TransformerEncoderLayer(8, 2, **s),
                lambda s=sizes: kit.TransformerEncoderLayer(8, 2, **s),
                ((2, 5, 8),),
                call=lambda layer, x: layer.train()(x),
            ),
            Case(
                f"TransformerDecoderLayer {text}",
                lambda s=sizes: tnn.TransformerDecoderLayer(8, 2, **s),
                lambda s=sizes: kit.TransformerDecoderLayer(8, 2, **s),
                ((2, 4, 8), (2, 5, 8)),
                call=lambda layer, *args: layer.train()(*args),
            ),
        ]
    sizes = {"dim_feedforward": 16, "dropout": 0.0, "batch_first": True}
    layer = lambda: tnn.TransformerEncoderLayer(8, 2, **sizes)
    twin = lambda: kit.TransformerEncoderLayer(8, 2, **sizes)
    for norm in (False, True):
        cases.append(
            Case(
                f"TransformerEncoder norm={norm}",
                lambda n=norm: tnn.TransformerEncoder(
                    layer(), 2, tnn.LayerNorm(8) if n else None, enable_nested_tensor=False
                ),
                lambda n=norm: kit.TransformerEncoder(
                    [twin(), twin()], nn.LayerNorm(8) if n else None
                ),
                ((2, 5, 8),),
                call=lambda layer, x: layer.train()(x),
            )
        )
    cases.append(
        Case(
            "Transformer",
            lambda: tnn.Transformer(8, 2, 2, 2, **sizes),
            lambda: kit.Transformer(8, 2, 2, 2, **sizes),
            ((2, 5, 8), (2, 4, 8)),
            call=lambda layer, *args: layer.train()(*args),
        )
    )
    return cases


def _recurrent() -> list[Case]:
    cases = []
    grid = [
        {},
        {"bias": False},
        {"num_layers": 2},
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"num_layers": 3, "bias": False, "bidirectional": True},
    ]
    for kind in ("RNN", "LSTM", "GRU"):
        for options in grid + (
            [{"proj_size": 3}, {"proj_size": 3, "num_layers": 2, "bidirectional": True}]
            if kind == "LSTM"
            else []
        ):
            cases.append(
                Case(
                    f"{kind} {', '.join(f'{k}={v}' for k, v in options.items())}",
                    lambda f=getattr(tnn, kind), o=options: f(4, 6, **o),
                    lambda f=getattr(kit, kind), o=options: f(4, 6, **o),
                    ((5, 3, 4),),
                )
            )
        cases.append(
            Case(
                f"{kind} on mlx.nn",
                lambda f=getattr(tnn, kind): f(4, 6, batch_first=True),
                lambda f=getattr(nn, kind): f(4, 6),
                ((3, 5, 4),),
                run=lambda layer, x: (lambda y: y[0] if isinstance(y, tuple) else y)(layer(x)),
                call=lambda layer, x: layer(x)[0],
            )
        )
        cases.append(
            Case(
                f"{kind}Cell",
                lambda f=getattr(tnn, f"{kind}Cell"): f(4, 6),
                lambda f=getattr(nn, kind): f(4, 6),
                ((3, 4),),
                run=lambda layer, x: (lambda y: y[0] if isinstance(y, tuple) else y)(
                    layer(x[:, None])
                )[:, 0],
                call=lambda layer, x: (lambda y: y[0] if isinstance(y, tuple) else y)(layer(x)),
            )
        )
    cases.append(
        Case(
            "RNN relu",
            lambda: tnn.RNN(4, 6, 2, "relu"),
            lambda: kit.RNN(4, 6, 2, "relu"),
            ((5, 3, 4),),
        )
    )
    return cases


def _folded() -> list[Case]:
    old, new = tnn.utils, tnn.utils.parametrizations
    wraps = {
        "weight_norm hook": lambda m: _old_weight_norm(m),
        "weight_norm parametrize": new.weight_norm,
        "spectral_norm hook": old.spectral_norm,
        "spectral_norm parametrize": new.spectral_norm,
        "pruned": lambda m: __import__("torch.nn.utils.prune", fromlist=["x"]).l1_unstructured(
            m, "weight", 0.5
        ),
    }
    cases = []
    for name, wrap in wraps.items():
        cases += [
            Case(
                f"Linear {name}",
                lambda w=wrap: w(tnn.Linear(5, 7)),
                lambda: nn.Linear(5, 7),
                ((3, 5),),
            ),
            Case(
                f"Conv2d {name}",
                lambda w=wrap: w(tnn.Conv2d(4, 6, 3)),
                lambda: nn.Conv2d(4, 6, 3),
                ((2, 4, 6, 6),),
                spatial,
            ),
            Case(
                f"ConvTranspose1d {name}",
                lambda w=wrap: w(tnn.ConvTranspose1d(4, 6, 3)),
                lambda: nn.ConvTranspose1d(4, 6, 3),
                ((2, 4, 6),),
                spatial,
            ),
        ]
    cases.append(
        Case(
            "Linear orthogonal",
            lambda: new.orthogonal(tnn.Linear(5, 5)),
            lambda: nn.Linear(5, 5),
            ((3, 5),),
        )
    )
    return cases


def _old_weight_norm(module: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of the older form
        return tnn.utils.weight_norm(module)


CASES = [
    *_simple(),
    *_convs(),
    *_norms(),
    *_attention(),
    *_transformers(),
    *_recurrent(),
    *_folded(),
    *_losses(),
]


def leaves(value: Any) -> list[Any]:
    """The arrays of an output, in order."""
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return (
        [] if value is None else [np.asarray(value.detach() if hasattr(value, "detach") else value)]
    )
