"""Rows of `forms` that differ in a name only: reductions, elementwise functions, operators."""

from __future__ import annotations

_REDUCED = (
    "".join(
        f"{name} | input dim keepdim dtype | mx.{name}({{input}}«, axis={{dim}}»"
        "«, keepdims={keepdim}»)«.astype({dtype})»\n"
        for name in ("sum", "mean", "prod", "all", "any", "logsumexp")
    )
    + "".join(
        f"{name} | input dim keepdim | kit.tensors.{name}({{input}}«, {{dim}}»"
        "«, keepdim={keepdim}»)\n"
        for name in ("argmax", "argmin")
    )
    + "".join(
        f"{name} | input dim unbiased keepdim correction | kit.tensors.{name}({{input}}«, {{dim}}»"
        "«, unbiased={unbiased}»«, keepdim={keepdim}»«, correction={correction}»)\n"
        for name in ("var", "std")
    )
)
_ALIKE = "".join(
    f"{name} | input | mx.{mlx or name}({{input}})\n"
    for name, mlx in (
        *((n, "") for n in ("abs", "exp", "log", "log2", "log10", "log1p", "expm1", "sqrt")),
        *((n, "") for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "sigmoid", "erf")),
        *((n, "") for n in ("floor", "ceil", "sign", "square", "rsqrt", "reciprocal", "isnan")),
        *((n, "") for n in ("isinf", "isfinite", "isneginf", "isposinf", "erfinv", "logical_not")),
        *((n, "") for n in ("real", "imag", "conj", "zeros_like", "ones_like", "trunc")),
        *(("asin", "arcsin"), ("acos", "arccos"), ("atan", "arctan"), ("asinh", "arcsinh")),
        *(("acosh", "arccosh"), ("atanh", "arctanh"), ("arcsin", "arcsin"), ("arccos", "arccos")),
        *(("arctan", "arctan"), ("neg", "negative"), ("negative", "negative"), ("absolute", "abs")),
        *(("deg2rad", "radians"), ("rad2deg", "degrees"), ("fix", "trunc"), ("sgn", "sign")),
        *(("relu", "maximum"), ("empty_like", "zeros_like"), ("detach", "stop_gradient")),
        *(("inverse", "linalg.inv"), ("bitwise_not", "bitwise_invert")),
    )
    if name != "relu"
)
_BINARY = "".join(
    f"{name} | input other | {{input!}} {sign} {{other!}}\n"
    for names, sign in (
        *((("mul", "multiply"), "*"), (("matmul", "mm", "bmm", "mv"), "@")),
        *((("pow",), "**"), (("floor_divide",), "//"), (("remainder",), "%")),
        *((("eq",), "=="), (("ne", "not_equal"), "!="), (("lt", "less"), "<")),
        *((("le", "less_equal"), "<="), (("gt", "greater"), ">"), (("ge", "greater_equal"), ">=")),
        *((("true_divide", "divide_"), "/"), (("bitwise_and", "__and__"), "&")),
        *((("bitwise_or", "__or__"), "|"), (("bitwise_xor",), "^")),
    )
    for name in names
) + "".join(
    f"{name} | input other | mx.{mlx}({{input}}, {{other}})\n"
    for name, mlx in (
        *(("maximum", "maximum"), ("minimum", "minimum"), ("fmax", "maximum"), ("fmin", "minimum")),
        *(("logical_and", "logical_and"), ("logical_or", "logical_or"), ("atan2", "arctan2")),
        *(("logaddexp", "logaddexp"), ("outer", "outer"), ("kron", "kron"), ("dot", "inner")),
        *(("inner", "inner"), ("equal", "array_equal"), ("ger", "outer"), ("vdot", "inner")),
        *(("logical_xor", "not_equal"), ("arctan2", "arctan2")),
    )
)
_MADE = (
    "".join(
        f"{name} | *size dtype | mx.{mlx}\n"
        for name, mlx in (
            *(
                ("zeros", "zeros({(size)}«, dtype={dtype}»)"),
                ("ones", "ones({(size)}«, dtype={dtype}»)"),
            ),
            *(("empty", "zeros({(size)}«, dtype={dtype}»)"),),
            *(("rand", "random.uniform(shape={(size)})«.astype({dtype})»"),),
            *(("randn", "random.normal({(size)}«, dtype={dtype}»)"),),
        )
    )
    + "".join(
        f"new_{name} | input *size dtype | mx.{name}({{(size)}}, dtype={{dtype|input.dtype}})\n"
        for name in ("zeros", "ones")
    )
    + "new_empty | input *size dtype | mx.zeros({(size)}, dtype={dtype|input.dtype})\n"
)
_CASTS = "".join(
    f"{name} | input | {{input!}}.astype(mx.{mlx})\n"
    for name, mlx in (
        *(("float", "float32"), ("double", "float64"), ("half", "float16"), ("int", "int32")),
        *(("long", "int64"), ("bool", "bool_"), ("bfloat16", "bfloat16"), ("byte", "uint8")),
        *(("short", "int16"), ("char", "int8"), ("cfloat", "complex64")),
    )
)

#: All of them.
GROUPS = _REDUCED + _ALIKE + _BINARY + _MADE + _CASTS
