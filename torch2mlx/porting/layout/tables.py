"""Layers, functions and methods by what they do with the layout of an array."""

from __future__ import annotations

from torch2mlx.catalog.functions.layout import functions_with
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.types.layers import IMAGES

#: Layers that take arrays of any rank, so that what they get decides.
FLEXIBLE = frozenset(name for name, takes in IMAGES.items() if takes == "flexible")
#: Layers that take images alone.
RIGID = frozenset(name for name, takes in IMAGES.items() if takes == "rigid")
#: Functions and methods whose other arguments may be arrays.
BOUNDED = functions_with("itemwise")
#: Functions and methods that treat every item alike, the first argument being the array.
ALIKE_FUNCTIONS = functions_with("elementwise") | BOUNDED
#: Functions and methods of two arrays, item by item.
PAIRWISE = functions_with("pairwise")
#: Functions and methods over axes that are given as numbers; all keep an image with `keepdim`.
REDUCTIONS = functions_with("reduction")
#: The same, the result having the shape of what they got.
ALONG = functions_with("along")
JOINING = functions_with("joining")
PARTING = functions_with("parting")
#: torch.nn.functional's functions that kit.channels_last has.
FUNCTIONS = functions_with("images")
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
        *("buffers", "named_buffers", "reset_running_stats"),
    ]
)


#: Functions that read or set something of the layer that they are given first.
OF_LAYERS = (f"{KIT}.weights.", f"{KIT}.options.")


#: Functions that are told a shape, number by number.
SHAPED = frozenset(["view", "reshape", "zeros", "ones", "randn", "rand", "empty", "expand"])


def axes_of(name: str) -> int:
    """Spatial axes that a layer's or function's name tells; 0 where it tells none."""
    return int(name[-2]) if len(name) > 1 and name[-1] == "d" and name[-2].isdigit() else 0
