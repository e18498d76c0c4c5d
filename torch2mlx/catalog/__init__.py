"""The facts: torch's functions, layers and weight rules, and what MLX has for each."""
