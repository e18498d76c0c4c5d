"""torch functions and tensor methods -> MLX: `lookup_op`, `register_op` (the catalogue's table)."""

from torch2mlx.catalog.op_mapping import Op, known_ops, lookup_op, register_op

__all__ = ["Op", "known_ops", "lookup_op", "register_op"]
