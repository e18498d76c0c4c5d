"""Losses and distances: functions of the kit with the layer's options and class weights."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, refused, taken, twin
from torch2mlx.errors import Unsupported

_KIT = "torch2mlx.kit.losses."

#: torch layer -> (function, options of equal names beside `reduction`)
LOSSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "L1Loss": ("l1_loss", ()),
    "MSELoss": ("mse_loss", ()),
    "HuberLoss": ("huber_loss", ("delta",)),
    "SmoothL1Loss": ("smooth_l1_loss", ("beta",)),
    "BCELoss": ("binary_cross_entropy", ("weight",)),
    "BCEWithLogitsLoss": ("binary_cross_entropy_with_logits", ("weight", "pos_weight")),
    "NLLLoss": ("nll_loss", ("weight", "ignore_index")),
    "NLLLoss2d": ("nll_loss", ("weight", "ignore_index")),
    "CrossEntropyLoss": ("cross_entropy", ("weight", "ignore_index", "label_smoothing")),
    "KLDivLoss": ("kl_div", ("log_target",)),
    "PoissonNLLLoss": ("poisson_nll_loss", ("log_input", "full", "eps")),
    "GaussianNLLLoss": ("gaussian_nll_loss", ("full", "eps")),
    "HingeEmbeddingLoss": ("hinge_embedding_loss", ("margin",)),
    "SoftMarginLoss": ("soft_margin_loss", ()),
    "MarginRankingLoss": ("margin_ranking_loss", ("margin",)),
    "CosineEmbeddingLoss": ("cosine_embedding_loss", ("margin",)),
    "TripletMarginLoss": ("triplet_margin_loss", ("margin", "p", "eps", "swap")),
    "MultiMarginLoss": ("multi_margin_loss", ("p", "margin", "weight")),
    "MultiLabelMarginLoss": ("multilabel_margin_loss", ()),
    "MultiLabelSoftMarginLoss": ("multilabel_soft_margin_loss", ("weight",)),
}


@twin(*LOSSES)
def loss(module: Any) -> Twin:
    """A function of the kit."""
    names = [cls.__name__ for cls in type(module).__mro__ if cls.__name__ in LOSSES]
    function, options = LOSSES[names[0]]
    return Twin(_KIT + function, taken(module, (*options, "reduction")))


@twin("LinearCrossEntropyLoss")
def linear_cross_entropy(module: Any) -> Twin | Unsupported:
    """The kit's, for one score a class."""
    if module.out_features:
        return refused(module, "out_features gives several scores a class")
    names = ("num_classes", "reduction", "weight", "ignore_index", "label_smoothing")
    linear = {"in_features": module.linear.in_features, "bias": module.linear.bias is not None}
    return Twin("torch2mlx.kit.LinearCrossEntropyLoss", {**linear, **taken(module, names)})


@twin("CTCLoss")
def ctc(module: Any) -> Twin:
    """ctc_loss of the kit."""
    options = taken(module, ("blank", "reduction", "zero_infinity"))
    return Twin("torch2mlx.kit.ctc.ctc_loss", options)


@twin("TripletMarginWithDistanceLoss")
def triplet_with_distance(module: Any) -> Twin | Unsupported:
    """The kit's, with torch's default distance; another one is torch code."""
    distance = module.distance_function
    usual = (2.0, 1e-6, False)
    if tuple(getattr(distance, name, None) for name in ("norm", "eps", "keepdim")) != usual:
        return refused(module, "its distance_function is torch code")
    options = taken(module, ("margin", "swap", "reduction"))
    return Twin(_KIT + "triplet_margin_with_distance_loss", options)


@twin("CosineSimilarity")
def cosine_similarity(module: Any) -> Twin:
    """A function of the kit."""
    return Twin("torch2mlx.kit.distance.cosine_similarity", taken(module, ("dim", "eps")))


@twin("PairwiseDistance")
def pairwise_distance(module: Any) -> Twin:
    """A function of the kit."""
    options = taken(module, {"p": "norm", "eps": "eps", "keepdim": "keepdim"})
    return Twin("torch2mlx.kit.distance.pairwise_distance", options)
