"""Pooling: the kit's, whose gradients go where torch's go."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Twin, layer, rank_of, taken

_KIT = "torch2mlx.kit.pooling."


def _function(module: Any, name: str, options: dict[str, Any]) -> Twin:
    return Twin(_KIT + name, {"rank": rank_of(module), **options}, "channels_last")


def max_pool(module: Any) -> Twin:
    """max_pool of the kit: mlx.nn's has fewer options and shares the gradient of ties."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return _function(module, "max_pool", taken(module, names))


def avg_pool(module: Any) -> Twin:
    """mlx.nn's layer without options that it lacks, else avg_pool of the kit."""
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    options = taken(module, names)
    options["divisor_override"] = getattr(module, "divisor_override", None)
    unusual = options["ceil_mode"] or options["divisor_override"] or not module.count_include_pad
    if unusual:
        return _function(module, "avg_pool", options)
    rank = rank_of(module)
    sizes = {name: options[name] for name in ("kernel_size", "stride", "padding")}
    if rank == 1:
        sizes = {n: v[0] if isinstance(v, tuple) else v for n, v in sizes.items()}
    return Twin(f"mlx.nn.AvgPool{rank}d", sizes, "channels_last")


def lp_pool(module: Any) -> Twin:
    """lp_pool of the kit."""
    return _function(
        module, "lp_pool", taken(module, ("norm_type", "kernel_size", "stride", "ceil_mode"))
    )


def adaptive_avg_pool(module: Any) -> Twin:
    """adaptive_avg_pool of the kit."""
    return _function(module, "adaptive_avg_pool", taken(module, ("output_size",)))


def adaptive_max_pool(module: Any) -> Twin:
    """adaptive_max_pool of the kit."""
    return _function(module, "adaptive_max_pool", taken(module, ("output_size", "return_indices")))


def fractional_max_pool(module: Any) -> Twin:
    """fractional_max_pool of the kit; fixed samples of the layer are kept."""
    names = ("kernel_size", "output_size", "output_ratio", "return_indices")
    options = taken(module, names)
    if module._random_samples is not None:
        options["samples"] = module._random_samples
    return _function(module, "fractional_max_pool_layer", options)


def max_unpool(module: Any) -> Twin:
    """max_unpool of the kit, called with values, indices and, where torch takes it, output_size."""
    return _function(
        module, "max_unpool_layer", taken(module, ("kernel_size", "stride", "padding"))
    )


for _n in (1, 2, 3):
    for _kind, _make, _name in (
        ("LPPool", lp_pool, "lp_pool"),
        ("AdaptiveAvgPool", adaptive_avg_pool, "adaptive_avg_pool"),
        ("AdaptiveMaxPool", adaptive_max_pool, "adaptive_max_pool"),
    ):
        layer(f"{_kind}{_n}d", _make, mlx=_KIT + _name, images="rigid")
    layer(f"MaxPool{_n}d", max_pool, mlx=f"{_KIT}max_pool", native="mlx.nn.{name}", images="rigid")
    layer(
        f"AvgPool{_n}d",
        avg_pool,
        mlx="mlx.nn.{name}",
        general=f"{_KIT}avg_pool",
        images="rigid",
    )
    layer(f"MaxUnpool{_n}d", max_unpool, mlx=f"{_KIT}max_unpool_layer", images="kept")
for _n in (2, 3):
    layer(
        f"FractionalMaxPool{_n}d",
        fractional_max_pool,
        mlx=f"{_KIT}fractional_max_pool_layer",
        native=f"{_KIT}fractional_max_pool_layer",
        weights={"_random_samples": "samples"},
        tensors={"_random_samples": f"batch channels {_n}"},
        images="rigid",
        note="torch's options; other windows are drawn from a seed",
    )
