"""Arrays that say how they are laid out."""

from __future__ import annotations

from typing import Any


class LaidOut(dict[str, Any]):
    """Arrays by MLX's names, in MLX's layouts, as conversions are.

    What takes state dicts of torch's form as well, `kit.files.load_state_dict`, tells them by
    `layout`: shapes do not tell a convolution of as many channels as its kernel is wide.
    """

    layout = "mlx"
