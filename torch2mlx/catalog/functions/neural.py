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
    op("embedding", "weight indices | {weight!}[{indices}]", mlx="take"),
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
