"""Functions of one number or of two: each item of the result comes from items at its place."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

ENTRIES = (
    op(
        "hypot", "input other | mx.sqrt(mx.square({input}) + mx.square({other}))", layout="pairwise"
    ),
    op("angle", "input | kit.elementwise.angle({input})", layout="elementwise"),
    op("arccosh", "input | mx.arccosh({input})", layout="elementwise"),
    op("arcsinh", "input | mx.arcsinh({input})", layout="elementwise"),
    op("arctanh", "input | mx.arctanh({input})", layout="elementwise"),
    op("conj_physical", "input | mx.conj({input})", layout="elementwise"),
    op("isreal", "input | kit.elementwise.isreal({input})", layout="elementwise"),
    op("signbit", "input | kit.elementwise.signbit({input})", layout="elementwise"),
    op("copysign", "input other | kit.elementwise.copysign({input}, {other})", layout="pairwise"),
    op("heaviside", "input values | kit.elementwise.heaviside({input}, {values})"),
    op(
        "xlogy special.xlogy",
        "input other | kit.elementwise.xlogy({input}, {other})",
        note="0 where the first is 0",
        layout="pairwise",
    ),
    op(
        "logit special.logit",
        "input eps | kit.elementwise.logit({input}«, {eps}»)",
        layout="elementwise",
    ),
    op("sinc special.sinc", "input | kit.elementwise.sinc({input})", layout="elementwise"),
    op("exp2 special.exp2", "input | 2.0 ** {input!}", mlx="power", layout="elementwise"),
    op(
        "erfc special.erfc",
        "input | 1 - mx.erf({input})",
        mlx="erf",
        note="1 - erf(x), which loses digits for large x",
        layout="elementwise",
    ),
    op("frac", "input | {input!} - mx.trunc({input})", mlx="trunc", layout="elementwise"),
    op(
        "positive resolve_conj resolve_neg alias_copy",
        "input | {input}",
        mlx="array",
        note="x itself",
        layout="elementwise",
    ),
    op("detach_copy", "input | mx.stop_gradient({input})", layout="elementwise"),
    op("ldexp", "input other | {input!} * 2.0 ** {other!}", mlx="power", layout="pairwise"),
    op(
        "logaddexp2",
        "input other | kit.elementwise.logaddexp2({input}, {other})",
        layout="pairwise",
    ),
    op(
        "float_power",
        "input exponent | kit.elementwise.float_power({input}, {exponent})",
        note="float32, where torch has float64",
        layout="pairwise",
    ),
    op("rsub", "input other alpha | {other!} - «{alpha!} * »{input!}", mlx="subtract"),
    op("bitwise_left_shift", "input other | mx.left_shift({input}, {other})", layout="pairwise"),
    op("bitwise_right_shift", "input other | mx.right_shift({input}, {other})", layout="pairwise"),
    op("gcd", "input other | kit.sorting.gcd({input}, {other})", layout="pairwise"),
    op("lcm", "input other | kit.sorting.lcm({input}, {other})", layout="pairwise"),
    op(
        "isin",
        "elements test_elements assume_unique invert | kit.elementwise.isin({elements},"
        " {test_elements}«, assume_unique={assume_unique}»«, invert={invert}»)",
        note="compares every pair",
    ),
    op("is_nonzero", "input | bool({input!}.item())", mlx="array.item", returns="bool"),
)
