"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.catalog.layers.entry import Row, Twin, layer, made_of, rank_of, taken
from torch2mlx.catalog.weights.actions import Drop, Move, On, Shapes, by_shapes
from torch2mlx.types import ModuleRecord

_STATISTICS = ("num_features", "eps", "momentum", "affine", "track_running_stats")


def _may_be_half(module: Any) -> bool:
    """Whether its tensors are of a half format; of a layer without any, nobody knows."""
    tensors = [t for t in (module.weight, module.running_mean) if t is not None]
    halves = ("torch.float16", "torch.bfloat16")
    return not tensors or any(str(tensor.dtype) in halves for tensor in tensors)


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


def instance_norm(module: Any) -> Twin:
    """The kit's, which may have running statistics, and is exact for images of any size."""
    arguments = taken(module, _STATISTICS)
    if module.track_running_stats and module.momentum is None:  # which torch takes for 0 here
        arguments["momentum"] = 0.0
    return Twin("torch2mlx.kit.InstanceNorm", arguments, "channels_last")


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


def rms_norm(module: Any) -> Twin:
    """mlx.nn.RMSNorm; the kit's over several dimensions, without weight, or with eps None."""
    if len(module.normalized_shape) > 1 or not module.elementwise_affine or module.eps is None:
        names = ("normalized_shape", "eps", "elementwise_affine")
        return Twin("torch2mlx.kit.RMSNorm", taken(module, names))
    return Twin("mlx.nn.RMSNorm", {"dims": module.normalized_shape[0], "eps": module.eps})


@by_shapes
def flat(record: ModuleRecord, shapes: Shapes) -> Iterator[On]:
    """LayerNorm and RMSNorm over several dimensions become one over their product."""
    for name, shape in shapes.items():
        if len(shape) > 1 and len(shape) <= 8:
            letters = "a b c d e f g h"[: 2 * len(shape) - 1]
            yield On(name, Move(f"{letters} -> ({letters})"))


#: Normalisation over a batch: what counts the batches is not needed in MLX.
_BATCHES = {"num_batches_tracked": Drop("MLX's momentum is a constant, so nothing counts batches")}
_TENSORS: Row = {
    **dict.fromkeys(("weight", "bias", "running_mean", "running_var"), "channels"),
    "num_batches_tracked": "",
}

for _n in (1, 2, 3):
    layer(
        f"BatchNorm{_n}d",
        batch_norm,
        mlx="mlx.nn.BatchNorm" if _n < 3 else "torch2mlx.kit.BatchNorm",
        general="torch2mlx.kit.BatchNorm",
        native="mlx.nn.BatchNorm",
        weights=_BATCHES,
        tensors=_TENSORS,
        images="flexible" if _n == 1 else "rigid",
    )
    layer(
        f"InstanceNorm{_n}d",
        instance_norm,
        mlx="torch2mlx.kit.InstanceNorm",
        native="mlx.nn.InstanceNorm",
        weights=_BATCHES,
        tensors=_TENSORS,
        images="flexible" if _n == 1 else "rigid",
    )
layer(
    "SyncBatchNorm",
    batch_norm,
    mlx="torch2mlx.kit.BatchNorm",
    native="mlx.nn.BatchNorm",
    weights=_BATCHES,
    tensors=_TENSORS,
    images="flexible",
    note="takes (N, C, ...) as torch; there is one device, whose statistics these are",
)
layer(
    "torch.nn.modules.batchnorm._NormBase",
    mlx="mlx.nn.BatchNorm",
    weights=_BATCHES,
    tensors=_TENSORS,
)
# mlx.nn.GroupNorm loses digits in groups of many values on the CPU
layer(
    "GroupNorm",
    made_of("torch2mlx.kit.GroupNorm", "num_groups num_channels eps affine", "channels_last"),
    mlx="torch2mlx.kit.GroupNorm",
    native="mlx.nn.GroupNorm",
    tensors={"weight": "channels", "bias": "channels"},
    images="flexible",
)
layer(
    "LayerNorm",
    layer_norm,
    mlx="mlx.nn.LayerNorm",
    general="torch2mlx.kit.LayerNorm",
    weights=flat,
    tensors={"weight": "...", "bias": "..."},
    source="kit",
)
layer(
    "RMSNorm",
    rms_norm,
    mlx="mlx.nn.RMSNorm",
    general="torch2mlx.kit.RMSNorm",
    weights=flat,
    tensors={"weight": "..."},
    source="kit",
)
layer(
    "LocalResponseNorm",
    made_of("torch2mlx.kit.norm.local_response_norm", "size alpha beta k", "channels_last"),
    mlx="torch2mlx.kit.norm.local_response_norm",
    images="flexible",
)
# torch's keeps the first channel in the sums of all later ones
layer(
    "CrossMapLRN2d",
    made_of("torch2mlx.kit.norm.cross_map_lrn", "size alpha beta k", "channels_last"),
    mlx="torch2mlx.kit.norm.cross_map_lrn",
    images="rigid",
)
