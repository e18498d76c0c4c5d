"""Rows of `forms` for torch.nn.functional."""

from __future__ import annotations

FUNCTIONAL = """\
relu | input | nn.relu({input})
sigmoid | input | mx.sigmoid({input})
tanh | input | mx.tanh({input})
silu | input | nn.silu({input})
gelu | input approximate | kit.activations.gelu({input}«, {approximate}»)
softmax | input dim _stacklevel dtype | mx.softmax({input}«.astype({dtype})», axis={dim|-1})
log_softmax | input dim _stacklevel dtype | nn.log_softmax({input}\
«.astype({dtype})», axis={dim|-1})
softmin | input dim | mx.softmax(-{input!}, axis={dim|-1})
logsigmoid | input | nn.log_sigmoid({input})
glu | input dim | kit.activations.glu({input}«, axis={dim}»)
linear | input weight bias | kit.functional.linear({input}, {weight}«, {bias}»)
dropout | input p training | kit.dropout.dropout({input}, {p|0.5}, {training|True})
embedding | input weight | {weight!}[{input}]
embedding | input weight padding_idx | kit.functional.embedding({input}, {weight}, {padding_idx})
layer_norm | input normalized_shape weight bias eps | kit.functional.layer_norm({input},\
 {normalized_shape}«, {weight}»«, {bias}»«, eps={eps}»)
pad | input pad mode value | kit.padding.pad({input}, {pad}«, mode={mode}»«, value={value}»)
one_hot | input num_classes | kit.tensors.one_hot({input}, {num_classes})
scaled_dot_product_attention | query key value attn_mask dropout_p is_causal scale \
| kit.functional.attention({query}, {key}, {value}«, mask={attn_mask}»«, dropout={dropout_p}»\
«, causal={is_causal}»«, scale={scale}»)
cross_entropy | input target weight size_average ignore_index reduce reduction\
 label_smoothing | kit.losses.cross_entropy({input}, {target}«, weight={weight}»\
«, ignore_index={ignore_index}»«, reduction={reduction}»«, label_smoothing={label_smoothing}»)
nll_loss | input target weight size_average ignore_index reduce reduction \
| kit.losses.nll_loss({input}, {target}«, weight={weight}»«, ignore_index={ignore_index}»\
«, reduction={reduction}»)
mse_loss | input target size_average reduce reduction | kit.losses.mse_loss({input}, {target}\
«, reduction={reduction}»)
l1_loss | input target size_average reduce reduction | kit.losses.l1_loss({input}, {target}\
«, reduction={reduction}»)
smooth_l1_loss | input target size_average reduce reduction beta \
| kit.losses.smooth_l1_loss({input}, {target}«, reduction={reduction}»«, beta={beta}»)
huber_loss | input target reduction delta | kit.losses.huber_loss({input}, {target}\
«, reduction={reduction}»«, delta={delta}»)
binary_cross_entropy | input target weight size_average reduce reduction \
| kit.losses.binary_cross_entropy({input}, {target}«, weight={weight}»«, reduction={reduction}»)
binary_cross_entropy_with_logits | input target weight size_average reduce reduction\
 pos_weight | kit.losses.binary_cross_entropy_with_logits({input}, {target}«, weight={weight}»\
«, reduction={reduction}»«, pos_weight={pos_weight}»)
kl_div | input target size_average reduce reduction log_target \
| kit.losses.kl_div({input}, {target}«, reduction={reduction}»«, log_target={log_target}»)
gumbel_softmax | logits tau hard eps dim | kit.functional.gumbel_softmax({logits}«, tau={tau}»\
«, hard={hard}»«, axis={dim}»)
"""
