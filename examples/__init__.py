"""Real networks in plain MLX, for converted weights to be loaded into."""
