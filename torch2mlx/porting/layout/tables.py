"""Layers, functions and methods by what they do with the layout of an array."""

from __future__ import annotations

from torch2mlx.porting.types.layers import IMAGES

#: Layers that take arrays of any rank, so that what they get decides.
FLEXIBLE = frozenset(name for name, takes in IMAGES.items() if takes == "flexible")
#: Layers that take images alone.
RIGID = frozenset(name for name, takes in IMAGES.items() if takes == "rigid")
#: Functions under torch. and torch.nn.functional. that treat every item alike, the first argument
#: being the array; of these also the methods.
ALIKE_FUNCTIONS = frozenset(
    [
        *("relu", "relu6", "silu", "sigmoid", "tanh", "gelu", "leaky_relu", "elu", "celu", "selu"),
        *("hardtanh", "hardswish", "hardsigmoid", "softplus", "softshrink", "hardshrink", "mish"),
        *("tanhshrink", "threshold", "softsign", "logsigmoid", "rrelu", "dropout", "alpha_dropout"),
        *("exp", "log", "abs", "sqrt", "rsqrt", "square", "neg", "sin", "cos", "erf", "log1p"),
        *("expm1", "floor", "ceil", "round", "sign", "reciprocal", "clamp", "clip", "clamp_min"),
        *("clamp_max", "zeros_like", "ones_like", "randn_like", "rand_like", "isnan", "nan_to_num"),
        *("clone", "detach", "empty_like", "full_like", "logical_not", "sgn", "absolute"),
    ]
)
#: Of these, those whose other arguments may be arrays.
BOUNDED = frozenset(["clamp", "clip", "clamp_min", "clamp_max", "full_like"])
#: Methods alone, of the same kind.
ALIKE_METHODS = ALIKE_FUNCTIONS | frozenset(
    [
        *("contiguous", "float", "half", "double", "bfloat16", "to", "cuda", "cpu", "type"),
        *("long", "int", "bool", "relu_", "sigmoid_", "tanh_", "requires_grad_", "type_as"),
    ]
)
#: Functions and methods of two arrays, item by item.
PAIRWISE = frozenset(
    [
        *("add", "sub", "mul", "div", "subtract", "multiply", "divide", "true_divide", "maximum"),
        *("minimum", "pow", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"),
        *("expand_as", "atan2", "fmod", "remainder"),
    ]
)
#: Functions and methods over axes that are given as numbers; all keep an image with `keepdim`.
REDUCTIONS = frozenset(["mean", "sum", "amax", "amin", "std", "var", "prod", "logsumexp"])
#: The same, the result having the shape of what they got.
ALONG = frozenset(["softmax", "log_softmax", "cumsum"])
JOINING = frozenset(["cat", "concat", "concatenate"])
PARTING = frozenset(["chunk", "split"])
#: torch.nn.functional's functions that kit.channels_last has.
FUNCTIONS = frozenset(
    [
        *(f"{k}_pool{n}d" for k in ("max", "avg", "lp") for n in (1, 2, 3)),
        *(f"adaptive_{k}_pool{n}d" for k in ("avg", "max") for n in (1, 2, 3)),
        *(f"{k}{n}d" for k in ("conv", "conv_transpose") for n in (1, 2, 3)),
        *("interpolate", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "group_norm"),
        *("local_response_norm", "dropout1d", "dropout2d", "dropout3d", "prelu", "batch_norm"),
        *("instance_norm", "feature_alpha_dropout"),
    ]
)
#: Methods of modules that answer the module itself.
ITSELF = frozenset(["to", "cuda", "cpu", "train", "eval", "double", "float", "half", "apply"])
#: What may be asked of a module without calling it.
ASKED = frozenset(
    [
        *("weight", "bias", "parameters", "named_parameters", "state_dict", "load_state_dict"),
        *("train", "eval", "requires_grad_", "modules", "children", "named_modules", "training"),
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "num_features"),
        *("running_mean", "running_var", "in_features", "out_features", "zero_grad", "append"),
        *("named_children", "extend", "add_module", "groups", "dilation", "eps", "momentum"),
        *("weight_g", "weight_v", "reset_parameters", "double", "half", "float"),
    ]
)


#: Functions that are told a shape, number by number.
SHAPED = frozenset(["view", "reshape", "zeros", "ones", "randn", "rand", "empty", "expand"])


def axes_of(name: str) -> int:
    """Spatial axes that a layer's or function's name tells; 0 where it tells none."""
    return int(name[-2]) if len(name) > 1 and name[-1] == "d" and name[-2].isdigit() else 0
