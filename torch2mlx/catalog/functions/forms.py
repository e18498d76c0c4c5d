"""How a call of torch is written in MLX: rows of `name | arguments in torch's order | text`.

In a text `{x}` is an argument, `{x!}` the same in brackets where it is no single term, `«...»`
stands only when its argument was given, `{*x}` are all remaining ones, `{(x)}` the same as a shape.
Functions and tensor methods share a row: `input` is the tensor a method is called on.
"""

from __future__ import annotations

from torch2mlx.catalog.functions.definition_forms import DEFINED
from torch2mlx.catalog.functions.entry import Form
from torch2mlx.catalog.functions.form_groups import GROUPS
from torch2mlx.catalog.functions.functional_forms import FUNCTIONAL
from torch2mlx.catalog.functions.table import find_function

#: Arguments that say where memory lies, or that MLX decides itself.
PLACEMENT = frozenset(
    [
        *("device", "layout", "pin_memory", "memory_format", "non_blocking", "inplace"),
        *("generator", "requires_grad", "out", "sparse", "copy", "async_", "stable", "driver"),
        "sorted",  # what comes in an order is sorted
    ]
)

TABLE = (
    GROUPS
    + DEFINED
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
div | input other rounding_mode | kit.tensors.divide({input}, {other}\
«, rounding_mode={rounding_mode}»)
divide | input other | {input!} / {other!}
divide | input other rounding_mode | kit.tensors.divide({input}, {other}\
«, rounding_mode={rounding_mode}»)
fmod | input other | {input!} - mx.trunc({input!} / {other!}) * {other!}
addmm | input mat1 mat2 beta alpha | mx.addmm({input}, {mat1}, {mat2}«, beta={beta}»\
«, alpha={alpha}»)
baddbmm | input mat1 mat2 beta alpha | mx.addmm({input}, {mat1}, {mat2}«, beta={beta}»\
«, alpha={alpha}»)
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
repeat_interleave | input repeats dim | kit.tensors.repeat_interleave({input}, {repeats}\
«, dim={dim}»)
split | input split_size dim | kit.tensors.split({input}, {split_size}«, {dim}»)
chunk | input chunks dim | kit.tensors.chunk({input}, {chunks}«, {dim}»)
unbind | input dim | kit.tensors.unbind({input}«, {dim}»)
flip | input *dims | mx.flip({input}, {(dims)})
roll | input shifts dims | mx.roll({input}, {shifts}«, {dims}»)
diag | input diagonal | mx.diag({input}«, {diagonal}»)
diagonal | input offset dim1 dim2 | mx.diagonal({input}«, offset={offset}»«, axis1={dim1}»\
«, axis2={dim2}»)
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
scatter_reduce | input dim index src reduce include_self |\
 kit.indexing.scatter_reduce({input}, {dim}, {index}, {src}, {reduce}\
«, include_self={include_self}»)
index_add | input dim index source alpha | kit.indexing.index_add({input}, {dim}, {index}, \
«{alpha!} * »{source})
masked_fill | input mask value | mx.where({mask}, {value}, {input})
masked_select | input mask | kit.indexing.masked_select({input}, {mask})
where | condition input other | mx.where({condition}, {input}, {other})
nonzero | input | kit.indexing.nonzero({input})
nonzero | input as_tuple | kit.arrangements.nonzero({input}, as_tuple={as_tuple})
argwhere | input | kit.indexing.nonzero({input})
diff | input n dim prepend append | kit.arrangements.diff({input}«, {n}»«, dim={dim}»\
«, prepend={prepend}»«, append={append}»)
trapezoid | y x dx dim | kit.arrangements.trapezoid({y}«, {x}»«, dx={dx}»«, dim={dim}»)
trapz | y x dx dim | kit.arrangements.trapezoid({y}«, {x}»«, dx={dx}»«, dim={dim}»)
cross | input other dim | kit.arrangements.cross({input}, {other}«, {dim}»)
diag_embed | input offset dim1 dim2 | kit.arrangements.diag_embed({input}«, offset={offset}»\
«, dim1={dim1}»«, dim2={dim2}»)
unfold | input dimension size step | kit.arrangements.unfold({input}, {dimension}, {size}, {step})
cartesian_prod | *tensors | kit.arrangements.cartesian_prod({*tensors})
combinations | input r with_replacement | kit.arrangements.combinations({input}«, {r}»\
«, with_replacement={with_replacement}»)
searchsorted | sorted_sequence input right | kit.sorting.bucketize({input}, {sorted_sequence}\
«, right={right}»)
quantile | input q dim keepdim | kit.sorting.quantile({input}, mx.array({q})«, {dim}»\
«, keepdim={keepdim}»)
complex | real imag | {real!} + 1j * {imag!}
split_with_sizes | input split_sizes dim | kit.tensors.split({input}, {split_sizes}«, {dim}»)
element_size | input | {input!}.itemsize
finfo | dtype | mx.finfo({dtype})
iinfo | dtype | mx.iinfo({dtype})
vmap | func in_dims out_dims | mx.vmap({func}«, in_axes={in_dims}»«, out_axes={out_dims}»)
einsum | equation *operands | mx.einsum({equation}, {*operands})
tensordot | a b dims | mx.tensordot({a}, {b}«, {dims}»)
meshgrid | *tensors indexing | kit.tensors.meshgrid({*tensors}«, indexing={indexing}»)
arange | *bounds dtype | kit.tensors.arange({*bounds}«, dtype={dtype}»)
arange | start end step dtype | kit.tensors.arange({start}, {end}«, {step}»«, dtype={dtype}»)
arange | end dtype | kit.tensors.arange({end}«, dtype={dtype}»)
linspace | start end steps dtype | mx.linspace({start}, {end}, {steps})«.astype({dtype})»
linspace | *bounds dtype | kit.tensors.linspace({*bounds}«, dtype={dtype}»)
eye | n m dtype | mx.eye({n}«, {m}»«, dtype={dtype}»)
full | size fill_value dtype | mx.full({size}, {fill_value}«, dtype={dtype}»)
full_like | input fill_value dtype | mx.full({input!}.shape, {fill_value},\
 dtype={dtype|input.dtype})
new_full | input size fill_value dtype | mx.full({size}, {fill_value}, dtype={dtype|input.dtype})
new_tensor | input data dtype | mx.array({data}, dtype={dtype|input.dtype})
rand_like | input dtype | mx.random.uniform(shape={input!}.shape, dtype={dtype|input.dtype})
randn_like | input dtype | mx.random.normal({input!}.shape, dtype={dtype|input.dtype})
randint_like | input low high dtype |\
 kit.tensors.randint({low}, {high}, {input!}.shape, dtype={dtype|input.dtype})
randint_like | input high dtype |\
 kit.tensors.randint({high}, {input!}.shape, dtype={dtype|input.dtype})
randint | *bounds dtype | kit.tensors.randint({*bounds}«, dtype={dtype}»)
randperm | n dtype | mx.random.permutation({n})
bernoulli | input p | mx.random.bernoulli({p|input}).astype({input!}.dtype)
normal | mean std size | kit.tensors.normal({mean}«, {std}»«, {size}»)
multinomial | input num_samples replacement | kit.tensors.multinomial({input}, {num_samples}\
«, {replacement}»)
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
allclose | input other rtol atol equal_nan | mx.allclose({input}, {other}«, rtol={rtol}»\
«, atol={atol}»«, equal_nan={equal_nan}»)
isclose | input other rtol atol equal_nan | mx.isclose({input}, {other}«, rtol={rtol}»\
«, atol={atol}»«, equal_nan={equal_nan}»)
round | input decimals | mx.round({input}«, decimals={decimals}»)
nan_to_num | input nan posinf neginf | mx.nan_to_num({input}«, nan={nan}»«, posinf={posinf}»\
«, neginf={neginf}»)
bucketize | input boundaries right | kit.sorting.bucketize({input}, {boundaries}«, right={right}»)
bincount | input minlength | kit.tensors.bincount({input}«, minlength={minlength}»)
one_hot | input num_classes | kit.tensors.one_hot({input}, {num_classes})
polar | abs angle | {abs!} * mx.exp(1j * {angle!})
view_as_real | input | kit.tensors.view_as_real({input})
view_as_complex | input | kit.tensors.view_as_complex({input})
stft | input n_fft hop_length win_length window center pad_mode normalized onesided\
 return_complex | kit.signal.stft({input}, {n_fft}«, hop_length={hop_length}»\
«, win_length={win_length}»«, window={window}»«, center={center}»«, pad_mode={pad_mode}»\
«, normalized={normalized}»«, onesided={onesided}»)
cosine_similarity | x1 x2 dim eps | kit.distance.cosine_similarity({x1}, {x2}«, dim={dim}»\
«, eps={eps}»)
is_tensor | input | isinstance({input}, mx.array)
is_floating_point | input | mx.issubdtype({input!}.dtype, mx.floating)
manual_seed | seed | mx.random.seed({seed})
"""
)


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
    + ["local_response_norm", "group_norm", "channel_shuffle", "prelu", "affine_grid"]
    + ["batch_norm", "instance_norm", "feature_alpha_dropout"]
)


def forms(group: str, name: str) -> tuple[Form, ...]:
    """Rows for a function: `group` is "torch" (methods too) or "torch.nn.functional"."""
    entry = find_function(f"{group}.{name}")
    if entry is not None and entry.forms:
        return entry.forms
    if group == "torch.nn.functional" and name in _FUNCTIONAL:
        return _FUNCTIONAL[name]
    return _PLAIN.get(name, ()) if group == "torch" else ()


def table_forms() -> tuple[str, ...]:
    """Full names of the functions that have rows here, and no entry."""
    return (
        *(f"torch.{name}" for name in _PLAIN),
        *(f"torch.nn.functional.{name}" for name in _FUNCTIONAL),
    )
