"""torch.special: other names of functions under torch, and what has no other name."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op("special.erf", "input | mx.erf({input})", layout="elementwise"),
    op("special.erfinv", "input | mx.erfinv({input})", layout="elementwise"),
    op("special.expit", "input | mx.sigmoid({input})", layout="elementwise"),
    op("special.expm1", "input | mx.expm1({input})", layout="elementwise"),
    op("special.log1p", "input | mx.log1p({input})", layout="elementwise"),
    op(
        "special.softmax",
        "input dim dtype | mx.softmax({input}«.astype({dtype})», axis={dim})",
    ),
    op(
        "special.log_softmax",
        "input dim dtype | nn.log_softmax({input}«.astype({dtype})», axis={dim})",
    ),
    op(
        "special.logsumexp",
        "input dim keepdim | mx.logsumexp({input}, axis={dim}«, keepdims={keepdim}»)",
    ),
    op("special.entr", "input | kit.elementwise.entr({input})", layout="elementwise"),
    op("special.ndtr", "input | kit.elementwise.ndtr({input})", layout="elementwise"),
    op("special.ndtri", "input | kit.elementwise.ndtri({input})", layout="elementwise"),
    op(
        "special.xlog1py",
        "input other | kit.elementwise.xlog1py({input}, {other})",
        layout="pairwise",
    ),
)
