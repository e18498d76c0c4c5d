"""Where to compute, and in which precision the loss can be there."""

from __future__ import annotations

import mlx.core as mx


def default_device() -> mx.Device:
    """The GPU where there is one, as MLX decides."""
    return mx.default_device()


def loss_precision() -> str:
    """float64 on the CPU, as the public loss has it; GPUs have none, so float32 there."""
    return "float64" if default_device().type == mx.DeviceType.cpu else "float32"
