"""Every layer of torch.nn with every option, as cases: what to make and what to feed it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

Inputs = Callable[[], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Case:
    """`lead`: dimensions before the spatial ones (batch, channels). `modes`: eval, train."""

    name: str
    make: Callable[[], Any]
    inputs: Inputs
    modes: tuple[str, ...] = ("eval",)
    lead: int = 2
    gradients: bool = True
    halves: bool = True
    fixed: tuple[int, ...] = ()  # inputs that torch has no gradient for
    call: Callable[..., Any] = lambda layer, *args: layer(*args)


def randn(*shape: int) -> np.ndarray:
    return np.random.randn(*shape).astype(np.float32)


def with_ties(*shape: int) -> np.ndarray:
    """Values with many equal ones and zeros, as after a ReLU."""
    return np.maximum(np.round(np.random.randn(*shape) * 2) / 2, 0).astype(np.float32)


def product(**options: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """All combinations of option values."""
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


def text(options: dict[str, Any]) -> str:
    shown = {k: "tensor" if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def cases(
    cls: str, args: tuple[Any, ...], inputs: Inputs, grid: Iterator[dict[str, Any]], **more: Any
) -> list[Case]:
    """One case for each combination of options."""
    made = getattr(nn, cls)
    return [Case(f"{cls}({text(o)})", lambda o=o: made(*args, **o), inputs, **more) for o in grid]


GRIDS = {1: (11,), 2: (11, 10), 3: (9, 8, 7)}


def convolutions() -> list[Case]:
    found = []
    for n, grid in GRIDS.items():
        data = lambda g=grid: [randn(2, 4, *g)]
        single = lambda g=grid: [randn(4, *g)]
        found += cases(
            f"Conv{n}d",
            (4, 8, 3),
            data,
            product(
                stride=[1, 2], padding=[0, 1, 2], dilation=[1, 2], groups=[1, 2], bias=[True, False]
            ),
        )
        found += cases(
            f"Conv{n}d",
            (4, 8, 4),
            data,
            product(padding=["same", "valid"], dilation=[1, 3 - n // 3]),
        )
        found += cases(
            f"Conv{n}d",
            (4, 8, 3),
            data,
            product(
                padding=[1, 2, "same"],
                padding_mode=["reflect", "replicate", "circular"],
                stride=[1],
            ),
        )
        if n == 3:  # the kit takes data without a batch, as torch; mlx.nn does not
            found += cases("Conv3d", (4, 8, 3), single, product(groups=[4]), lead=1)
        found += cases(
            f"ConvTranspose{n}d",
            (4, 8, 3),
            data,
            [
                o
                for o in product(
                    stride=[1, 2],
                    padding=[0, 1],
                    output_padding=[0, 1],
                    groups=[1, 2],
                    dilation=[1, 2],
                )
                if o["output_padding"] < max(o["stride"], o["dilation"])
            ],
        )
    return found


def poolings() -> list[Case]:
    found = []
    for n, grid in GRIDS.items():
        data = lambda g=grid: [with_ties(2, 3, *g)]
        smooth = lambda g=grid: [np.abs(randn(2, 3, *g)) + 0.1]
        windows = {"kernel_size": [2, 3], "stride": [None, 1, 2], "padding": [0, 1]}
        found += cases(
            f"MaxPool{n}d", (), data, product(**windows, dilation=[1, 2], ceil_mode=[False, True])
        )
        found += cases(
            f"MaxPool{n}d", (), data, product(kernel_size=[3], padding=[1], return_indices=[True])
        )
        found += cases(
            f"AvgPool{n}d",
            (),
            data,
            product(**windows, ceil_mode=[False, True], count_include_pad=[True, False]),
        )
        if n > 1:
            found += cases(f"AvgPool{n}d", (3,), data, product(divisor_override=[1, 5]))
        found += cases(
            f"LPPool{n}d",
            (),
            smooth,
            product(
                norm_type=[1, 2, 3], kernel_size=[2, 3], stride=[None, 1], ceil_mode=[False, True]
            ),
        )
        outputs = [1, 3, 5, (None,) * n] if n > 1 else [1, 3, 5]
        found += cases(f"AdaptiveAvgPool{n}d", (), data, product(output_size=outputs))
        found += cases(
            f"AdaptiveMaxPool{n}d",
            (),
            data,
            product(output_size=outputs, return_indices=[False, True]),
        )
        if n > 1:
            samples = torch.rand(2, 3, n, generator=torch.Generator().manual_seed(n))
            found += cases(
                f"FractionalMaxPool{n}d",
                (2,),
                data,
                [
                    {"output_size": 4, "_random_samples": samples},
                    {"output_ratio": 0.6, "_random_samples": samples, "return_indices": True},
                    {"output_size": 1, "_random_samples": samples},
                ],
                halves=False,
            )
        found.append(unpool(n, grid))
    return found


def unpool(n: int, grid: tuple[int, ...]) -> Case:
    def inputs() -> list[np.ndarray]:
        pool = getattr(nn, f"MaxPool{n}d")(2, return_indices=True)
        values, indices = pool(torch.randn(2, 3, *(size // 2 * 2 for size in grid)))
        return [values.numpy(), indices.numpy()]

    return Case(f"MaxUnpool{n}d()", lambda: getattr(nn, f"MaxUnpool{n}d")(2), inputs)


def normalizations() -> list[Case]:
    found = []
    both = ("eval", "train")
    for n, grid in GRIDS.items():
        data = lambda g=grid: [randn(3, 6, *g) * 2 + 1]
        found += cases(
            f"BatchNorm{n}d",
            (6,),
            data,
            product(
                momentum=[0.1, 0.3, None], affine=[True, False], track_running_stats=[True, False]
            ),
            modes=both,
        )
        found += cases(
            f"InstanceNorm{n}d",
            (6,),
            data,
            product(eps=[1e-5, 1e-3], affine=[True, False], track_running_stats=[True, False]),
            modes=both,
        )
    found += cases("BatchNorm1d", (6,), lambda: [randn(5, 6)], product(eps=[1e-5, 0.1]), modes=both)
    # groups of a single item would be all rounding error, in torch too
    for shape, groups in (((4, 6), [1, 2]), ((2, 6, 5), [1, 2, 6]), ((2, 6, 5, 4), [1, 2, 6])):
        found += cases(
            "GroupNorm",
            (),
            lambda s=shape: [randn(*s)],
            product(num_groups=groups, num_channels=[6], affine=[True, False], eps=[1e-5, 0.1]),
        )
    for cls in ("LayerNorm", "RMSNorm"):
        found += cases(
            cls,
            (),
            lambda: [randn(2, 3, 5, 6)],
            product(
                normalized_shape=[6, (5, 6), (3, 5, 6)],
                eps=[1e-5, 0.1],
                elementwise_affine=[True, False],
            ),
        )
    found += cases("LayerNorm", (6,), lambda: [randn(2, 6)], product(bias=[False]))
    found += cases("RMSNorm", (6,), lambda: [randn(2, 6) * 1e-3], product(eps=[None]), halves=False)
    for grid in ((7,), (5, 6)):
        found += cases(
            "LocalResponseNorm",
            (),
            lambda g=grid: [randn(2, 6, *g)],
            product(size=[2, 3, 5], alpha=[1e-4, 0.5], beta=[0.75], k=[1.0, 2.0]),
        )
    found += cases(
        "CrossMapLRN2d",
        (),
        lambda: [randn(2, 6, 4, 5)],
        product(size=[3, 5], alpha=[0.5], beta=[0.75], k=[1.0]),
        gradients=False,
        halves=False,
    )
    return found


def activations() -> list[Case]:
    data = lambda: [
        np.concatenate([randn(3, 8) * 3, np.array([[0, 1, -1, 3, -3, 6, 0.5, -0.5]], np.float32)])
    ]
    table: dict[str, Iterator[dict[str, Any]]] = {
        **dict.fromkeys(
            (
                "ReLU",
                "ReLU6",
                "SELU",
                "SiLU",
                "Sigmoid",
                "Tanh",
                "Hardsigmoid",
                "Hardswish",
                "Mish",
                "LogSigmoid",
                "Softsign",
                "Tanhshrink",
                "Identity",
            ),
            ({},),
        ),
        "ELU": product(alpha=[1.0, 0.3, 2.0]),
        "CELU": product(alpha=[1.0, 0.3, 2.0]),
        "GELU": product(approximate=["none", "tanh"]),
        "GLU": product(dim=[-1, 1]),
        "LeakyReLU": product(negative_slope=[0.01, 0.3, 1.5]),
        "RReLU": product(lower=[0.1], upper=[0.3, 0.5]),
        "Hardtanh": product(min_val=[-1, -0.4], max_val=[1, 0.4]),
        "Hardshrink": product(lambd=[0.5, 0.2]),
        "Softshrink": product(lambd=[0.5, 0.2]),
        "Softplus": product(beta=[1, 2.5], threshold=[20, 1.5]),
        "Threshold": product(threshold=[0.2], value=[-3.0]),
        "Softmax": product(dim=[-1, 0, 1, None]),
        "LogSoftmax": product(dim=[-1, 0, 1, None]),
        "Softmin": product(dim=[-1, 0]),
        "PReLU": product(init=[0.25, -0.3]),
        "Dropout": product(p=[0.0, 0.5, 1.0]),
        "AlphaDropout": product(p=[0.5]),
    }
    found = [case for cls, grid in table.items() for case in cases(cls, (), data, grid)]
    image = lambda: [randn(2, 4, 3, 5)]
    found += cases("PReLU", (4,), image, product(init=[0.1]))
    found += cases("Softmax2d", (), image, ({},))
    found += cases("Dropout1d", (), lambda: [randn(2, 4, 5)], product(p=[0.5]))
    found += cases("Dropout2d", (), image, product(p=[0.5]))
    found += cases("Dropout3d", (), lambda: [randn(2, 4, 3, 2, 5)], product(p=[0.5]))
    return found + cases("FeatureAlphaDropout", (), image, product(p=[0.5]))


def shapes() -> list[Case]:
    found = []
    for n, grid in GRIDS.items():
        data = lambda g=grid: [randn(2, 3, *g)]
        uneven = tuple(range(1, 2 * n + 1))
        small = tuple(i % 3 for i in range(2 * n))
        found += cases(
            f"ConstantPad{n}d",
            (),
            data,
            product(padding=[2, uneven, (-1, 2) * n], value=[0.0, 3.5]),
        )
        found += cases(f"ZeroPad{n}d", (), data, product(padding=[1, small]))
        for kind in ("Reflection", "Replication", "Circular"):
            found += cases(f"{kind}Pad{n}d", (), data, product(padding=[1, small]))
        modes = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[n]
        sizes = [
            {"size": 7},
            {"size": (5,) * n},
            {"scale_factor": 2},
            {"scale_factor": 1.7},
            {"scale_factor": 0.6},
        ]
        for size in sizes:
            found += cases(
                "Upsample",
                (),
                data,
                [{**size, **o} for o in product(mode=["nearest", "nearest-exact", "area"])],
            )
            found += cases(
                "Upsample",
                (),
                data,
                [{**size, **o} for o in product(mode=modes, align_corners=[False, True])],
            )
    found += cases(
        "Upsample",
        (),
        lambda: [randn(2, 3, 8, 7)],
        product(scale_factor=[0.55], mode=["bilinear"], recompute_scale_factor=[True]),
    )
    image = lambda: [randn(2, 8, 6, 4)]
    found += cases("UpsamplingNearest2d", (), image, product(scale_factor=[2]))
    found += cases("UpsamplingBilinear2d", (), image, product(scale_factor=[2]))
    found += cases("PixelShuffle", (2,), image, ({},))
    found += cases("PixelUnshuffle", (2,), image, ({},))
    found += cases("ChannelShuffle", (2,), image, ({},))
    found += cases("Flatten", (), image, product(start_dim=[0, 1, 2], end_dim=[-1, 2]))
    found += cases(
        "Unflatten",
        (),
        image,
        [{"dim": 1, "unflattened_size": (2, 4)}, {"dim": -1, "unflattened_size": (2, -1)}],
    )
    found += cases(
        "Unfold",
        (),
        lambda: [randn(2, 3, 7, 6)],
        product(kernel_size=[2, (3, 2)], dilation=[1, 2], padding=[0, 1], stride=[1, 2]),
    )
    for options in product(dilation=[1, 2], padding=[0, 1], stride=[1, 2]):
        count = torch.nn.functional.unfold(torch.zeros(1, 1, 7, 6), (3, 2), **options).shape[-1]
        found += cases("Fold", ((7, 6), (3, 2)), lambda c=count: [randn(2, 18, c)], [options])
    return found
