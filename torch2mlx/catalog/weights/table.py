"""The weight rules of torch.nn, as rows. Everything the registry knows out of the box.

A row: full torch class names -> MLX class that takes the weights, rule, child renames. Layer
classes that are not named here but derive from one that is are found through their bases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch2mlx.catalog.weights import recurrent
from torch2mlx.catalog.weights.actions import Drop, Move, On, Shapes, Split, by_shapes
from torch2mlx.types import ModuleRecord

_COUNTER = Drop("MLX's momentum is a constant, so nothing counts batches")
_KERNELS = {1: "k", 2: "h w", 3: "d h w"}
_LETTERS = "a b c d e f g h"


def _conv(rank: int) -> dict[str, Move]:
    k = _KERNELS[rank]
    return {"weight": Move(f"o i {k} -> o {k} i")}


def _conv_transpose(rank: int) -> dict[str, Move]:
    k = _KERNELS[rank]
    return {"weight": Move(f"(g i) o {k} -> (g o) {k} i", letters={"g": "groups"})}


@by_shapes
def flat_norm(record: ModuleRecord, shapes: Shapes) -> Iterator[On]:
    """LayerNorm and RMSNorm over several dimensions become one over their product."""
    for name, shape in shapes.items():
        if len(shape) > 1 and len(shape) <= 8:
            letters = _LETTERS[: 2 * len(shape) - 1]
            yield On(name, Move(f"{letters} -> ({letters})"))


def attention(record: ModuleRecord, shapes: Shapes) -> Iterator[On]:
    """MultiheadAttention: the packed (3E, E) input projection becomes three."""
    projections = ("query_proj", "key_proj", "value_proj")
    for name in ("weight", "bias"):
        if f"in_proj_{name}" in shapes:
            yield On(f"in_proj_{name}", Split(tuple(f"{p}.{name}" for p in projections)))
    for short, projection in zip("qkv", projections, strict=True):
        if f"{short}_proj_weight" in shapes:
            yield On(f"{short}_proj_weight", Move(to=f"{projection}.weight"))


def sequential_children(record: ModuleRecord) -> dict[str, str]:
    """mlx.nn.Sequential keeps its modules in a list called layers."""
    if record.options.get("from_keys"):  # modules without tensors are not seen
        return {name: f"layers.{name}" for name in record.children}
    return {name: f"layers.{i}" for i, name in enumerate(record.children)}


_NORM_TWINS = {"norm1": "ln1", "norm2": "ln2"}

#: torch name(s), without "torch.nn." unless dotted -> columns of LayerSpec
ROWS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(
        row
        for n in (1, 2, 3)
        for row in (
            (f"Conv{n}d", {"mlx": f"mlx.nn.Conv{n}d", "weights": _conv(n)}),
            (
                f"ConvTranspose{n}d",
                {"mlx": f"mlx.nn.ConvTranspose{n}d", "weights": _conv_transpose(n)},
            ),
            (f"BatchNorm{n}d", {"mlx": "mlx.nn.BatchNorm"}),
            (f"InstanceNorm{n}d", {"mlx": "mlx.nn.InstanceNorm"}),
        )
    ),
    (
        "torch.nn.modules.batchnorm._NormBase",
        {"mlx": "mlx.nn.BatchNorm", "weights": {"num_batches_tracked": _COUNTER}},
    ),
    ("SyncBatchNorm", {"mlx": "mlx.nn.BatchNorm", "weights": {"num_batches_tracked": _COUNTER}}),
    ("Linear", {"mlx": "mlx.nn.Linear"}),
    ("Bilinear", {"mlx": "mlx.nn.Bilinear", "weights": {"weight": "o a b -> o b a"}}),
    (
        "transformers.pytorch_utils.Conv1D",
        {"mlx": "mlx.nn.Linear", "weights": {"weight": "i o -> o i"}},
    ),
    ("AdaptiveLogSoftmaxWithLoss", {"mlx": "torch2mlx.kit.AdaptiveLogSoftmaxWithLoss"}),
    ("LinearCrossEntropyLoss", {"mlx": "torch2mlx.kit.LinearCrossEntropyLoss"}),
    ("Embedding", {"mlx": "mlx.nn.Embedding"}),
    ("EmbeddingBag", {"mlx": "torch2mlx.kit.EmbeddingBag"}),
    ("LayerNorm", {"mlx": "mlx.nn.LayerNorm", "weights": flat_norm}),
    ("RMSNorm", {"mlx": "mlx.nn.RMSNorm", "weights": flat_norm}),
    ("GroupNorm", {"mlx": "mlx.nn.GroupNorm"}),
    *(
        (
            f"FractionalMaxPool{n}d",
            {
                "mlx": "torch2mlx.kit.pooling.fractional_max_pool",
                "weights": {"_random_samples": "samples"},
            },
        )
        for n in (2, 3)
    ),
    ("PReLU", {"mlx": "mlx.nn.PReLU"}),
    ("MultiheadAttention", {"mlx": "mlx.nn.MultiHeadAttention", "weights": attention}),
    *(
        (f"{name}{cell}", {"mlx": f"mlx.nn.{name}", "weights": recurrent.rule(name.lower())})
        for name in ("RNN", "LSTM", "GRU")
        for cell in ("", "Cell")
    ),
    (
        "TransformerEncoderLayer",
        {
            "mlx": "mlx.nn.TransformerEncoderLayer",
            "children": {"self_attn": "attention", **_NORM_TWINS},
        },
    ),
    (
        "TransformerDecoderLayer",
        {
            "mlx": "mlx.nn.TransformerDecoderLayer",
            "children": {
                "self_attn": "self_attention",
                "multihead_attn": "cross_attention",
                **_NORM_TWINS,
                "norm3": "ln3",
            },
        },
    ),
    ("TransformerEncoder", {"mlx": "mlx.nn.TransformerEncoder", "children": {"norm": "ln"}}),
    ("TransformerDecoder", {"mlx": "mlx.nn.TransformerDecoder", "children": {"norm": "ln"}}),
    ("Transformer", {"mlx": "mlx.nn.Transformer"}),
    (
        "Sequential",
        {"container": True, "mlx": "mlx.nn.Sequential", "children": sequential_children},
    ),
    ("ModuleList", {"container": True, "mlx": "list"}),
    ("ModuleDict", {"container": True, "mlx": "dict"}),
    ("ParameterList", {"mlx": "list"}),
    ("ParameterDict", {"mlx": "dict"}),
    ("torch.nn.parallel.data_parallel.DataParallel", {"transparent": "module"}),
    ("torch.nn.parallel.distributed.DistributedDataParallel", {"transparent": "module"}),
    ("torch.optim.swa_utils.AveragedModel", {"transparent": "module"}),
    ("torch._dynamo.eval_frame.OptimizedModule", {"transparent": "_orig_mod"}),
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
        {"transparent": "_fsdp_wrapped_module"},
    ),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper",
        {"transparent": "_checkpoint_wrapped_module"},
    ),
)

_SAME_NAME = (
    *("AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "CELU", "ELU"),
    *("GELU", "GLU", "Hardswish", "Identity", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish"),
    *("ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax", "Softmin", "Softplus", "Softshrink"),
    *("Softsign", "Tanh", "Dropout", "Dropout2d", "Dropout3d", "Upsample"),
)

#: Layers without weights that mlx.nn has under a name of its own (or the same one).
WEIGHTLESS: dict[str, str] = {
    "Hardshrink": "HardShrink",
    "Hardtanh": "HardTanh",
    "UpsamplingNearest2d": "Upsample",
    "UpsamplingBilinear2d": "Upsample",
    **{name: name for name in _SAME_NAME},
}

#: Layers without weights that a line of mlx.core does exactly.
WEIGHTLESS_CALLS: dict[str, str] = {
    "Flatten": "mlx.core.flatten",
    "Unflatten": "mlx.core.unflatten",
    "Hardsigmoid": "mlx.core.clip",
    "Tanhshrink": "mlx.core.tanh",
    "Threshold": "mlx.core.where",
    "RReLU": "mlx.nn.leaky_relu",
    "Dropout1d": "mlx.core.random.bernoulli",
    "PixelShuffle": "mlx.core.transpose",
    "PixelUnshuffle": "mlx.core.transpose",
    "ChannelShuffle": "mlx.core.transpose",
    "Softmax2d": "mlx.core.softmax",
    "CosineSimilarity": "mlx.nn.losses.cosine_similarity_loss",
    "PairwiseDistance": "mlx.core.linalg.norm",
    **{
        f"{kind}Pad{n}d": "mlx.core.pad"
        for kind in ("Constant", "Zero", "Reflection", "Replication")
        for n in (1, 2, 3)
    },
}

#: Losses: functions in MLX, never part of a checkpoint.
LOSSES: dict[str, str] = {
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy",
    "CrossEntropyLoss": "cross_entropy",
    "CosineEmbeddingLoss": "cosine_similarity_loss",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "HuberLoss": "huber_loss",
    "KLDivLoss": "kl_div_loss",
    "L1Loss": "l1_loss",
    "MSELoss": "mse_loss",
    "MarginRankingLoss": "margin_ranking_loss",
    "NLLLoss": "nll_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "TripletMarginLoss": "triplet_loss",
}
