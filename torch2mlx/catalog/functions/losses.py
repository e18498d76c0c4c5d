"""Losses under torch and torch.nn.functional."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

#: Losses under torch.nn.functional that the kit has with torch's arguments.
_OF_THE_KIT = (
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
)

ENTRIES = (
    *(op(f"nn.functional.{name}", same=f"kit.losses.{name}") for name in _OF_THE_KIT),
    op("nn.functional.gaussian_nll_loss", same="kit.losses.gaussian_nll_loss"),
    op(
        "ctc_loss",
        mlx="kit.ctc.ctc_loss",
        note="its reduction is a number: use torch.nn.functional.ctc_loss",
    ),
    op(
        "nn.functional.ctc_loss",
        same="kit.ctc.ctc_loss",
        note="lengths and labels are read on the host",
    ),
    op(
        "nn.functional.linear_cross_entropy",
        "input linear_weight target linear_bias weight reduction ignore_index label_smoothing |"
        " kit.losses.cross_entropy(kit.functional.linear({input}, {linear_weight}"
        "«, {linear_bias}»), {target}«, weight={weight}»«, ignore_index={ignore_index}»"
        "«, reduction={reduction}»«, label_smoothing={label_smoothing}»)",
        note="of x @ weight.T",
    ),
    op(
        "nn.functional.cross_entropy",
        "input target weight size_average ignore_index reduce reduction label_smoothing"
        " | kit.losses.cross_entropy({input}, {target}«, weight={weight}»«, "
        "ignore_index={ignore_index}»«, reduction={reduction}»«, "
        "label_smoothing={label_smoothing}»)",
        same="kit.losses.cross_entropy",
    ),
    op(
        "nn.functional.nll_loss",
        "input target weight size_average ignore_index reduce reduction"
        " | kit.losses.nll_loss({input}, {target}«, weight={weight}»«, "
        "ignore_index={ignore_index}»«, reduction={reduction}»)",
        same="kit.losses.nll_loss",
    ),
    op(
        "nn.functional.mse_loss",
        "input target size_average reduce reduction | kit.losses.mse_loss({input}, {target}"
        "«, reduction={reduction}»)",
        same="kit.losses.mse_loss",
    ),
    op(
        "nn.functional.l1_loss",
        "input target size_average reduce reduction | kit.losses.l1_loss({input}, {target}«, "
        "reduction={reduction}»)",
        same="kit.losses.l1_loss",
    ),
    op(
        "nn.functional.smooth_l1_loss",
        "input target size_average reduce reduction beta | kit.losses.smooth_l1_loss("
        "{input}, {target}«, reduction={reduction}»«, beta={beta}»)",
        same="kit.losses.smooth_l1_loss",
    ),
    op(
        "nn.functional.huber_loss",
        "input target reduction delta | kit.losses.huber_loss({input}, {target}«, "
        "reduction={reduction}»«, delta={delta}»)",
        same="kit.losses.huber_loss",
    ),
    op(
        "nn.functional.binary_cross_entropy",
        "input target weight size_average reduce reduction | kit.losses.binary_cross_entropy("
        "{input}, {target}«, weight={weight}»«, reduction={reduction}»)",
        same="kit.losses.binary_cross_entropy",
    ),
    op(
        "nn.functional.binary_cross_entropy_with_logits",
        "input target weight size_average reduce reduction pos_weight"
        " | kit.losses.binary_cross_entropy_with_logits({input}, {target}«, weight={weight}»"
        "«, reduction={reduction}»«, pos_weight={pos_weight}»)",
        same="kit.losses.binary_cross_entropy_with_logits",
    ),
    op(
        "nn.functional.kl_div",
        "input target size_average reduce reduction log_target | kit.losses.kl_div({input}, "
        "{target}«, reduction={reduction}»«, log_target={log_target}»)",
        same="kit.losses.kl_div",
    ),
)
