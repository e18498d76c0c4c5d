"""Imported first by the packages that are MLX through and through: asks for it by name."""

from torch2mlx.common.optional import need

need("this part of torch2mlx (kit, templates)", "mlx")
