"""Sums, means and extremes of what is no NaN; pairs of statistics; running ones."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

_SPREAD = (
    "input dim unbiased keepdim correction | kit.reductions.{0}({{input}}«, {{dim}}»"
    "«, unbiased={{unbiased}}»«, keepdim={{keepdim}}»«, correction={{correction}}»)"
)

ENTRIES = (
    op(
        "aminmax",
        "input dim keepdim | kit.reductions.aminmax({input}«, dim={dim}»«, keepdim={keepdim}»)",
        returns="pair",
    ),
    op(
        "nansum",
        "input dim keepdim dtype | kit.reductions.nansum({input}«.astype({dtype})»«, {dim}»"
        "«, keepdim={keepdim}»)",
    ),
    op(
        "nanmean",
        "input dim keepdim dtype | kit.reductions.nanmean({input}«.astype({dtype})»«, {dim}»"
        "«, keepdim={keepdim}»)",
    ),
    op(
        "nanmedian",
        "input dim keepdim | kit.reductions.nanmedian({input}«, {dim}»«, keepdim={keepdim}»)",
        returns="by_dim",
    ),
    op("std_mean", _SPREAD.format("std_mean"), returns="pair"),
    op("var_mean", _SPREAD.format("var_mean"), returns="pair"),
    op("logcumsumexp", "input dim | mx.logcumsumexp({input}, axis={dim})"),
    op("cummin", "input dim | kit.sorting.cummin({input}, {dim})", returns="pair"),
    op("histc", "input bins min max | kit.sorting.histc({input}«, {bins}»«, {min}, {max}»)"),
    op("renorm", "input p dim maxnorm | kit.sorting.renorm({input}, {p}, {dim}, {maxnorm})"),
)
