"""Losses and distances: functions of the kit with the layer's options and class weights."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Row, Twin, layer, made_of, refused, taken
from torch2mlx.errors import Unsupported

_KIT = "torch2mlx.kit.losses."
_CLASSES: Row = {"weight": "classes"}


def _loss(name: str, function: str, names: str = "", native: str = "", tensors: Row = {}) -> None:  # noqa: B006
    """An entry of a function of the kit; `native`: a function of mlx.nn.losses."""
    layer(
        name,
        made_of(_KIT + function, f"{names} reduction"),
        mlx=_KIT + function,
        native=f"mlx.nn.losses.{native}" if native else "",
        tensors=tensors,
        note="torch's reduction and options",
    )


_loss("L1Loss", "l1_loss", native="l1_loss")
_loss("MSELoss", "mse_loss", native="mse_loss")
_loss("HuberLoss", "huber_loss", "delta", "huber_loss")
_loss("SmoothL1Loss", "smooth_l1_loss", "beta", "smooth_l1_loss")
_loss(
    "BCELoss",
    "binary_cross_entropy",
    "weight",
    "binary_cross_entropy",
    {"weight": "..."},
)
_loss(
    "BCEWithLogitsLoss",
    "binary_cross_entropy_with_logits",
    "weight pos_weight",
    "binary_cross_entropy",
    {"weight": "...", "pos_weight": "... of positives"},
)
_loss("NLLLoss", "nll_loss", "weight ignore_index", "nll_loss", _CLASSES)
_loss("NLLLoss2d", "nll_loss", "weight ignore_index", tensors=_CLASSES)
_loss(
    "CrossEntropyLoss",
    "cross_entropy",
    "weight ignore_index label_smoothing",
    "cross_entropy",
    _CLASSES,
)
_loss("KLDivLoss", "kl_div", "log_target", "kl_div_loss")
_loss("PoissonNLLLoss", "poisson_nll_loss", "log_input full eps")
_loss("GaussianNLLLoss", "gaussian_nll_loss", "full eps", "gaussian_nll_loss")
_loss("HingeEmbeddingLoss", "hinge_embedding_loss", "margin")
_loss("SoftMarginLoss", "soft_margin_loss")
_loss("MarginRankingLoss", "margin_ranking_loss", "margin", "margin_ranking_loss")
_loss("CosineEmbeddingLoss", "cosine_embedding_loss", "margin", "cosine_similarity_loss")
_loss("TripletMarginLoss", "triplet_margin_loss", "margin p eps swap", "triplet_loss")
_loss("MultiMarginLoss", "multi_margin_loss", "p margin weight")
_loss("MultiLabelMarginLoss", "multilabel_margin_loss")
_loss("MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss", "weight")


def linear_cross_entropy(module: Any) -> Twin | Unsupported:
    """The kit's, for one score a class."""
    if module.out_features:
        return refused(module, "out_features gives several scores a class")
    names = ("num_classes", "reduction", "weight", "ignore_index", "label_smoothing")
    linear = {"in_features": module.linear.in_features, "bias": module.linear.bias is not None}
    return Twin("torch2mlx.kit.LinearCrossEntropyLoss", {**linear, **taken(module, names)})


layer(
    "LinearCrossEntropyLoss",
    linear_cross_entropy,
    mlx="torch2mlx.kit.{name}",
    native="torch2mlx.kit.{name}",
    source="kit",
)
layer(
    "CTCLoss",
    made_of("torch2mlx.kit.ctc.ctc_loss", "blank reduction zero_infinity"),
    mlx="torch2mlx.kit.ctc.ctc_loss",
    note="torch's reduction and options",
)


def triplet_with_distance(module: Any) -> Twin | Unsupported:
    """The kit's, with torch's default distance; another one is torch code."""
    distance = module.distance_function
    usual = (2.0, 1e-6, False)
    if tuple(getattr(distance, name, None) for name in ("norm", "eps", "keepdim")) != usual:
        return refused(module, "its distance_function is torch code")
    options = taken(module, ("margin", "swap", "reduction"))
    return Twin(_KIT + "triplet_margin_with_distance_loss", options)


layer(
    "TripletMarginWithDistanceLoss",
    triplet_with_distance,
    mlx=_KIT + "triplet_margin_with_distance_loss",
    note="torch's reduction and options",
)
layer(
    "CosineSimilarity",
    made_of("torch2mlx.kit.distance.cosine_similarity", "dim eps"),
    mlx="torch2mlx.kit.distance.cosine_similarity",
    native="mlx.nn.losses.cosine_similarity_loss",
)
layer(
    "PairwiseDistance",
    made_of("torch2mlx.kit.distance.pairwise_distance", p="norm", eps="eps", keepdim="keepdim"),
    mlx="torch2mlx.kit.distance.pairwise_distance",
    native="mlx.core.linalg.norm",
)
