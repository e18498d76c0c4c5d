"""Dropout."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, taken, twin

_KIT = "torch2mlx.kit.dropout."


@twin("Dropout")
def dropout(module: Any) -> Twin:
    """mlx.nn.Dropout, which refuses p = 1."""
    if module.p == 1:
        return Twin(_KIT + "dropout", taken(module, ("p",)))
    return Twin("mlx.nn.Dropout", taken(module, ("p",)))


@twin("Dropout1d", "Dropout2d", "Dropout3d")
def channel_dropout(module: Any) -> Twin:
    """channel_dropout of the kit, for any rank."""
    return Twin(_KIT + "channel_dropout", taken(module, ("p",)), "channels_last")


@twin("AlphaDropout")
def alpha_dropout(module: Any) -> Twin:
    """alpha_dropout of the kit."""
    return Twin(_KIT + "alpha_dropout", taken(module, ("p",)))


@twin("FeatureAlphaDropout")
def feature_alpha_dropout(module: Any) -> Twin:
    """feature_alpha_dropout of the kit."""
    return Twin(_KIT + "feature_alpha_dropout", taken(module, ("p",)), "channels_last")
