"""Arrays out of nothing: windows, triangles, spaces."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

_OF_SHAPE = "*size dtype | mx.{0}({{(size)}}«, dtype={{dtype}}»)"
_NEW = "input *size dtype | mx.{0}({{(size)}}, dtype={{dtype|input.dtype}})"

ENTRIES = (
    op("zeros", _OF_SHAPE.format("zeros"), made=True),
    op("ones", _OF_SHAPE.format("ones"), made=True),
    op("empty", _OF_SHAPE.format("zeros"), note="always zeros", made=True),
    op(".new_zeros .new_empty", _NEW.format("zeros")),
    op(".new_ones", _NEW.format("ones")),
    op(
        "arange",
        "*bounds dtype | kit.tensors.arange({*bounds}«, dtype={dtype}»)",
        "start end step dtype | kit.tensors.arange({start}, {end}«, {step}»«, dtype={dtype}»)",
        "end dtype | kit.tensors.arange({end}«, dtype={dtype}»)",
        mlx="arange",
        made=True,
    ),
    op(
        "linspace",
        "start end steps dtype | kit.tensors.linspace({start}, {end}, {steps}«, dtype={dtype}»)",
        "*bounds dtype | kit.tensors.linspace({*bounds}«, dtype={dtype}»)",
        mlx="linspace",
        made=True,
    ),
    op("eye", "n m dtype | mx.eye({n}«, {m}»«, dtype={dtype}»)", made=True),
    op("full", "size fill_value dtype | mx.full({size}, {fill_value}«, dtype={dtype}»)", made=True),
    op(
        "full_like",
        "input fill_value dtype | mx.full({input!}.shape, {fill_value}, dtype={dtype|input.dtype})",
        mlx="full_like",
        layout="itemwise",
    ),
    op(
        ".new_full",
        "input size fill_value dtype | mx.full({size}, {fill_value}, dtype={dtype|input.dtype})",
    ),
    op(".new_tensor", "input data dtype | mx.array({data}, dtype={dtype|input.dtype})"),
    op(
        "tensor as_tensor scalar_tensor",
        "data dtype | mx.array({data}«, dtype={dtype}»)",
        made=True,
    ),
    op("from_numpy", "data | mx.array({data})", note="a copy", made=True),
    op("FloatTensor Tensor", "data | mx.array({data}, dtype=mx.float32)", made=True),
    op("LongTensor", "data | mx.array({data}, dtype=mx.int64)", made=True),
    op(
        "zeros_like",
        "input | mx.zeros_like({input})",
        "input dtype memory_format- | mx.zeros({input!}.shape, dtype={dtype})",
        layout="elementwise",
    ),
    op(
        "ones_like",
        "input | mx.ones_like({input})",
        "input dtype memory_format- | mx.ones({input!}.shape, dtype={dtype})",
        layout="elementwise",
    ),
    op(
        "empty_like",
        "input | mx.zeros_like({input})",
        "input dtype memory_format- | mx.zeros({input!}.shape, dtype={dtype})",
        note="always zeros",
        layout="elementwise",
    ),
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
        "start end steps base dtype | "
        "({base!|10.0} ** kit.tensors.linspace({start}, {end}, {steps}))"
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
