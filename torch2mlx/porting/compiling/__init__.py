"""Which training steps of a port may be compiled, and how that is written. Works on MLX source."""
