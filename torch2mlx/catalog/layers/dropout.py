"""Dropout."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Twin, layer, made_of, taken

_KIT = "torch2mlx.kit.dropout."


def dropout(module: Any) -> Twin:
    """mlx.nn.Dropout, which refuses p = 1."""
    path = f"{_KIT}dropout" if module.p == 1 else "mlx.nn.Dropout"
    return Twin(path, taken(module, ("p",)))


layer(
    "Dropout",
    dropout,
    mlx="mlx.nn.Dropout",
    general=f"{_KIT}dropout",
    source="nn",
)
for _name, _native in (
    ("Dropout1d", "mlx.core.random.bernoulli"),
    ("Dropout2d", "mlx.nn.Dropout2d"),
    ("Dropout3d", "mlx.nn.Dropout3d"),
):
    layer(
        _name,
        made_of(f"{_KIT}channel_dropout", "p", "channels_last"),
        mlx=f"{_KIT}channel_dropout",
        native=_native,
        images="flexible",
    )
layer(
    "AlphaDropout",
    made_of(f"{_KIT}alpha_dropout", "p"),
    mlx=f"{_KIT}alpha_dropout",
)
layer(
    "FeatureAlphaDropout",
    made_of(f"{_KIT}feature_alpha_dropout", "p", "channels_last"),
    mlx=f"{_KIT}feature_alpha_dropout",
    images="flexible",
)
