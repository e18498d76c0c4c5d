"""torch.nn.functional -> MLX or the kit. Rows of (torch name, dotted name, difference)."""

from __future__ import annotations

_POOLS = tuple(
    (f"{kind}_pool{n}d", f"torch2mlx.kit.pooling.{kind}_pool", "channels-last, rank=")
    for kind in ("max", "avg", "lp", "adaptive_avg", "adaptive_max", "fractional_max")
    for n in (1, 2, 3)
    if (kind, n) != ("fractional_max", 1)
)
_CONVS = tuple(
    (f"conv{kind}{n}d", f"mlx.core.conv{kind}{n}d", "channels-last; weight (O, ..., I)")
    for kind in ("", "_transpose")
    for n in (1, 2, 3)
)
_ACTIVATIONS = tuple(
    (name, f"torch2mlx.kit.activations.{twin}", "")
    for name, twin in (
        *((n, n) for n in ("selu", "elu", "celu", "softplus", "hardtanh", "relu6", "hardsigmoid")),
        *((n, n) for n in ("hardswish", "hardshrink", "softshrink", "threshold", "leaky_relu")),
        *((n, n) for n in ("rrelu", "gelu", "mish", "tanhshrink", "softsign", "logsigmoid", "glu")),
        *((n, n) for n in ("softmax", "log_softmax", "softmin")),
    )
)
_LOSSES = tuple(
    (name, f"torch2mlx.kit.losses.{name}", "")
    for name in (
        *("l1_loss", "mse_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy"),
        *("binary_cross_entropy_with_logits", "nll_loss", "cross_entropy", "kl_div"),
        *("poisson_nll_loss", "gaussian_nll_loss", "hinge_embedding_loss", "soft_margin_loss"),
        *("margin_ranking_loss", "cosine_embedding_loss", "triplet_margin_loss"),
        *("triplet_margin_with_distance_loss", "multi_margin_loss", "multilabel_margin_loss"),
        "multilabel_soft_margin_loss",
    )
)

FUNCTIONAL: tuple[tuple[str, str, str], ...] = (
    *_POOLS,
    *_CONVS,
    *_ACTIVATIONS,
    *_LOSSES,
    *((f"max_unpool{n}d", "torch2mlx.kit.pooling.max_unpool", "channels-last") for n in (1, 2, 3)),
    *(
        (f"dropout{n}d", "torch2mlx.kit.dropout.channel_dropout", "channels-last")
        for n in (1, 2, 3)
    ),
    ("relu", "mlx.nn.relu", ""),
    ("sigmoid", "mlx.core.sigmoid", ""),
    ("tanh", "mlx.core.tanh", ""),
    ("silu", "mlx.nn.silu", ""),
    ("prelu", "torch2mlx.kit.PReLU", ""),
    ("linear", "mlx.core.addmm", "x @ weight.T + bias"),
    ("embedding", "mlx.core.take", "weight[indices]"),
    ("embedding_bag", "torch2mlx.kit.embedding.embedding_bag", ""),
    ("one_hot", "mlx.core.equal", "num_classes must be given"),
    ("layer_norm", "mlx.core.fast.layer_norm", "last axis only, eps required"),
    ("batch_norm", "mlx.nn.BatchNorm", "a module; channels-last"),
    ("group_norm", "mlx.nn.GroupNorm", "a module; pytorch_compatible=True"),
    ("instance_norm", "mlx.nn.InstanceNorm", "a module; channels-last"),
    ("local_response_norm", "torch2mlx.kit.norm.local_response_norm", "channels-last"),
    ("normalize", "torch2mlx.kit.distance.normalize", ""),
    ("cosine_similarity", "torch2mlx.kit.distance.cosine_similarity", ""),
    ("pairwise_distance", "torch2mlx.kit.distance.pairwise_distance", ""),
    ("pdist", "torch2mlx.kit.distance.pdist", ""),
    ("ctc_loss", "torch2mlx.kit.ctc.ctc_loss", "lengths are read on the host"),
    ("dropout", "mlx.nn.Dropout", "another stream of random numbers"),
    ("alpha_dropout", "torch2mlx.kit.dropout.alpha_dropout", ""),
    ("feature_alpha_dropout", "torch2mlx.kit.dropout.feature_alpha_dropout", ""),
    ("gumbel_softmax", "mlx.core.random.gumbel", "softmax of logits + gumbel noise"),
    ("pad", "torch2mlx.kit.padding.pad", ""),
    ("interpolate", "torch2mlx.kit.resample.interpolate", "channels-last"),
    ("upsample", "torch2mlx.kit.resample.interpolate", "channels-last"),
    ("grid_sample", "torch2mlx.kit.resample.grid_sample", "channels-last"),
    ("affine_grid", "torch2mlx.kit.resample.affine_grid", "size is channels-last"),
    ("fold", "torch2mlx.kit.shuffle.fold", "channels-last"),
    ("unfold", "torch2mlx.kit.shuffle.unfold", "channels-last"),
    ("pixel_shuffle", "torch2mlx.kit.shuffle.pixel_shuffle", "channels-last"),
    ("pixel_unshuffle", "torch2mlx.kit.shuffle.pixel_unshuffle", "channels-last"),
    ("channel_shuffle", "torch2mlx.kit.shuffle.channel_shuffle", "channels-last"),
    (
        "scaled_dot_product_attention",
        "mlx.core.fast.scaled_dot_product_attention",
        "scale is required; True in a boolean mask lets through in both",
    ),
    ("multi_head_attention_forward", "torch2mlx.kit.MultiheadAttention", "a module"),
)

#: torch.linalg and torch.fft names that mlx.core has under the same name.
LINALG = [
    "cholesky",
    "cross",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
]
FFT = [
    "fft",
    "ifft",
    "rfft",
    "irfft",
    "fft2",
    "ifft2",
    "rfft2",
    "irfft2",
    "fftn",
    "ifftn",
    "rfftn",
    "irfftn",
    "fftshift",
    "ifftshift",
    "fftfreq",
    "rfftfreq",
]
