"""Rounding in the results of torch's operators, as another library has it.

Sums, products of matrices and functions such as exp are rounded by each library in its own way;
what copies, chooses or adds two numbers is the same everywhere, and is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch2mlx.export.verify.watching import Operator, watched

#: Size of the noise, against each number: one unit in the last place of float32.
UNIT = 1.2e-7
#: Beginnings of the names of operators whose result depends on the order of a sum or on a series.
_ROUNDED = (
    *("mm", "addmm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "dot", "mv", "addmv"),
    *("convolution", "_convolution", "conv", "_scaled_dot_product", "scaled_dot_product"),
    *("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm"),
    *("_batch_norm", "cudnn_batch_norm", "mkldnn", "_fused_rms_norm", "rms_norm", "norm"),
    *("_softmax", "_log_softmax", "softmax", "log_softmax", "logsumexp", "_safe_softmax"),
    *("sum", "mean", "var", "std", "linalg", "cumsum", "prod", "cumprod", "pow", "einsum"),
    *("exp", "log", "tanh", "sigmoid", "gelu", "silu", "mish", "softplus", "erf", "elu"),
    *("rsqrt", "sin", "cos", "tan", "atan", "upsample", "avg_pool", "_adaptive_avg"),
    *("_thnn", "lstm", "gru", "rnn", "_fft", "grid_sampler", "_cdist"),
)


@contextmanager
def rounding(seed: int) -> Iterator[None]:
    """While open, each number of such a result is one unit of rounding off, up or down."""
    import torch
    from torch.utils import _pytree as pytree

    generator = torch.Generator().manual_seed(seed)

    def note(operator: Operator, args: Any, kwargs: Any, result: Any) -> None:
        if not operator.name.startswith(_ROUNDED) or _gives_views(operator.called):
            return
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _rounds(leaf):
                leaf.add_(one_unit(leaf, generator))

    with watched(note):
        yield


def one_unit(values: Any, generator: Any) -> Any:
    """One unit of rounding of each number, up or down."""
    import torch

    signs = torch.randint(0, 2, values.shape, generator=generator).to(values.device) * 2 - 1
    return values * (signs * max(UNIT, torch.finfo(values.dtype).eps)).to(values.dtype)


def _gives_views(called: Any) -> bool:
    """Whether a result is, or shares memory with, what the operator was given."""
    returned = getattr(getattr(called, "_schema", None), "returns", ())
    return any(r.alias_info is not None for r in returned)


def _rounds(leaf: Any) -> bool:
    """Whether there is anything to round: whole numbers are exact in every library."""
    import torch

    return (
        leaf.dtype == torch.float32
        and leaf.layout == torch.strided
        and not torch.equal(leaf, leaf.round())
    )
