"""Casts, moves between memories, and questions whose answers are values of Python."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

#: Methods -> the dtype of MLX that they cast to; modules have those without a dot too.
_CASTS = {
    "bfloat16": "bfloat16",
    ".bool": "bool_",
    ".byte": "uint8",
    ".cfloat": "complex64",
    ".char": "int8",
    "double": "float64",
    "float": "float32",
    "half": "float16",
    ".int": "int32",
    ".long": "int64",
    ".short": "int16",
}
#: What is said of those whose dtype does not say it all.
_MARKED = {"double": "float64, on the CPU only"}
_MEMORY = "there is one memory: nothing to move"

ENTRIES = (
    *(
        op(
            name,
            f"input | {{input!}}.astype(mx.{dtype})",
            mlx="array.astype",
            note=_MARKED.get(name, dtype),
            layout="elementwise",
        )
        for name, dtype in _CASTS.items()
    ),
    op(
        ".clone",
        "input | mx.array({input})",
        note="arrays are values; a copy is seldom needed",
        layout="elementwise",
    ),
    op(
        ".contiguous",
        "input | {input}",
        mlx="contiguous",
        note="not needed: views are always allowed",
        layout="elementwise",
    ),
    op(
        "Size",
        "sizes | tuple({sizes})",
        mlx="array.shape",
        made=True,
        returns="numbers",
    ),
    op("cpu .pin_memory", "input | {input}", mlx="array", note=_MEMORY, layout="elementwise"),
    op("cuda", "input device | {input}", mlx="array", note=_MEMORY, layout="elementwise"),
    op(
        ".requires_grad_",
        "input requires_grad | {input}",
        mlx="array",
        note="gradients are asked for, not recorded",
        layout="elementwise",
    ),
    op(
        ".type_as",
        "input other | {input!}.astype({other!}.dtype)",
        mlx="array.astype",
        layout="elementwise",
    ),
    op(
        "dim .ndimension",
        "input | {input!}.ndim",
        mlx="array.ndim",
        note="a property",
        returns="int",
    ),
    op(
        ".numel .nelement",
        "input | {input!}.size",
        mlx="array.size",
        note="a property",
        returns="int",
    ),
    op("item", "input | {input!}.item()", mlx="array.item", note="a host read", returns="float"),
    op(
        "tolist",
        "input | {input!}.tolist()",
        mlx="array.tolist",
        note="a host read",
        returns="numbers",
    ),
    op(".numpy", "input | np.array({input})", mlx="array", note="np.array(input)", returns="numpy"),
    op("size", mlx="array.shape", note="a property"),
    op(
        "to",
        mlx="array.astype",
        note="dtypes only: there are no devices to move between",
        layout="elementwise",
    ),
    op("type", mlx="array.astype", note="dtypes only", layout="elementwise"),
    op(
        "element_size",
        "input | {input!}.itemsize",
        mlx="array.itemsize",
        note="a property",
        returns="int",
    ),
    op("finfo", "dtype | mx.finfo({dtype})", returns="unknown", made=True),
    op("iinfo", "dtype | mx.iinfo({dtype})", returns="unknown", made=True),
    op(
        "is_tensor",
        "input | isinstance({input}, mx.array)",
        mlx="array",
        note="isinstance(input, mx.array)",
        returns="bool",
        made=True,
    ),
    op(
        ".is_floating_point",
        "input | mx.issubdtype({input!}.dtype, mx.floating)",
        note="mx.issubdtype(input.dtype, mx.floating)",
        returns="bool",
    ),
    op(
        "vmap",
        "func in_dims out_dims | mx.vmap({func}«, in_axes={in_dims}»«, out_axes={out_dims}»)",
        returns="unknown",
        made=True,
    ),
    op("no_grad", mlx="stop_gradient", note="gradients are asked for, not recorded", made=True),
    op(".detach", "input | mx.stop_gradient({input})", layout="elementwise"),
)
