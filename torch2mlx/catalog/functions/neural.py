"""Layers as functions under torch: torch.conv2d, torch.max_pool1d; losses with numbers as
reductions."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import Entry, op


def _first(name: str, arguments: str, optional: str = "", note: str = "") -> tuple[Entry, ...]:
    """A function that kit.channels_first has under the same name, arguments by place."""
    fixed = ", ".join(f"{{{a}}}" for a in arguments.split())
    more = "".join(f"«, {a}={{{a}}}»" for a in optional.split())
    form = f"{arguments} {optional} | kit.channels_first.{name}({fixed}{more})"
    return op(name, form, note=note or "channels first")


def _loss(name: str, arguments: str, optional: str) -> tuple[Entry, ...]:
    """A loss: torch's reduction is 0, 1 or 2 here, which kit.losses takes as well."""
    fixed = ", ".join(f"{{{a}}}" for a in arguments.split())
    more = "".join(f"«, {a}={{{a}}}»" for a in optional.split())
    taken = f"{arguments} {optional} reduction"
    return op(name, f"{taken} | kit.losses.{name}({fixed}{more}, reduction={{reduction|0}})")


_CONV = "bias stride padding dilation groups"
_TURNED = "bias stride padding output_padding groups dilation"
_POOL = "kernel_size stride padding dilation ceil_mode"

ENTRIES = (
    op(
        "nn.functional.one_hot",
        "input num_classes | kit.tensors.one_hot({input}, {num_classes})",
        mlx="equal",
        note="num_classes must be given",
    ),
    op(
        "nn.functional.linear",
        "input weight bias | kit.functional.linear({input}, {weight}«, {bias}»)",
        mlx="addmm",
        note="x @ weight.T + bias",
    ),
    op(
        "nn.functional.dropout",
        "input p training | kit.dropout.dropout({input}, {p|0.5}, {training|True})",
        mlx="nn.Dropout",
        note="another stream of random numbers",
        layout="elementwise",
    ),
    op(
        "nn.functional.embedding",
        "input weight | {weight!}[{input}]",
        "input weight padding_idx | kit.functional.embedding({input}, {weight}, {padding_idx})",
        mlx="take",
        note="weight[indices]",
    ),
    op(
        "nn.functional.layer_norm",
        "input normalized_shape weight bias eps | kit.functional.layer_norm({input}, "
        "{normalized_shape}«, {weight}»«, {bias}»«, eps={eps}»)",
        mlx="fast.layer_norm",
        note="last axis only, eps required",
    ),
    op(
        "nn.functional.pad",
        "input pad mode value | kit.padding.pad({input}, {pad}«, mode={mode}»«, value={value}»)",
        same="kit.padding.pad",
    ),
    op(
        "nn.functional.scaled_dot_product_attention",
        "query key value attn_mask dropout_p is_causal scale | kit.functional.attention("
        "{query}, {key}, {value}«, mask={attn_mask}»«, dropout={dropout_p}»«, "
        "causal={is_causal}»«, scale={scale}»)",
        mlx="fast.scaled_dot_product_attention",
        note="scale is required; True in a boolean mask lets through in both",
    ),
    op("nn.functional.embedding_bag", same="kit.embedding.embedding_bag"),
    op(
        "nn.functional.multi_head_attention_forward",
        mlx="kit.MultiheadAttention",
        note="a module",
        returns="pair",
    ),
    op("nn.functional.grouped_mm", mlx="gather_mm", note="or a loop over groups"),
    op(
        "nn.functional.scaled_mm",
        note="dequantise and multiply, or mx.quantized_matmul in MLX's own formats",
    ),
    op(
        "nn.functional.scaled_grouped_mm",
        note="dequantise and multiply, or mx.gather_qmm in MLX's own formats",
    ),
    op(
        "cosine_similarity",
        "x1 x2 dim eps | kit.distance.cosine_similarity({x1}, {x2}«, dim={dim}»«, eps={eps}»)",
        mlx="nn.losses.cosine_similarity_loss",
    ),
    op(
        "nn.functional.cosine_similarity",
        "x1 x2 dim eps | kit.distance.cosine_similarity({x1}, {x2}«, dim={dim}»«, eps={eps}»)",
        same="kit.distance.cosine_similarity",
    ),
    op("nn.functional.normalize", same="kit.distance.normalize"),
    op("nn.functional.pairwise_distance", same="kit.distance.pairwise_distance"),
    op("nn.functional.pdist", same="kit.distance.pdist"),
    op("nn.functional.alpha_dropout", same="kit.dropout.alpha_dropout", layout="elementwise"),
    *(_first(f"conv{n}d", "input weight", _CONV) for n in (1, 2, 3)),
    *(_first(f"conv_transpose{n}d", "input weight", _TURNED) for n in (1, 2, 3)),
    *(_first(f"max_pool{n}d", "input", _POOL) for n in (1, 2, 3)),
    _first("avg_pool1d", "input", "kernel_size stride padding ceil_mode count_include_pad"),
    _first("adaptive_avg_pool1d", "input output_size"),
    _first("group_norm", "input num_groups", "weight bias eps"),
    _first("channel_shuffle", "input groups"),
    _first("pixel_shuffle", "input upscale_factor"),
    _first("pixel_unshuffle", "input downscale_factor"),
    _first("prelu", "input weight"),
    op(
        "max_pool1d_with_indices",
        "input kernel_size stride padding dilation ceil_mode | kit.channels_first.max_pool1d("
        "{input}, {kernel_size}«, stride={stride}»«, padding={padding}»«, dilation={dilation}»"
        "«, ceil_mode={ceil_mode}», return_indices=True)",
        returns="pair",
    ),
    op(
        "adaptive_max_pool1d",
        "input output_size | kit.channels_first.adaptive_max_pool1d({input}, {output_size},"
        " return_indices=True)",
        returns="pair",
    ),
    op(
        "constant_pad_nd",
        "input pad value | kit.padding.pad({input}, {pad}«, value={value}»)",
    ),
    op(
        "layer_norm",
        "input normalized_shape weight bias eps | kit.functional.layer_norm({input},"
        " {normalized_shape}«, {weight}»«, {bias}»«, eps={eps}»)",
    ),
    op(
        "rms_norm nn.functional.rms_norm",
        "input normalized_shape weight eps | kit.functional.rms_norm({input}, {normalized_shape}"
        "«, {weight}»«, eps={eps}»)",
        note="eps is that of the dtype unless given",
    ),
    op(
        "bilinear nn.functional.bilinear",
        "input1 input2 weight bias | kit.functional.bilinear({input1}, {input2}, {weight}"
        "«, {bias}»)",
        note="weight (O, in1, in2)",
    ),
    op("embedding", "weight indices | {weight!}[{indices}]", mlx="take", note="weight[indices]"),
    op("dropout", "input p train | kit.dropout.dropout({input}, {p}, {train})"),
    op(
        "feature_dropout",
        "input p train | kit.channels_first.channel_dropout({input}, {p}, {train})",
        note="channels first",
    ),
    op(
        "feature_alpha_dropout",
        "input p train | kit.channels_first.feature_alpha_dropout({input}, {p}, {train})",
        note="channels first",
    ),
    op(
        "batch_norm",
        "input weight bias running_mean running_var training momentum eps cudnn_enabled- |"
        " kit.channels_first.batch_norm({input}, {running_mean}, {running_var}, {weight}, {bias},"
        " {training}, {momentum}, {eps})",
        note="channels first",
    ),
    op(
        "instance_norm",
        "input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled- |"
        " kit.channels_first.instance_norm({input}, {running_mean}, {running_var}, {weight},"
        " {bias}, {use_input_stats}, {momentum}, {eps})",
        note="channels first",
    ),
    op(
        "grid_sampler grid_sampler_2d grid_sampler_3d",
        "input grid mode padding align | kit.channels_first.grid_sample({input}, {grid},"
        " {mode!}, {padding!}, {align})",
        note="channels first",
    ),
    op(
        "affine_grid_generator",
        "theta size align_corners | kit.channels_first.affine_grid({theta}, {size},"
        " {align_corners})",
        note="channels first",
    ),
    op("alpha_dropout", "input p train | kit.dropout.alpha_dropout({input}, {p}, {train})"),
    op("celu", "input alpha | kit.activations.celu({input}«, {alpha}»)", layout="elementwise"),
    op("selu", "input | kit.activations.selu({input})", layout="elementwise"),
    op(
        "rrelu",
        "input lower upper training | kit.activations.rrelu({input}«, lower={lower}»"
        "«, upper={upper}»«, training={training}»)",
    ),
    op(
        "hardshrink",
        "input lambd | kit.activations.hardshrink({input}«, {lambd}»)",
        layout="elementwise",
    ),
    op(
        "threshold",
        "input threshold value | kit.activations.threshold({input}, {threshold}, {value})",
        layout="elementwise",
    ),
    op(
        "pairwise_distance",
        "x1 x2 p eps keepdim | kit.distance.pairwise_distance({x1}, {x2}«, {p}»«, eps={eps}»"
        "«, keepdim={keepdim}»)",
    ),
    op("pdist", "input p | kit.distance.pdist({input}«, {p}»)"),
    op(
        "binary_cross_entropy_with_logits",
        "input target weight pos_weight reduction | kit.losses.binary_cross_entropy_with_logits("
        "{input}, {target}«, weight={weight}»«, pos_weight={pos_weight}», reduction={reduction|0})",
    ),
    op(
        "kl_div",
        "input target reduction log_target | kit.losses.kl_div({input}, {target},"
        " reduction={reduction|0}«, log_target={log_target}»)",
    ),
    _loss("cosine_embedding_loss", "input1 input2 target", "margin"),
    _loss("hinge_embedding_loss", "input target", "margin"),
    _loss("margin_ranking_loss", "input1 input2 target", "margin"),
    op(
        "poisson_nll_loss",
        "input target log_input full eps reduction | kit.losses.poisson_nll_loss({input},"
        " {target}, {log_input}, {full}, {eps}, {reduction})",
    ),
    op(
        "triplet_margin_loss",
        "anchor positive negative margin p eps swap reduction | kit.losses.triplet_margin_loss("
        "{anchor}, {positive}, {negative}«, margin={margin}»«, p={p}»«, eps={eps}»«, swap={swap}»"
        ", reduction={reduction|0})",
    ),
)
