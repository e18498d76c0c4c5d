"""Mixtures of experts: rows sorted by expert, each group times its own matrix."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn

#: From how many rows on they are sorted by their experts.
MANY = 64


def grouped_mm(x: mx.array, weight: mx.array, ends: mx.array) -> mx.array:
    """x (rows, D) in consecutive groups, weight (groups, D, F), `ends` (groups,) -> (rows, F).

    Row i belongs to the first group whose end is beyond i; rows past the last end give 0.
    """
    rows = mx.arange(x.shape[0])
    group = mx.sum(rows[:, None] >= ends[None], axis=1)
    inside = group < weight.shape[0]
    group = mx.minimum(group, weight.shape[0] - 1)
    y = sorted_mm(x, weight, group)
    return mx.where(inside[:, None], y, 0)


def sorted_mm(
    x: mx.array, weight: mx.array, experts: mx.array, sorted_indices: bool = True
) -> mx.array:
    """x (rows, D), weight (experts, D, F), `experts` (rows,) in ascending order, unless
    `sorted_indices` is False -> (rows, F): each row times the matrix of its expert."""
    dtype = x.dtype
    if mx.default_device() == mx.Device(mx.cpu):  # whose kernel knows float32 alone
        x, weight = x.astype(mx.float32), weight.astype(mx.float32)
    experts = experts.astype(mx.uint32)
    y = mx.gather_mm(x[:, None], weight, rhs_indices=experts, sorted_indices=sorted_indices)
    return y[:, 0].astype(dtype)


def ordered(experts: mx.array) -> tuple[mx.array, mx.array]:
    """The numbers of experts (rows,) in ascending order, and where each of them was; few numbers
    are left as they are, since sorting them takes longer than products of sorted rows save."""
    if experts.size < MANY:
        return experts.astype(mx.uint32), mx.arange(experts.size)
    order = mx.argsort(experts)
    return experts[order].astype(mx.uint32), order


def in_order(experts: mx.array, ordered: bool) -> bool:
    """Whether the numbers of experts that `ordered` gave are in ascending order."""
    return ordered and experts.size >= MANY


def rows_of(x: mx.array, order: mx.array, count: int = 1) -> mx.array:
    """x (rows, ...), of which each is for `count` experts -> (count * rows, ...), in the order that
    `ordered` gave."""
    if order.size >= MANY:
        return x[order // count] if count > 1 else x[order]
    if x.shape[0] == 1:
        return mx.broadcast_to(x, (count, *x.shape[1:]))
    return mx.repeat(x, count, axis=0) if count > 1 else x


def put_back(y: mx.array, order: mx.array) -> mx.array:
    """Rows in the order that `ordered` gave, each where it was before."""
    return y[mx.argsort(order)] if order.size >= MANY else y


class ExpertLinear(nn.Module):
    """A matrix for each of several experts, and a bias where `bias` is true, for rows that have an
    expert each; `nn.quantize` puts a `QuantizedExpertLinear` in its place.

    weight (experts, output_dims, input_dims), or (experts, input_dims, output_dims) where it is
    `turned`; bias (experts, output_dims).
    """

    def __init__(
        self,
        input_dims: int,
        output_dims: int,
        experts: int,
        bias: bool = True,
        turned: bool = False,
    ):
        super().__init__()
        scale = math.sqrt(1 / input_dims)
        sizes = (input_dims, output_dims) if turned else (output_dims, input_dims)
        self.weight = mx.random.uniform(-scale, scale, (experts, *sizes))
        if bias:
            self.bias = mx.zeros((experts, output_dims))
        self.turned = self.saved_turned = turned

    def unturned(self) -> None:
        """Holds the weight as (experts, output_dims, input_dims), as one in a few bits lies: who
        loads such a weight reads from the layer's how many inputs there are."""
        if self.turned:
            self.weight, self.turned = self.weight.swapaxes(-1, -2), False

    def __call__(self, x: mx.array, experts: mx.array, ordered: bool = False) -> mx.array:
        """x (rows, input_dims), `experts` (rows,) -> (rows, output_dims). `ordered`: the rows are
        in the order that `ordered` gives, or in that of their experts."""
        weight = self.weight if self.turned else self.weight.swapaxes(-1, -2)
        y = sorted_mm(x, weight, experts, in_order(experts, ordered))
        return y + self.bias[experts] if "bias" in self else y

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> QuantizedExpertLinear:
        """The layer with its weight in a few bits, as `mx.quantize` makes them."""
        weight = self.weight.swapaxes(-1, -2) if self.turned else self.weight
        made = QuantizedExpertLinear(weight, self.get("bias"), group_size, bits, mode)
        made.saved_turned = self.saved_turned
        return made


class QuantizedExpertLinear(nn.Module):
    """An `ExpertLinear` whose weight (experts, output_dims, input_dims) is held in a few bits, with
    `scales` and, in the mode "affine", `biases` for each `group_size` items of its last axis. Its
    parameters are not trained."""

    def __init__(
        self,
        weight: mx.array,
        bias: mx.array | None,
        group_size: int | None,
        bits: int | None,
        mode: str,
    ):
        super().__init__()
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.saved_turned = False
        self.weight, self.scales, *biases = mx.quantize(weight, group_size, bits, mode=mode)
        if biases:
            self.biases = biases[0]
        if bias is not None:
            self.bias = bias
        self.freeze()

    def unfreeze(
        self, *, recurse: bool = True, keys: str | list[str] | None = None, strict: bool = False
    ) -> nn.Module:
        """Leaves all as it is, since numbers of a few bits have no gradient."""
        return self

    def fuse(self, dequantize: bool = False) -> nn.Module:
        """What mlx_lm.fuse puts in its place: itself, or an `ExpertLinear` of the same numbers."""
        if not dequantize:
            return self
        weight = mx.dequantize(
            self.weight,
            self.scales,
            self.get("biases"),
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )
        experts, outputs, inputs = weight.shape
        made = ExpertLinear(inputs, outputs, experts, "bias" in self, self.saved_turned)
        made.weight = weight.swapaxes(-1, -2) if self.saved_turned else weight
        if "bias" in self:
            made.bias = self.bias
        return made

    def __call__(self, x: mx.array, experts: mx.array, ordered: bool = False) -> mx.array:
        """x (rows, input_dims), `experts` (rows,) -> (rows, output_dims), as `ExpertLinear`."""
        y = mx.gather_qmm(
            x[:, None],
            self.weight,
            self.scales,
            self.get("biases"),
            rhs_indices=experts.astype(mx.uint32),
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            sorted_indices=in_order(experts, ordered),
        )[:, 0]
        return y + self.bias[experts] if "bias" in self else y


def for_layers(model: nn.Module, weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Weights by their names in a model, of which a checkpoint may have those of experts under the
    name of the layer alone: "experts.down_proj" is "experts.down_proj.weight" here. Layers that
    have weights in a few bits are made ready to be quantized."""
    layers = {path: held for path, held in model.named_modules() if isinstance(held, ExpertLinear)}
    for path, layer in layers.items():
        if f"{path}.scales" in weights:
            layer.unturned()
    return {f"{key}.weight" if key in layers else key: held for key, held in weights.items()}


def joined(
    weights: Mapping[str, mx.array],
    renamed: Mapping[str, str],
    stacks: Mapping[str, Sequence[str]],
) -> dict[str, mx.array]:
    """Weights by a model's names, of which a checkpoint may have some by others.

    `renamed`: a part of a name in checkpoints, and what the model has for it. `stacks`: the end of
    the name of one array for all experts, and of the names of the matrices, "*" being an expert's
    number, that are stacked and joined on axis 1. Raises ValueError where experts are missing.
    """
    made: dict[str, mx.array] = {}
    apart: dict[str, dict[str, dict[int, mx.array]]] = {}
    for key, held in weights.items():
        name, part, number = model_name(key, renamed, stacks)
        if part:
            apart.setdefault(name, {}).setdefault(part, {})[number] = held
        else:
            made[name] = held
    for whole, found in apart.items():
        parts = next(parts for end, parts in stacks.items() if whole.endswith(end))
        every = range(1 + max(number for held in found.values() for number in held))
        lost = [f"{part} {i}" for part in parts for i in every if i not in found.get(part, {})]
        if lost:
            raise ValueError(f"{whole}: matrices of experts are missing: {', '.join(lost[:5])}")
        made[whole] = mx.concatenate(
            [mx.stack([found[part][i] for i in every]) for part in parts], axis=1
        )
    return made


def model_name(
    key: str, renamed: Mapping[str, str], stacks: Mapping[str, Sequence[str]]
) -> tuple[str, str, int]:
    """The name that a model has for one of a checkpoint, told as in `joined`; of a matrix of an
    expert that of the array for all, what the matrix is called, and the number of the expert."""
    for old, new in renamed.items():
        key = key.replace(old, new, 1)
    for end, parts in stacks.items():
        for part in parts:
            head, _, tail = part.partition("*")
            found = re.fullmatch(rf"(.*?){re.escape(head)}(\d+){re.escape(tail)}", key)
            if found is not None:
                return found[1] + end, part, int(found[2])
    return key, "", 0
