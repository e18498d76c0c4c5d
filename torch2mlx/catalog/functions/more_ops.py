"""Further torch functions and methods: rows as in tensor_ops, names in the kit, and properties."""

from __future__ import annotations

_KIT = "torch2mlx.kit."

#: (torch, dotted name, difference)
KIT: tuple[tuple[str, str, str], ...] = (
    ("gather", f"{_KIT}indexing.gather", "mx.take_along_axis where other dimensions agree"),
    ("scatter", f"{_KIT}indexing.scatter", "or x[...] = values"),
    ("scatter_add", f"{_KIT}indexing.scatter_add", "or x.at[...].add(values)"),
    ("scatter_reduce", f"{_KIT}indexing.scatter_reduce", ""),
    ("index_add", f"{_KIT}indexing.index_add", "or x.at[...].add(values)"),
    ("topk", f"{_KIT}sorting.topk", "mx.topk does not sort and gives no indices"),
    ("kthvalue", f"{_KIT}sorting.kthvalue", ""),
    ("median", f"{_KIT}sorting.median", "mx.median averages the two middle values"),
    ("mode", f"{_KIT}sorting.mode", ""),
    ("lgamma", f"{_KIT}gamma.lgamma", ""),
    ("digamma", f"{_KIT}gamma.digamma", ""),
    ("polygamma", f"{_KIT}gamma.polygamma", ""),
    ("mvlgamma", f"{_KIT}gamma.mvlgamma", ""),
    ("i0", f"{_KIT}bessel.i0", ""),
    ("index_reduce", f"{_KIT}segments.index_reduce", ""),
    ("segment_reduce", f"{_KIT}segments.segment_reduce", ""),
    ("cumulative_trapezoid", f"{_KIT}arrangements.cumulative_trapezoid", ""),
    ("nonzero_static", f"{_KIT}indexing.nonzero_static", ""),
    ("cholesky_inverse", f"{_KIT}decompositions.cholesky_inverse", ""),
    ("bucketize", f"{_KIT}sorting.bucketize", ""),
    ("sort", f"{_KIT}sorting.sort", "mx.sort gives values only"),
    ("cdist", f"{_KIT}distance.cdist", ""),
    ("stft", f"{_KIT}signal.stft", "complex result"),
    ("istft", f"{_KIT}signal.istft", ""),
    ("ctc_loss", f"{_KIT}ctc.ctc_loss", ""),
)

#: (torch, mlx, difference)
MORE: tuple[tuple[str, str, str], ...] = (
    ("addcdiv", "add", "x + value * (a / b)"),
    ("addcmul", "add", "x + value * a * b"),
    ("arcsin", "arcsin", ""),
    ("arctan", "arctan", ""),
    ("arctan2", "arctan2", ""),
    ("byte", "array.astype", "uint8"),
    ("char", "array.astype", "int8"),
    ("short", "array.astype", "int16"),
    ("cfloat", "array.astype", "complex64"),
    ("deg2rad", "radians", ""),
    ("rad2deg", "degrees", ""),
    ("diag_embed", "diag", "of each row"),
    ("dist", "linalg.norm", "of the difference"),
    ("element_size", "array.itemsize", "a property"),
    ("fix", "trunc", ""),
    ("fmax", "maximum", "NaN loses there"),
    ("fmin", "minimum", "NaN loses there"),
    ("greater_equal", "greater_equal", ""),
    ("less_equal", "less_equal", ""),
    ("narrow_copy", "slice", "plain slicing"),
    ("ndimension", "array.ndim", "a property"),
    ("nelement", "array.size", "a property"),
    ("new_empty", "zeros", ""),
    ("new_full", "full", ""),
    ("new_ones", "ones", ""),
    ("new_tensor", "array", ""),
    ("new_zeros", "zeros", ""),
    ("quantile", "sort", "and interpolate"),
    ("ravel", "flatten", ""),
    ("reshape_as", "reshape", ""),
    ("split_with_sizes", "split", "cuts are sums of sizes"),
    ("swapdims", "swapaxes", ""),
    ("type", "array.astype", ""),
    ("trapezoid", "sum", "of strips: kit.arrangements.trapezoid"),
    ("cartesian_prod", "meshgrid", ""),
    ("combinations", "take", ""),
    ("polar", "exp", "abs * exp(1j * angle)"),
    ("view_as_complex", "array.view", "complex64"),
    ("view_as_real", "array.view", "float32"),
    ("scalar_tensor", "array", ""),
    ("item", "array.item", "a host read"),
    ("tolist", "array.tolist", "a host read"),
)

#: (name under torch.linalg, mlx, difference)
LINALG: tuple[tuple[str, str, str], ...] = (
    ("vecdot", "vecdot", ""),
    ("matmul", "matmul", ""),
    ("diagonal", "diagonal", "axes -2 and -1 there"),
    ("lstsq", "linalg.pinv", "times the right-hand side"),
)
LINALG_MISSING = {
    name: "no Bunch-Kaufman: cholesky, lu or solve"
    for name in ("ldl_factor", "ldl_factor_ex", "ldl_solve")
}

#: Functions under torch.nn.functional that the first table leaves out.
FUNCTIONAL: tuple[tuple[str, str, str], ...] = (
    *(
        (f"{kind}max_pool{n}d_with_indices", f"{_KIT}pooling.{kind}max_pool", "return_indices=True")
        for kind in ("", "adaptive_", "fractional_")
        for n in (1, 2, 3)
        if (kind, n) != ("fractional_", 1)
    ),
    ("conv_tbc", "mlx.core.conv1d", "(T, B, C) to (B, T, C) and back"),
    ("linear_cross_entropy", f"{_KIT}losses.cross_entropy", "of x @ weight.T"),
    ("native_channel_shuffle", f"{_KIT}shuffle.channel_shuffle", "channels-last"),
    ("upsample_bilinear", f"{_KIT}resample.interpolate", "channels-last, align_corners=True"),
    ("upsample_nearest", f"{_KIT}resample.interpolate", "channels-last"),
    ("grouped_mm", "mlx.core.gather_mm", "or a loop over groups"),
)

FUNCTIONAL_MISSING = {
    "scaled_mm": "dequantise and multiply, or mx.quantized_matmul in MLX's own formats",
    "scaled_grouped_mm": "dequantise and multiply, or mx.gather_qmm in MLX's own formats",
}
