"""Losses."""

from __future__ import annotations

from typing import Any

from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.lower.ops.registry import lowers

REDUCTIONS = ("none", "mean", "sum")


def _of_two(name: str, *options: str) -> None:
    def function(b: Builder, self: Node, target: Node, reduction: int = 1, **more: Any) -> Node:
        given = {option: more[option] for option in options if option in more}
        return b.call(f"kit.losses.{name}", self, target, reduction=REDUCTIONS[reduction], **given)

    function.__name__ = name
    lowers(f"aten::{name}")(function)


_of_two("l1_loss")
_of_two("mse_loss")
_of_two("huber_loss", "delta")
_of_two("smooth_l1_loss", "beta")
_of_two("soft_margin_loss")
_of_two("hinge_embedding_loss", "margin")
_of_two("multilabel_margin_loss")


@lowers("aten::binary_cross_entropy")
def binary_cross_entropy(
    b: Builder, self: Node, target: Node, weight: Any = None, reduction: int = 1
) -> Node:
    """Of probabilities."""
    return b.call(
        "kit.losses.binary_cross_entropy", self, target, weight, reduction=REDUCTIONS[reduction]
    )


@lowers("aten::binary_cross_entropy_with_logits")
def bce_with_logits(
    b: Builder,
    self: Node,
    target: Node,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: int = 1,
) -> Node:
    """Of logits."""
    name = "kit.losses.binary_cross_entropy_with_logits"
    return b.call(
        name, self, target, weight=weight, pos_weight=pos_weight, reduction=REDUCTIONS[reduction]
    )


@lowers("aten::nll_loss", "aten::nll_loss_nd", "aten::nll_loss2d")
def nll_loss(
    b: Builder,
    self: Node,
    target: Node,
    weight: Any = None,
    reduction: int = 1,
    ignore_index: int = -100,
) -> Node:
    """Of logarithms of probabilities; classes on axis 1, moved last."""
    return b.call("kit.losses.nll_loss", self, target, weight, ignore_index, REDUCTIONS[reduction])


@lowers("aten::cross_entropy_loss")
def cross_entropy(
    b: Builder,
    self: Node,
    target: Node,
    weight: Any = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Node:
    """Of logits."""
    more = {
        **({} if weight is None else {"weight": weight}),
        **({} if ignore_index == -100 else {"ignore_index": ignore_index}),
    }
    if label_smoothing:
        more["label_smoothing"] = label_smoothing
    if reduction != 1:
        more["reduction"] = REDUCTIONS[reduction]
    return b.call("kit.losses.cross_entropy", self, target, **more)


@lowers("aten::kl_div")
def kl_div(
    b: Builder, self: Node, target: Node, reduction: int = 1, log_target: bool = False
) -> Node:
    """Kullback-Leibler divergence."""
    return b.call("kit.losses.kl_div", self, target, REDUCTIONS[reduction], log_target)


@lowers("aten::poisson_nll_loss")
def poisson(
    b: Builder, input: Node, target: Node, log_input: bool, full: bool, eps: float, reduction: int
) -> Node:
    """Of a Poisson distribution."""
    return b.call(
        "kit.losses.poisson_nll_loss", input, target, log_input, full, eps, REDUCTIONS[reduction]
    )


@lowers("aten::margin_ranking_loss")
def margin_ranking(
    b: Builder, input1: Node, input2: Node, target: Node, margin: float = 0.0, reduction: int = 1
) -> Node:
    """Which of two is ranked higher."""
    return b.call(
        "kit.losses.margin_ranking_loss", input1, input2, target, margin, REDUCTIONS[reduction]
    )


@lowers("aten::cosine_embedding_loss")
def cosine_embedding(
    b: Builder, input1: Node, input2: Node, target: Node, margin: float = 0.0, reduction: int = 1
) -> Node:
    """Whether two vectors are alike."""
    return b.call(
        "kit.losses.cosine_embedding_loss", input1, input2, target, margin, REDUCTIONS[reduction]
    )


@lowers("aten::multi_margin_loss")
def multi_margin(
    b: Builder,
    self: Node,
    target: Node,
    p: Any = 1,
    margin: Any = 1,
    weight: Any = None,
    reduction: int = 1,
) -> Node:
    """A margin between the right class and the others."""
    return b.call(
        "kit.losses.multi_margin_loss", self, target, int(p), margin, weight, REDUCTIONS[reduction]
    )


@lowers("aten::triplet_margin_loss")
def triplet_margin(
    b: Builder,
    anchor: Node,
    positive: Node,
    negative: Node,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 1,
) -> Node:
    """Nearer to the positive than to the negative."""
    more = {"margin": margin, "p": p, "eps": eps, "swap": swap}
    name = "kit.losses.triplet_margin_loss"
    return b.call(name, anchor, positive, negative, **more, reduction=REDUCTIONS[reduction])


@lowers("torch2mlx_ctc::loss", "torch2mlx_ctc::listed")
def ctc_loss(
    b: Builder,
    log_probs: Node,
    targets: Node,
    input_lengths: Any,
    target_lengths: Any,
    blank: Any = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> Node:
    """Of sequences, over all their alignments."""
    listed = (v if isinstance(v, Node) else tuple(v) for v in (input_lengths, target_lengths))
    more: dict[str, Any] = {"blank": blank} if isinstance(blank, Node) or blank else {}
    more |= {"reduction": REDUCTIONS[reduction]} if reduction != 1 else {}
    more |= {"zero_infinity": True} if zero_infinity else {}
    return b.call("kit.ctc.ctc_loss", log_probs, targets, *listed, **more)
