"""Arrays out of nothing: windows, triangles, spaces."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        "hann_window",
        "window_length periodic dtype | kit.tapers.hann_window({window_length}«, {periodic}»"
        "«, dtype={dtype}»)",
        made=True,
    ),
    op(
        "hamming_window",
        "window_length periodic alpha beta dtype | kit.tapers.hamming_window({window_length}"
        "«, {periodic}»«, alpha={alpha}»«, beta={beta}»«, dtype={dtype}»)",
        made=True,
    ),
    op(
        "blackman_window",
        "window_length periodic dtype | kit.tapers.blackman_window({window_length}«, {periodic}»"
        "«, dtype={dtype}»)",
        made=True,
    ),
    op(
        "tril_indices",
        "row col offset dtype | kit.arrangements.triangle({row}, {col}«, {offset}»)"
        "«.astype({dtype})»",
        made=True,
    ),
    op(
        "triu_indices",
        "row col offset dtype | kit.arrangements.triangle({row}, {col}«, {offset}», upper=True)"
        "«.astype({dtype})»",
        made=True,
    ),
    op(
        "logspace",
        "start end steps base dtype | ({base!|10.0} ** mx.linspace({start}, {end}, {steps}))"
        "«.astype({dtype})»",
        mlx="power",
        note="a power of linspace",
        made=True,
    ),
    op(
        "empty_permuted",
        "size physical_layout- dtype | mx.zeros({size}«, dtype={dtype}»)",
        note="always zeros",
        made=True,
    ),
    op(
        "empty_strided",
        "size stride- dtype | mx.zeros({size}«, dtype={dtype}»)",
        note="always zeros",
        made=True,
    ),
    op(
        "new_empty_strided",
        "input size stride- dtype | mx.zeros({size}, dtype={dtype|input.dtype})",
        note="always zeros",
    ),
    op("fill", "input value | mx.full({input!}.shape, {value}, dtype={input!}.dtype)"),
)
