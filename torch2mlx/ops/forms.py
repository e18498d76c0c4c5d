"""How a call of torch is written in MLX: rows of `name | arguments in torch's order | text`.

In a text `{x}` is an argument, `{x!}` the same in brackets where it is no single term, `«...»`
stands only when its argument was given, `{*x}` are all remaining ones, `{(x)}` the same as a shape.
Functions and tensor methods share a row: `input` is the tensor a method is called on.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Arguments that say where memory lies, or that MLX decides itself.
PLACEMENT = frozenset(
    ["device", "layout", "pin_memory", "memory_format", "non_blocking", "inplace", "generator"]
    + ["requires_grad", "out", "sparse", "copy", "async_", "is_coalesced", "stable", "driver"]
)

_REDUCED = (
    "".join(
        f"{name} | input dim keepdim dtype | mx.{name}({{input}}«, axis={{dim}}»"
        "«, keepdims={keepdim}»)«.astype({dtype})»\n"
        for name in ("sum", "mean", "prod", "all", "any", "logsumexp")
    )
    + "".join(
        f"{name} | input dim keepdim | mx.{name}({{input}}«, axis={{dim}}»«, keepdims={{keepdim}}»)"
        ".astype(mx.int64)\n"
        for name in ("argmax", "argmin")
    )
    + "".join(
        f"{name} | input dim unbiased keepdim correction | kit.tensors.{name}({{input}}«, {{dim}}»"
        "«, unbiased={unbiased}»«, keepdim={keepdim}»«, correction={correction}»)\n"
        for name in ("var", "std")
    )
)
_ALIKE = "".join(
    f"{name} | input | mx.{mlx or name}({{input}})\n"
    for name, mlx in (
        *((n, "") for n in ("abs", "exp", "log", "log2", "log10", "log1p", "expm1", "sqrt")),
        *((n, "") for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "sigmoid", "erf")),
        *((n, "") for n in ("floor", "ceil", "sign", "square", "rsqrt", "reciprocal", "isnan")),
        *((n, "") for n in ("isinf", "isfinite", "isneginf", "isposinf", "erfinv", "logical_not")),
        *((n, "") for n in ("real", "imag", "conj", "zeros_like", "ones_like", "trunc")),
        *(("asin", "arcsin"), ("acos", "arccos"), ("atan", "arctan"), ("asinh", "arcsinh")),
        *(("acosh", "arccosh"), ("atanh", "arctanh"), ("arcsin", "arcsin"), ("arccos", "arccos")),
        *(("arctan", "arctan"), ("neg", "negative"), ("negative", "negative"), ("absolute", "abs")),
        *(("deg2rad", "radians"), ("rad2deg", "degrees"), ("fix", "trunc"), ("sgn", "sign")),
        *(("relu", "maximum"), ("empty_like", "zeros_like"), ("detach", "stop_gradient")),
        *(("inverse", "linalg.inv"), ("bitwise_not", "bitwise_invert")),
    )
    if name != "relu"
)
_BINARY = "".join(
    f"{name} | input other | {{input!}} {sign} {{other!}}\n"
    for names, sign in (
        *((("mul", "multiply"), "*"), (("matmul", "mm", "bmm", "mv"), "@")),
        *((("pow",), "**"), (("floor_divide",), "//"), (("remainder",), "%")),
        *((("eq",), "=="), (("ne", "not_equal"), "!="), (("lt", "less"), "<")),
        *((("le", "less_equal"), "<="), (("gt", "greater"), ">"), (("ge", "greater_equal"), ">=")),
        *((("true_divide", "divide_"), "/"), (("bitwise_and", "__and__"), "&")),
        *((("bitwise_or", "__or__"), "|"), (("bitwise_xor",), "^")),
    )
    for name in names
) + "".join(
    f"{name} | input other | mx.{mlx}({{input}}, {{other}})\n"
    for name, mlx in (
        *(("maximum", "maximum"), ("minimum", "minimum"), ("fmax", "maximum"), ("fmin", "minimum")),
        *(("logical_and", "logical_and"), ("logical_or", "logical_or"), ("atan2", "arctan2")),
        *(("logaddexp", "logaddexp"), ("outer", "outer"), ("kron", "kron"), ("dot", "inner")),
        *(("inner", "inner"), ("equal", "array_equal"), ("ger", "outer"), ("vdot", "inner")),
        *(("logical_xor", "not_equal"), ("arctan2", "arctan2")),
    )
)
_MADE = "".join(
    f"{name} | *size dtype | mx.{mlx}\n"
    for name, mlx in (
        *(
            ("zeros", "zeros({(size)}«, dtype={dtype}»)"),
            ("ones", "ones({(size)}«, dtype={dtype}»)"),
        ),
        *(("empty", "zeros({(size)}«, dtype={dtype}»)"),),
        *(("rand", "random.uniform(shape={(size)})«.astype({dtype})»"),),
        *(("randn", "random.normal({(size)}«, dtype={dtype}»)"),),
    )
) + "".join(
    f"new_{name} | input *size dtype | mx.{name}({{(size)}}, dtype={{dtype|input.dtype}})\n"
    for name in ("zeros", "ones")
)
_CASTS = "".join(
    f"{name} | input | {{input!}}.astype(mx.{mlx})\n"
    for name, mlx in (
        *(("float", "float32"), ("double", "float64"), ("half", "float16"), ("int", "int32")),
        *(("long", "int64"), ("bool", "bool_"), ("bfloat16", "bfloat16"), ("byte", "uint8")),
        *(("short", "int16"), ("char", "int8"), ("cfloat", "complex64")),
    )
)

TABLE = (
    _REDUCED
    + _ALIKE
    + _BINARY
    + _MADE
    + _CASTS
    + """\
cat | tensors dim | mx.concatenate({tensors}«, axis={dim}»)
concat | tensors dim | mx.concatenate({tensors}«, axis={dim}»)
concatenate | tensors dim | mx.concatenate({tensors}«, axis={dim}»)
stack | tensors dim | mx.stack({tensors}«, axis={dim}»)
hstack | tensors | kit.tensors.hstack({tensors})
vstack | tensors | kit.tensors.vstack({tensors})
add | input other alpha | {input!} + «{alpha!} * »{other!}
sub | input other alpha | {input!} - «{alpha!} * »{other!}
subtract | input other alpha | {input!} - «{alpha!} * »{other!}
div | input other | {input!} / {other!}
div | input other rounding_mode | kit.tensors.divide({input}, {other}«, rounding_mode={rounding_mode}»)
divide | input other | {input!} / {other!}
divide | input other rounding_mode | kit.tensors.divide({input}, {other}«, rounding_mode={rounding_mode}»)
fmod | input other | {input!} - mx.trunc({input!} / {other!}) * {other!}
addmm | input mat1 mat2 beta alpha | mx.addmm({input}, {mat1}, {mat2}«, beta={beta}»«, alpha={alpha}»)
baddbmm | input mat1 mat2 beta alpha | mx.addmm({input}, {mat1}, {mat2}«, beta={beta}»«, alpha={alpha}»)
addcmul | input tensor1 tensor2 value | {input!} + «{value!} * »{tensor1!} * {tensor2!}
addcdiv | input tensor1 tensor2 value | {input!} + «{value!} * »({tensor1!} / {tensor2!})
lerp | input end weight | {input!} + {weight!} * ({end!} - {input!})
clamp | input min max | mx.clip({input}, {min|None}, {max|None})
clip | input min max | mx.clip({input}, {min|None}, {max|None})
clamp_min | input min | mx.maximum({input}, {min})
clamp_max | input max | mx.minimum({input}, {max})
relu | input | nn.relu({input})
softmax | input dim dtype | mx.softmax({input}«.astype({dtype})», axis={dim|None})
log_softmax | input dim dtype | nn.log_softmax({input}«.astype({dtype})», axis={dim|-1})
amax | input dim keepdim | mx.max({input}«, axis={dim}»«, keepdims={keepdim}»)
amin | input dim keepdim | mx.min({input}«, axis={dim}»«, keepdims={keepdim}»)
max | input | mx.max({input})
max | input dim keepdim | kit.tensors.largest({input}, {dim}«, keepdim={keepdim}»)
min | input | mx.min({input})
min | input dim keepdim | kit.tensors.smallest({input}, {dim}«, keepdim={keepdim}»)
sort | input dim descending | kit.sorting.sort({input}«, {dim}»«, descending={descending}»)
argsort | input dim | mx.argsort({input}, axis={dim|-1}).astype(mx.int64)
argsort | input dim descending | kit.tensors.argsort({input}«, {dim}»«, descending={descending}»)
topk | input k dim largest sorted | kit.sorting.topk({input}, {k}«, {dim}»«, largest={largest}»)
kthvalue | input k dim keepdim | kit.sorting.kthvalue({input}, {k}«, {dim}»«, keepdim={keepdim}»)
median | input dim keepdim | kit.sorting.median({input}«, {dim}»«, keepdim={keepdim}»)
cumsum | input dim dtype | mx.cumsum({input}, axis={dim})«.astype({dtype})»
cumprod | input dim dtype | mx.cumprod({input}, axis={dim})«.astype({dtype})»
cummax | input dim | kit.sorting.cummax({input}, {dim})
norm | input p dim keepdim | kit.tensors.norm({input}«, {p}»«, axis={dim}»«, keepdims={keepdim}»)
dist | input other p | kit.tensors.norm({input!} - {other!}«, {p}»)
cdist | input x2 p | kit.distance.cdist({input}, {x2}«, {p}»)
count_nonzero | input dim | mx.sum({input!} != 0«, axis={dim}»)
reshape | input *shape | mx.reshape({input}, {*shape})
view | input *shape | mx.reshape({input}, {*shape})
view_as | input other | {input!}.reshape({other!}.shape)
reshape_as | input other | {input!}.reshape({other!}.shape)
flatten | input start_dim end_dim | mx.flatten({input}«, {start_dim}»«, {end_dim}»)
ravel | input | mx.flatten({input})
unflatten | input dim sizes | mx.unflatten({input}, {dim}, {sizes})
squeeze | input | mx.squeeze({input})
squeeze | input dim | kit.tensors.squeeze({input}«, {dim}»)
unsqueeze | input dim | mx.expand_dims({input}, {dim})
permute | input *dims | mx.transpose({input}, {*dims})
transpose | input dim0 dim1 | mx.swapaxes({input}, {dim0}, {dim1})
swapaxes | input dim0 dim1 | mx.swapaxes({input}, {dim0}, {dim1})
swapdims | input dim0 dim1 | mx.swapaxes({input}, {dim0}, {dim1})
t | input | {input!}.T
movedim | input source destination | kit.tensors.moveaxis({input}, {source}, {destination})
moveaxis | input source destination | kit.tensors.moveaxis({input}, {source}, {destination})
expand | input *size | kit.tensors.expand({input}, {*size})
expand_as | input other | mx.broadcast_to({input}, {other!}.shape)
broadcast_to | input size | mx.broadcast_to({input}, {size})
repeat | input *repeats | mx.tile({input}, {(repeats)})
tile | input *dims | mx.tile({input}, {(dims)})
repeat_interleave | input repeats dim | mx.repeat({input}, {repeats}«, axis={dim}»)
split | input split_size dim | kit.tensors.split({input}, {split_size}«, {dim}»)
chunk | input chunks dim | kit.tensors.chunk({input}, {chunks}«, {dim}»)
unbind | input dim | kit.tensors.unbind({input}«, {dim}»)
flip | input *dims | mx.flip({input}, {(dims)})
roll | input shifts dims | mx.roll({input}, {shifts}«, {dims}»)
diag | input diagonal | mx.diag({input}«, {diagonal}»)
diagonal | input offset dim1 dim2 | mx.diagonal({input}«, offset={offset}»«, axis1={dim1}»«, axis2={dim2}»)
trace | input | mx.trace({input})
tril | input diagonal | mx.tril({input}«, {diagonal}»)
triu | input diagonal | mx.triu({input}«, {diagonal}»)
narrow | input dim start length | kit.tensors.narrow({input}, {dim}, {start}, {length})
select | input dim index | mx.take({input}, {index}, axis={dim})
index_select | input dim index | mx.take({input}, {index}, axis={dim})
take_along_dim | input indices dim | mx.take_along_axis({input}, {indices}, axis={dim})
gather | input dim index | kit.indexing.gather({input}, {dim}, {index})
scatter | input dim index src | kit.indexing.scatter({input}, {dim}, {index}, {src})
scatter_add | input dim index src | kit.indexing.scatter_add({input}, {dim}, {index}, {src})
scatter_reduce | input dim index src reduce include_self | kit.indexing.scatter_reduce({input}, {dim}, {index}, {src}, {reduce}«, include_self={include_self}»)
index_add | input dim index source alpha | kit.indexing.index_add({input}, {dim}, {index}, «{alpha!} * »{source})
masked_fill | input mask value | mx.where({mask}, {value}, {input})
masked_select | input mask | kit.indexing.masked_select({input}, {mask})
where | condition input other | mx.where({condition}, {input}, {other})
nonzero | input | kit.indexing.nonzero({input})
einsum | equation *operands | mx.einsum({equation}, {*operands})
tensordot | a b dims | mx.tensordot({a}, {b}«, {dims}»)
meshgrid | *tensors indexing | kit.tensors.meshgrid({*tensors}«, indexing={indexing}»)
arange | *bounds dtype | kit.tensors.arange({*bounds}«, dtype={dtype}»)
linspace | start end steps dtype | mx.linspace({start}, {end}, {steps})«.astype({dtype})»
eye | n m dtype | mx.eye({n}«, {m}»«, dtype={dtype}»)
full | size fill_value dtype | mx.full({size}, {fill_value}«, dtype={dtype}»)
full_like | input fill_value dtype | mx.full({input!}.shape, {fill_value}, dtype={dtype|input.dtype})
new_full | input size fill_value dtype | mx.full({size}, {fill_value}, dtype={dtype|input.dtype})
new_tensor | input data dtype | mx.array({data}, dtype={dtype|input.dtype})
rand_like | input dtype | mx.random.uniform(shape={input!}.shape)
randn_like | input dtype | mx.random.normal({input!}.shape)
randint | *bounds dtype | kit.tensors.randint({*bounds}«, dtype={dtype}»)
randperm | n dtype | mx.random.permutation({n})
bernoulli | input p | mx.random.bernoulli({p|input}).astype({input!}.dtype)
normal | mean std size | kit.tensors.normal({mean}«, {std}»«, {size}»)
multinomial | input num_samples replacement | kit.tensors.multinomial({input}, {num_samples}«, {replacement}»)
tensor | data dtype | mx.array({data}«, dtype={dtype}»)
as_tensor | data dtype | mx.array({data}«, dtype={dtype}»)
from_numpy | data | mx.array({data})
FloatTensor | data | mx.array({data}, dtype=mx.float32)
LongTensor | data | mx.array({data}, dtype=mx.int64)
Tensor | data | mx.array({data}, dtype=mx.float32)
scalar_tensor | data dtype | mx.array({data}«, dtype={dtype}»)
clone | input | mx.array({input})
contiguous | input | {input}
cpu | input | {input}
cuda | input device | {input}
pin_memory | input | {input}
requires_grad_ | input requires_grad | {input}
type_as | input other | {input!}.astype({other!}.dtype)
dim | input | {input!}.ndim
ndimension | input | {input!}.ndim
numel | input | {input!}.size
nelement | input | {input!}.size
item | input | {input!}.item()
tolist | input | {input!}.tolist()
numpy | input | np.array({input})
allclose | input other rtol atol equal_nan | mx.allclose({input}, {other}«, rtol={rtol}»«, atol={atol}»«, equal_nan={equal_nan}»)
isclose | input other rtol atol equal_nan | mx.isclose({input}, {other}«, rtol={rtol}»«, atol={atol}»«, equal_nan={equal_nan}»)
round | input decimals | mx.round({input}«, decimals={decimals}»)
nan_to_num | input nan posinf neginf | mx.nan_to_num({input}«, nan={nan}»«, posinf={posinf}»«, neginf={neginf}»)
bucketize | input boundaries right | kit.sorting.bucketize({input}, {boundaries}«, right={right}»)
unique | input | kit.sorting.unique({input})[0]
bincount | input minlength | kit.tensors.bincount({input}«, minlength={minlength}»)
one_hot | input num_classes | kit.tensors.one_hot({input}, {num_classes})
polar | abs angle | {abs!} * mx.exp(1j * {angle!})
view_as_real | input | kit.tensors.view_as_real({input})
view_as_complex | input | kit.tensors.view_as_complex({input})
stft | input n_fft hop_length win_length window center pad_mode normalized onesided return_complex | kit.signal.stft({input}, {n_fft}«, hop_length={hop_length}»«, win_length={win_length}»«, window={window}»«, center={center}»«, pad_mode={pad_mode}»«, normalized={normalized}»«, onesided={onesided}»)
cosine_similarity | x1 x2 dim eps | kit.distance.cosine_similarity({x1}, {x2}«, dim={dim}»«, eps={eps}»)
is_tensor | input | isinstance({input}, mx.array)
is_floating_point | input | mx.issubdtype({input!}.dtype, mx.floating)
manual_seed | seed | mx.random.seed({seed})
"""
)

FUNCTIONAL = """\
relu | input | nn.relu({input})
sigmoid | input | mx.sigmoid({input})
tanh | input | mx.tanh({input})
silu | input | nn.silu({input})
gelu | input approximate | kit.activations.gelu({input}«, {approximate}»)
softmax | input dim _stacklevel dtype | mx.softmax({input}«.astype({dtype})», axis={dim|-1})
log_softmax | input dim _stacklevel dtype | nn.log_softmax({input}«.astype({dtype})», axis={dim|-1})
softmin | input dim | mx.softmax(-{input!}, axis={dim|-1})
logsigmoid | input | nn.log_sigmoid({input})
glu | input dim | kit.activations.glu({input}«, axis={dim}»)
linear | input weight bias | kit.functional.linear({input}, {weight}«, {bias}»)
dropout | input p training | kit.dropout.dropout({input}, {p|0.5}, {training|True})
embedding | input weight | {weight!}[{input}]
layer_norm | input normalized_shape weight bias eps | kit.functional.layer_norm({input}, {normalized_shape}«, {weight}»«, {bias}»«, eps={eps}»)
pad | input pad mode value | kit.padding.pad({input}, {pad}«, mode={mode}»«, value={value}»)
one_hot | input num_classes | kit.tensors.one_hot({input}, {num_classes})
scaled_dot_product_attention | query key value attn_mask dropout_p is_causal scale | kit.functional.attention({query}, {key}, {value}«, mask={attn_mask}»«, dropout={dropout_p}»«, causal={is_causal}»«, scale={scale}»)
prelu | input weight | mx.maximum({input}, 0) + {weight!} * mx.minimum({input}, 0)
cross_entropy | input target weight size_average ignore_index reduce reduction label_smoothing | kit.losses.cross_entropy({input}, {target}«, weight={weight}»«, ignore_index={ignore_index}»«, reduction={reduction}»«, label_smoothing={label_smoothing}»)
nll_loss | input target weight size_average ignore_index reduce reduction | kit.losses.nll_loss({input}, {target}«, weight={weight}»«, ignore_index={ignore_index}»«, reduction={reduction}»)
mse_loss | input target size_average reduce reduction | kit.losses.mse_loss({input}, {target}«, reduction={reduction}»)
l1_loss | input target size_average reduce reduction | kit.losses.l1_loss({input}, {target}«, reduction={reduction}»)
smooth_l1_loss | input target size_average reduce reduction beta | kit.losses.smooth_l1_loss({input}, {target}«, reduction={reduction}»«, beta={beta}»)
huber_loss | input target reduction delta | kit.losses.huber_loss({input}, {target}«, reduction={reduction}»«, delta={delta}»)
binary_cross_entropy | input target weight size_average reduce reduction | kit.losses.binary_cross_entropy({input}, {target}«, weight={weight}»«, reduction={reduction}»)
binary_cross_entropy_with_logits | input target weight size_average reduce reduction pos_weight | kit.losses.binary_cross_entropy_with_logits({input}, {target}«, weight={weight}»«, reduction={reduction}»«, pos_weight={pos_weight}»)
kl_div | input target size_average reduce reduction log_target | kit.losses.kl_div({input}, {target}«, reduction={reduction}»«, log_target={log_target}»)
gumbel_softmax | logits tau hard eps dim | kit.functional.gumbel_softmax({logits}«, tau={tau}»«, hard={hard}»«, axis={dim}»)
"""


@dataclass(frozen=True)
class Form:
    """One way to write a function: torch's arguments in order ("*" before the one that takes all
    that remain), and the text."""

    name: str
    arguments: tuple[str, ...]
    text: str


def _rows(table: str) -> dict[str, tuple[Form, ...]]:
    found: dict[str, tuple[Form, ...]] = {}
    for line in table.strip().splitlines():
        name, arguments, text = line.split(" | ", 2)
        form = Form(name, tuple(arguments.split()), text)
        found[name] = (*found.get(name, ()), form)
    return found


_PLAIN, _FUNCTIONAL = _rows(TABLE), _rows(FUNCTIONAL)
#: Functions of torch.nn.functional that kit.channels_first has under the same name and arguments.
CHANNELS_FIRST = frozenset(
    f"{kind}{n}d"
    for kind in ("conv", "conv_transpose", "max_pool", "avg_pool", "lp_pool", "max_unpool")
    for n in (1, 2, 3)
) | frozenset(
    [f"adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2, 3)]
    + ["interpolate", "grid_sample", "pixel_shuffle", "pixel_unshuffle", "unfold", "fold"]
    + ["local_response_norm", "group_norm", "channel_shuffle"]
)


def forms(group: str, name: str) -> tuple[Form, ...]:
    """Rows for a function: `group` is "torch" (methods too) or "torch.nn.functional"."""
    if group == "torch.nn.functional" and name in _FUNCTIONAL:
        return _FUNCTIONAL[name]
    return _PLAIN.get(name, ()) if group == "torch" else ()


def known_forms() -> tuple[Form, ...]:
    """All rows."""
    return tuple(f for rows in (_PLAIN, _FUNCTIONAL) for group in rows.values() for f in group)
