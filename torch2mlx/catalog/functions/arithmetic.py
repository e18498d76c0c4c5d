"""Functions of one number, of two or more: an item of the result comes from items at its place."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

#: Names -> the function of one array under mlx.core; a dot marks methods that only tensors have.
_OF_ONE = {
    "abs absolute": "abs",
    ".acos .arccos": "arccos",
    ".acosh .arccosh": "arccosh",
    ".asin .arcsin": "arcsin",
    ".asinh .arcsinh": "arcsinh",
    ".atan .arctan": "arctan",
    ".atanh .arctanh": "arctanh",
    ".ceil": "ceil",
    "conj": "conj",
    "conj_physical": "conj",
    "cos": "cos",
    ".cosh": "cosh",
    ".deg2rad": "radians",
    ".erf": "erf",
    ".erfinv": "erfinv",
    "exp": "exp",
    ".expm1": "expm1",
    "fix .trunc": "trunc",
    ".floor": "floor",
    "imag": "imag",
    ".isfinite": "isfinite",
    ".isinf": "isinf",
    ".isnan": "isnan",
    ".isneginf": "isneginf",
    ".isposinf": "isposinf",
    "log": "log",
    "log10": "log10",
    ".log1p": "log1p",
    ".log2": "log2",
    ".rad2deg": "degrees",
    "real": "real",
    "reciprocal": "reciprocal",
    ".rsqrt": "rsqrt",
    ".sgn sign": "sign",
    ".sigmoid": "sigmoid",
    "sin": "sin",
    ".sinh": "sinh",
    "sqrt": "sqrt",
    "square": "square",
    ".tan": "tan",
    ".tanh": "tanh",
}
#: Names -> the function of two arrays under mlx.core.
_OF_TWO = {
    ".logaddexp": "logaddexp",
    ".logical_and": "logical_and",
    ".logical_or": "logical_or",
    ".logical_xor": "logical_xor",
}
#: Names -> the sign between two arrays.
_SIGNS = {
    ".mul multiply": "*",
    ".true_divide": "/",
    "remainder": "%",
    ".ne not_equal": "!=",
    ".lt less": "<",
    ".le less_equal": "<=",
    ".gt greater": ">",
    ".ge greater_equal": ">=",
    ".bitwise_and __and__": "&",
    ".bitwise_or __or__": "|",
    ".bitwise_xor": "^",
}

ENTRIES = (
    *(
        op(names, f"input | mx.{name}({{input}})", layout="elementwise")
        for names, name in _OF_ONE.items()
    ),
    *(
        op(names, f"input other | mx.{name}({{input}}, {{other}})", layout="pairwise")
        for names, name in _OF_TWO.items()
    ),
    *(
        op(names, f"input other | {{input!}} {sign} {{other!}}", layout="pairwise")
        for names, sign in _SIGNS.items()
    ),
    op(
        ".neg negative",
        "input | -{input!}",
        mlx="negative",
        layout="elementwise",
        also="operator.neg",
    ),
    op(".logical_not", "input | mx.logical_not({input})", layout="elementwise"),
    op(
        ".bitwise_not",
        "input | mx.bitwise_invert({input})",
        layout="elementwise",
        also="operator.invert",
    ),
    op(
        ".floor_divide",
        "input other | {input!} // {other!}",
        layout="pairwise",
        also="kit.division.floor_divide kit.division.whole_floor",
    ),
    op(".pow", "input other | {input!} ** {other!}", layout="pairwise", also="kit.kinks.power"),
    op(
        ".atan2 .arctan2",
        "input other | mx.arctan2({input}, {other})",
        layout="pairwise",
        also="kit.kinks.arctan2",
    ),
    op(
        ".maximum",
        "input other | mx.maximum({input}, {other})",
        layout="pairwise",
        also="kit.kinks.maximum",
    ),
    op(
        ".minimum",
        "input other | mx.minimum({input}, {other})",
        layout="pairwise",
        also="kit.kinks.minimum",
    ),
    op(
        ".fmax",
        "input other | mx.maximum({input}, {other})",
        note="NaN loses there",
        layout="pairwise",
        also="kit.kinks.fmax",
    ),
    op(
        ".fmin",
        "input other | mx.minimum({input}, {other})",
        note="NaN loses there",
        layout="pairwise",
        also="kit.kinks.fmin",
    ),
    op(
        ".eq",
        "input other | {input!} == {other!}",
        note="mx.equal is elementwise; torch.equal is mx.array_equal",
        layout="pairwise",
    ),
    op(
        ".div",
        "input other | {input!} / {other!}",
        "input other rounding_mode | kit.tensors.divide({input}, {other}«, "
        "rounding_mode={rounding_mode}»)",
        note="rounding_mode: floor_divide, or trunc of the quotient",
        layout="pairwise",
        also="kit.division.whole_trunc",
    ),
    op(
        "divide",
        "input other | {input!} / {other!}",
        "input other rounding_mode | kit.tensors.divide({input}, {other}«, "
        "rounding_mode={rounding_mode}»)",
        layout="pairwise",
    ),
    op(
        ".fmod",
        "input other | kit.division.fmod({input}, {other})",
        mlx="remainder",
        note="the sign is that of the first",
        layout="pairwise",
    ),
    op(
        ".addcmul",
        "input tensor1 tensor2 value | {input!} + «{value!} * »{tensor1!} * {tensor2!}",
        mlx="add",
        note="x + value * a * b",
        layout="itemwise",
    ),
    op(
        ".addcdiv",
        "input tensor1 tensor2 value | {input!} + «{value!} * »({tensor1!} / {tensor2!})",
        mlx="add",
        note="x + value * (a / b)",
        layout="itemwise",
    ),
    op(
        ".lerp",
        "input end weight | {input!} + {weight!} * ({end!} - {input!})",
        mlx="add",
        note="start + weight * (end - start)",
        layout="itemwise",
    ),
    op(
        ".clamp clip",
        "input min max | mx.clip({input}, {min|None}, {max|None})",
        layout="itemwise",
        also="kit.kinks.clip",
    ),
    op(".clamp_min", "input min | mx.maximum({input}, {min})", layout="itemwise"),
    op(".clamp_max", "input max | mx.minimum({input}, {max})", layout="itemwise"),
    op("round", "input decimals | mx.round({input}«, decimals={decimals}»)", layout="elementwise"),
    op(
        ".nan_to_num",
        "input nan posinf neginf | mx.nan_to_num({input}«, nan={nan}»«, posinf={posinf}»«, "
        "neginf={neginf}»)",
        layout="elementwise",
    ),
    op(
        "isclose",
        "input other rtol atol equal_nan | mx.isclose({input}, {other}«, rtol={rtol}»«, "
        "atol={atol}»«, equal_nan={equal_nan}»)",
        layout="itemwise",
    ),
    op(
        "complex",
        "real imag | {real!} + 1j * {imag!}",
        mlx="array.astype",
        note="real + 1j * imag",
        layout="pairwise",
    ),
    op(
        "polar",
        "abs angle | {abs!} * mx.exp(1j * {angle!})",
        mlx="exp",
        note="abs * exp(1j * angle)",
        layout="pairwise",
    ),
    op("add", "input other alpha | {input!} + «{alpha!} * »{other!}", layout="pairwise"),
    op("sub subtract", "input other alpha | {input!} - «{alpha!} * »{other!}", layout="pairwise"),
    op(
        ".hypot",
        "input other | kit.elementwise.hypot({input}, {other})",
        layout="pairwise",
    ),
    op("angle", "input | kit.elementwise.angle({input})", layout="elementwise"),
    op("isreal", "input | kit.elementwise.isreal({input})", layout="elementwise"),
    op(".signbit", "input | kit.elementwise.signbit({input})", layout="elementwise"),
    op("copysign", "input other | kit.elementwise.copysign({input}, {other})", layout="pairwise"),
    op(
        "heaviside",
        "input values | kit.elementwise.heaviside({input}, {values})",
        layout="pairwise",
    ),
    op(
        ".xlogy special.xlogy",
        "input other | kit.elementwise.xlogy({input}, {other})",
        note="0 where the first is 0",
        layout="pairwise",
    ),
    op(
        ".logit special.logit",
        "input eps | kit.elementwise.logit({input}«, {eps}»)",
        layout="elementwise",
    ),
    op(".sinc special.sinc", "input | kit.elementwise.sinc({input})", layout="elementwise"),
    op(
        ".exp2 special.exp2",
        "input | 2.0 ** {input!}",
        mlx="power",
        note="2.0 ** input",
        layout="elementwise",
    ),
    op(
        ".erfc special.erfc",
        "input | 1 - mx.erf({input})",
        mlx="erf",
        note="1 - erf(x), which loses digits for large x",
        layout="elementwise",
    ),
    op(
        "frac",
        "input | {input!} - mx.trunc({input})",
        mlx="trunc",
        note="input - mx.trunc(input)",
        layout="elementwise",
    ),
    op(
        "positive resolve_conj resolve_neg alias_copy",
        "input | {input}",
        mlx="array",
        note="x itself",
        layout="elementwise",
    ),
    op("detach_copy", "input | mx.stop_gradient({input})", layout="elementwise"),
    op(
        ".ldexp",
        "input other | {input!} * 2.0 ** {other!}",
        mlx="power",
        note="input * 2.0 ** other",
        layout="pairwise",
    ),
    op(
        ".logaddexp2",
        "input other | kit.elementwise.logaddexp2({input}, {other})",
        layout="pairwise",
    ),
    op(
        ".float_power",
        "input exponent | kit.elementwise.float_power({input}, {exponent})",
        note="float32, where torch has float64",
        layout="pairwise",
    ),
    op(
        "rsub",
        "input other alpha | {other!} - «{alpha!} * »{input!}",
        mlx="subtract",
        note="other - input",
    ),
    op(".bitwise_left_shift", "input other | mx.left_shift({input}, {other})", layout="pairwise"),
    op(".bitwise_right_shift", "input other | mx.right_shift({input}, {other})", layout="pairwise"),
    op("gcd", "input other | kit.sorting.gcd({input}, {other})", layout="pairwise"),
    op("lcm", "input other | kit.sorting.lcm({input}, {other})", layout="pairwise"),
    op(
        "isin",
        "elements test_elements assume_unique invert | kit.elementwise.isin({elements},"
        " {test_elements}«, assume_unique={assume_unique}»«, invert={invert}»)",
        note="compares every pair",
    ),
    op(
        "is_nonzero",
        "input | bool({input!}.item())",
        mlx="array.item",
        note="bool(input.item())",
        returns="bool",
    ),
)
