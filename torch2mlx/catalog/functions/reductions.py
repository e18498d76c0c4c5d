"""Sums, means, extremes and statistics; running ones; softmax, which keeps its axis."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import Layout, op

_SPREAD = (
    "input dim unbiased keepdim correction | kit.{0}({{input}}«, {{dim}}»"
    "«, unbiased={{unbiased}}»«, keepdim={{keepdim}}»«, correction={{correction}}»)"
)


#: Functions over axes that mlx.core has under the same name, and what they do to axes.
_OVER_AXES: dict[str, Layout] = {
    "sum": "reduction",
    "mean": "reduction",
    "prod": "reduction",
    ".logsumexp": "reduction",
    "all": "axes",
    "any": "axes",
}
_REDUCED = (
    "input dim keepdim dtype | mx.{0}({{input}}«, axis={{dim}}»«, keepdims={{keepdim}}»)"
    "«.astype({{dtype}})»"
)

ENTRIES = (
    *(
        op(name, _REDUCED.format(name.lstrip(".")), layout=layout)
        for name, layout in _OVER_AXES.items()
    ),
    *(
        op(
            name,
            f"input dim keepdim | kit.tensors.{name}({{input}}«, {{dim}}»«, keepdim={{keepdim}}»)",
            mlx=name,
        )
        for name in ("argmax", "argmin")
    ),
    *(
        op(
            name,
            _SPREAD.format(f"tensors.{name}"),
            mlx=name,
            note="ddof is 0 in MLX, correction 1 in torch",
            layout="reduction",
        )
        for name in ("var", "std")
    ),
    op(
        ".amax",
        "input dim keepdim | mx.max({input}«, axis={dim}»«, keepdims={keepdim}»)",
        note="gradient of ties",
        layout="reduction",
    ),
    op(
        ".amin",
        "input dim keepdim | mx.min({input}«, axis={dim}»«, keepdims={keepdim}»)",
        note="gradient of ties",
        layout="reduction",
    ),
    op(
        "max",
        "input | mx.max({input})",
        "input dim keepdim | kit.tensors.largest({input}, {dim}«, keepdim={keepdim}»)",
        note="with dim torch answers indices too: mx.argmax",
        returns="by_dim",
    ),
    op(
        "min",
        "input | mx.min({input})",
        "input dim keepdim | kit.tensors.smallest({input}, {dim}«, keepdim={keepdim}»)",
        note="with dim torch answers indices too: mx.argmin",
        returns="by_dim",
    ),
    op(
        "median",
        "input dim keepdim | kit.sorting.median({input}«, {dim}»«, keepdim={keepdim}»)",
        note="mx.median averages the two middle values",
        returns="by_dim",
    ),
    op(
        "mode",
        "input dim keepdim | kit.sorting.mode({input}«, {dim}»«, keepdim={keepdim}»)",
        returns="pair",
    ),
    op(
        ".norm",
        "input p dim keepdim | kit.tensors.norm({input}«, {p}»«, axis={dim}»«, "
        "keepdims={keepdim}»)",
        mlx="linalg.norm",
    ),
    op(
        "dist",
        "input other p | kit.tensors.norm({input!} - {other!}«, {p}»)",
        mlx="linalg.norm",
        note="of the difference",
    ),
    op("count_nonzero", "input dim | mx.sum({input!} != 0«, axis={dim}»)", note="(x != 0).sum()"),
    op(
        "cumsum",
        "input dim dtype | mx.cumsum({input}, axis={dim})«.astype({dtype})»",
        layout="along",
    ),
    op("cumprod", "input dim dtype | mx.cumprod({input}, axis={dim})«.astype({dtype})»"),
    op(
        ".cummax",
        "input dim | kit.sorting.cummax({input}, {dim})",
        mlx="cummax",
        note="values only",
        returns="pair",
    ),
    op(
        "diff",
        "input n dim prepend append | kit.arrangements.diff({input}«, {n}»«, dim={dim}»«, "
        "prepend={prepend}»«, append={append}»)",
        mlx="subtract",
        note="slices",
    ),
    op(
        "trapezoid",
        "y x dx dim | kit.arrangements.trapezoid({y}«, {x}»«, dx={dx}»«, dim={dim}»)",
        mlx="sum",
        note="of strips: kit.arrangements.trapezoid",
    ),
    op("trapz", "y x dx dim | kit.arrangements.trapezoid({y}«, {x}»«, dx={dx}»«, dim={dim}»)"),
    op(
        "cumulative_trapezoid",
        "y x dx dim | kit.arrangements.cumulative_trapezoid({y}«, {x}»«, dx={dx}»«, dim={dim}»)",
    ),
    op(
        "allclose",
        "input other rtol atol equal_nan | mx.allclose({input}, {other}«, rtol={rtol}»«, "
        "atol={atol}»«, equal_nan={equal_nan}»)",
        returns="bool",
    ),
    op(
        "equal",
        "input other | mx.array_equal({input}, {other})",
        note="mx.equal is elementwise",
        returns="bool",
    ),
    op("trace", "input | mx.trace({input})"),
    op(
        "segment_reduce",
        "data reduce lengths offsets axis initial | kit.segments.segment_reduce({data}, "
        "{reduce}«, lengths={lengths}»«, offsets={offsets}»«, axis={axis}»«, "
        "initial={initial}»)",
    ),
    op(
        ".softmax",
        "input dim dtype | mx.softmax({input}«.astype({dtype})», axis={dim|None})",
        note="dim is axis",
        layout="along",
    ),
    op(
        ".log_softmax",
        "input dim dtype | nn.log_softmax({input}«.astype({dtype})», axis={dim|-1})",
        mlx="logsumexp",
        note="mlx.nn.log_softmax",
        layout="along",
    ),
    op(
        ".aminmax",
        "input dim keepdim | kit.reductions.aminmax({input}«, dim={dim}»«, keepdim={keepdim}»)",
        returns="pair",
    ),
    op(
        ".nansum",
        "input dim keepdim dtype | kit.reductions.nansum({input}«.astype({dtype})»«, {dim}»"
        "«, keepdim={keepdim}»)",
    ),
    op(
        ".nanmean",
        "input dim keepdim dtype | kit.reductions.nanmean({input}«.astype({dtype})»«, {dim}»"
        "«, keepdim={keepdim}»)",
    ),
    op(
        "nanmedian",
        "input dim keepdim | kit.reductions.nanmedian({input}«, {dim}»«, keepdim={keepdim}»)",
        returns="by_dim",
    ),
    op("std_mean", _SPREAD.format("reductions.std_mean"), returns="pair"),
    op("var_mean", _SPREAD.format("reductions.var_mean"), returns="pair"),
    op("logcumsumexp", "input dim | mx.logcumsumexp({input}, axis={dim})"),
    op("cummin", "input dim | kit.sorting.cummin({input}, {dim})", returns="pair"),
    op("histc", "input bins min max | kit.sorting.histc({input}«, {bins}»«, {min}, {max}»)"),
    op("renorm", "input p dim maxnorm | kit.sorting.renorm({input}, {p}, {dim}, {maxnorm})"),
)
