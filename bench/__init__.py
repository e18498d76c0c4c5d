"""Speed, as ratios: our side and its peers take turns in one run on one machine."""
