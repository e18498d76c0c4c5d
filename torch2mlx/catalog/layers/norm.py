"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, rank_of, taken, twin

_STATISTICS = ("num_features", "eps", "momentum", "affine", "track_running_stats")


def _may_be_half(module: Any) -> bool:
    """Whether its tensors are of a half format; of a layer without any, nobody knows."""
    tensors = [t for t in (module.weight, module.running_mean) if t is not None]
    halves = ("torch.float16", "torch.bfloat16")
    return not tensors or any(str(tensor.dtype) in halves for tensor in tensors)


@twin("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
def batch_norm(module: Any) -> Twin:
    """mlx.nn.BatchNorm; the kit's for five dimensions, a cumulative average, and half formats.

    torch normalises half formats in float32; mlx.nn rounds at every step.
    """
    synced = any(cls.__name__ == "SyncBatchNorm" for cls in type(module).__mro__)
    any_rank = synced or rank_of(module) == 3 or module.momentum is None or _may_be_half(module)
    path = "torch2mlx.kit.BatchNorm" if any_rank else "mlx.nn.BatchNorm"
    return Twin(path, {**taken(module, _STATISTICS), **_seen(module)}, "channels_last")


def _seen(module: Any) -> dict[str, int]:
    """The number of batches that an average over all of them goes on from."""
    count = module.num_batches_tracked if module.momentum is None else None
    if count is None or count.is_meta or int(count) == 0:
        return {}
    return {"batches": int(count)}


@twin("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
def instance_norm(module: Any) -> Twin:
    """The kit's, which may have running statistics, and is exact for images of any size."""
    arguments = taken(module, _STATISTICS)
    if module.track_running_stats and module.momentum is None:  # which torch takes for 0 here
        arguments["momentum"] = 0.0
    return Twin("torch2mlx.kit.InstanceNorm", arguments, "channels_last")


@twin("GroupNorm")
def group_norm(module: Any) -> Twin:
    """The kit's: mlx.nn.GroupNorm loses digits in groups of many values on the CPU."""
    options = taken(module, ("num_groups", "num_channels", "eps", "affine"))
    return Twin("torch2mlx.kit.GroupNorm", options, "channels_last")


@twin("LayerNorm")
def layer_norm(module: Any) -> Twin:
    """mlx.nn.LayerNorm over one dimension, the kit's over several."""
    affine, bias = module.elementwise_affine, getattr(module, "bias", None) is not None
    if len(module.normalized_shape) > 1:
        arguments = {
            **taken(module, ("normalized_shape", "eps", "elementwise_affine")),
            "bias": bias,
        }
        return Twin("torch2mlx.kit.LayerNorm", arguments)
    (dims,) = module.normalized_shape
    return Twin(
        "mlx.nn.LayerNorm", {"dims": dims, "eps": module.eps, "affine": affine, "bias": bias}
    )


@twin("RMSNorm")
def rms_norm(module: Any) -> Twin:
    """mlx.nn.RMSNorm; the kit's over several dimensions, without weight, or with eps None."""
    if len(module.normalized_shape) > 1 or not module.elementwise_affine or module.eps is None:
        names = ("normalized_shape", "eps", "elementwise_affine")
        return Twin("torch2mlx.kit.RMSNorm", taken(module, names))
    return Twin("mlx.nn.RMSNorm", {"dims": module.normalized_shape[0], "eps": module.eps})


@twin("LocalResponseNorm")
def local_response_norm(module: Any) -> Twin:
    """A function of the kit."""
    options = taken(module, ("size", "alpha", "beta", "k"))
    return Twin("torch2mlx.kit.norm.local_response_norm", options, "channels_last")


@twin("CrossMapLRN2d")
def cross_map_lrn(module: Any) -> Twin:
    """A function of the kit, with torch's handling of the first channel."""
    options = taken(module, ("size", "alpha", "beta", "k"))
    return Twin("torch2mlx.kit.norm.cross_map_lrn", options, "channels_last")
