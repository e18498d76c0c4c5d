"""Channels last: which layers, values and functions of a file hold (N, *spatial, C)."""
