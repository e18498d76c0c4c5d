"""Small programs that do something with a length, each with the shapes of its arguments by letters.

A letter stands for one length wherever it occurs; digits are as they are. `i:` before a shape makes
integers below 5. A list of shapes is a list of arrays, a dict a dict.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

BASE = {"B": 3, "T": 6, "U": 4, "H": 8, "W": 12, "C": 4}
OTHERS = {
    "B": (1, 5),
    "T": (1, 2, 9),
    "U": (1, 7),
    "H": (4, 9, 16),
    "W": (8, 15),
    "C": (2, 8),
}
PLANTED: dict[str, tuple] = {}


def planted(*shapes, module=None):
    """Registers a function of the module and the arguments."""

    def register(function):
        PLANTED[function.__name__] = (function, shapes, module)
        return function

    return register


class Planted(nn.Module):
    """A module that runs one function, with `parts` as its sub-module."""

    def __init__(self, function, parts):
        super().__init__()
        self.parts = parts
        self._function = function

    def forward(self, *args):
        return self._function(self.parts, *args)


def build(name):
    """The module of a name."""
    torch.manual_seed(0)
    function, shapes, module = PLANTED[name]
    parts = module() if module else None
    names = [f"x{i}" for i in range(len(shapes))]
    listed = ", ".join(names)
    space = {"function": function}
    exec(f"def forward(self, {listed}):\n    return function(self.parts, {listed})", space)
    kind = type(name.title().replace("_", ""), (Planted,), {"forward": space["forward"]})
    return kind(function, parts).eval()


def given(name, **lengths):
    """Arguments of one size."""
    torch.manual_seed(1)
    sizes = {**BASE, **lengths}

    def make(shape):
        if isinstance(shape, (list, tuple)):
            return type(shape)(make(one) for one in shape)
        if isinstance(shape, dict):
            return {key: make(one) for key, one in shape.items()}
        kind, _, letters = shape.rpartition(":")
        axes = [sizes[a] if a in sizes else int(a) for a in letters.split()]
        return torch.randint(0, 5, axes) if kind else torch.randn(axes)

    return tuple(make(shape) for shape in PLANTED[name][1])


def sizes(name):
    """Sizes other than the base: each letter in turn, then all together."""
    text = repr(PLANTED[name][1])
    letters = [a for a in BASE if a in text]
    for letter in letters:
        for length in OTHERS[letter]:
            yield {letter: length}
    yield {a: OTHERS[a][-1] for a in letters}
    yield {a: OTHERS[a][0] for a in letters}


# loops


@planted("B T 4")
def loop_over_time(_, x):
    state, found = x.new_zeros(x.shape[0], 4), []
    for step in range(x.shape[1]):
        state = torch.tanh(state + x[:, step])
        found.append(state)
    return torch.stack(found, 1)


@planted("B T 4", module=lambda: nn.GRUCell(4, 4))
def cell_over_time(cell, x):
    state = x.new_zeros(x.shape[0], 4)
    for step in x.unbind(1):
        state = cell(step, state)
    return state


@planted("B T 4")
def loop_backwards(_, x):
    total = x[:, -1]
    for step in range(x.shape[1] - 2, -1, -1):
        total = total * 0.5 + x[:, step]
    return total


@planted("B T 4")
def loop_over_the_batch(_, x):
    return torch.stack([sample.sum(0) for sample in x])


@planted("B T 4")
def pieces_of_two(_, x):
    return sum(piece.sum(1) * (i + 1) for i, piece in enumerate(x.split(2, dim=1)))


@planted("B T 4")
def chunks(_, x):
    first, second = x.chunk(2, dim=1)
    return torch.cat([second, first], 1)


# numbers read from a length


@planted("B T 4")
def mean_by_number(_, x):
    return x.sum(1) / int(x.shape[1])


@planted("B T 4")
def scaled_by_root(_, x):
    return x / math.sqrt(x.shape[1])


@planted("B T 4")
def scaled_by_power(_, x):
    return x * x.shape[1] ** -0.5


@planted("B T 4")
def logarithm(_, x):
    return x * math.log(x.shape[1] + 1)


@planted("B C H W")
def mean_of_an_image(_, x):
    b, c, h, w = x.shape
    return x.reshape(b, c, -1).sum(-1) / (h * w)


@planted("B T 4")
def length_as_an_array(_, x):
    return x.sum(1) / torch.tensor(x.shape[1], dtype=x.dtype)


@planted("B T 4")
def count_of_items(_, x):
    return x.sum() / x.numel()


@planted("B T 4")
def full_of_a_length(_, x):
    return x + torch.full((x.shape[1], 1), float(x.shape[1]))


@planted("B T 4")
def half_of_a_length(_, x):
    return x[:, : x.shape[1] // 2].sum(1) + x[:, (x.shape[1] + 1) // 2 :].sum(1)


@planted("B T 4")
def float_of_a_length(_, x):
    return x * float(x.shape[1]) + round(x.shape[1] / 4)


# branches


@planted("B T 4")
def branch_on_a_length(_, x):
    return x + 1 if x.shape[1] <= 7 else x * 2


@planted("B T 4")
def branch_on_one(_, x):
    return x.sum(0) if x.shape[0] == 1 else x.mean(0)


@planted("B T 4")
def branch_on_even(_, x):
    return x[:, ::2] if x.shape[1] % 2 == 0 else x[:, 1:]


@planted("B T 4")
def padded_to_even(_, x):
    return F.pad(x, (0, 0, 0, x.shape[1] % 2))


@planted("B T 4", "B U 4")
def branch_on_two_lengths(_, x, y):
    return (x.sum(1) if x.shape[1] > y.shape[1] else y.sum(1)) * 2


@planted("B T 4")
def smaller_of_two(_, x):
    return x[:, : min(x.shape[1], 8)].sum(1) + max(x.shape[1], 4)


@planted("B T 4")
def one_step_or_many(_, x):
    return x.squeeze(1).sum(-1, keepdim=True) if x.shape[1] == 1 else x[:, -1]


@planted("B T 4")
def squeezed(_, x):
    return x.sum(-1).squeeze() + 1


@planted("B T 4")
def squeezed_batch(_, x):
    return x.mean(1).squeeze(0)


@planted("B T 4")
def asserted(_, x):
    assert x.shape[1] < 8
    return x * 2


@planted("B T 4")
def chosen_by_a_list(_, x):
    return x * [1.0, 2.0, 3.0, 4.0][x.shape[1] % 4]


# shapes


@planted("B T 4")
def reshaped_with_a_baked_batch(_, x):
    return x.reshape(3, -1, 2).sum(1)


@planted("B T 4")
def reshaped_with_a_baked_length(_, x):
    return x.reshape(-1, 6, 4).cumsum(1)


@planted("B T 4")
def heads(_, x):
    b, t, _ = x.shape
    return x.view(b, t, 2, 2).transpose(1, 2).reshape(b * 2, t, 2)


@planted("B C H W")
def flattened(_, x):
    return x.flatten(2).transpose(1, 2).softmax(1)


@planted("B C H W")
def patches(_, x):
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // 4, 4, w // 4, 4)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // 4) * (w // 4), -1)


@planted("B C H W")
def pixel_shuffled(_, x):
    return F.pixel_shuffle(x, 2)


@planted("B T 4")
def paired(_, x):
    return x.unflatten(1, (-1, 2)).mean(2)


@planted("B T 4", "1 T 4")
def broadcast(_, x, y):
    return x + y


@planted("B T 4")
def expanded(_, x):
    return x[:, None].expand(-1, x.shape[1], -1, -1).sum(2)


@planted("B T 4")
def windows(_, x):
    return x.unfold(1, 3, 1).mean(-1)


@planted("B T 4")
def windows_of_a_stride(_, x):
    return x.transpose(1, 2).unfold(2, 2, 2).amax(-1)


@planted("B C H W")
def unfolded(_, x):
    return F.unfold(x, 3, padding=1)


@planted("B C H W")
def folded(_, x):
    return F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2)


@planted("B C H W")
def swin_windows(_, x):
    b, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1)
    x = F.pad(x, (0, 0, 0, (4 - w % 4) % 4, 0, (4 - h % 4) % 4))
    hp, wp = x.shape[1:3]
    x = x.view(b, hp // 4, 4, wp // 4, 4, c).transpose(2, 3).reshape(-1, 16, c)
    return x.softmax(1).mean(1)


# tables


@planted("B T 4", module=lambda: nn.Embedding(8, 4))
def positions(table, x):
    return x + table(torch.arange(x.shape[1]))


@planted("B T 4", module=lambda: nn.ParameterList([nn.Parameter(torch.randn(8, 4))]))
def positions_sliced(parts, x):
    return x + parts[0][: x.shape[1]]


@planted("B T 4", module=lambda: nn.ParameterList([nn.Parameter(torch.randn(6, 4))]))
def positions_of_one_length(parts, x):
    return x + parts[0]


@planted("B T 4")
def sinusoids(_, x):
    t = torch.arange(x.shape[1])[:, None] / 10 ** (torch.arange(0, 4, 2) / 4)
    return x + torch.cat([t.sin(), t.cos()], 1)


@planted("B T 4")
def causal(_, x):
    mask = torch.ones(x.shape[1], x.shape[1]).tril().bool()
    return (x @ x.transpose(1, 2)).masked_fill(~mask, -1e9).softmax(-1) @ x


@planted("B T 4")
def relative_bias(_, x):
    t = torch.arange(x.shape[1])
    return (x @ x.transpose(1, 2) - (t[:, None] - t).abs()).softmax(-1) @ x


@planted("B H W 4", module=lambda: nn.ParameterList([nn.Parameter(torch.randn(1, 4, 4, 4))]))
def resized_positions(parts, x):
    size = x.shape[1:3]
    table = F.interpolate(parts[0], size=size, mode="bilinear", align_corners=False)
    return x + table.permute(0, 2, 3, 1)


# pools and sizes of images


@planted("B C H W")
def pooled(_, x):
    return F.max_pool2d(x, 2)


@planted("B C H W")
def pooled_up(_, x):
    return F.avg_pool2d(x, 3, stride=2, ceil_mode=True)


@planted("B C H W")
def pooled_adaptively(_, x):
    return F.adaptive_avg_pool2d(x, 2)


@planted("B C H W")
def pooled_adaptively_to_three(_, x):
    return F.adaptive_avg_pool2d(x, (3, 1))


@planted("B C T")
def pooled_largest(_, x):
    return F.adaptive_max_pool1d(x, 3)


@planted("B C H W")
def pooled_by_its_own_size(_, x):
    return F.avg_pool2d(x, x.shape[2:])


@planted("B C H W")
def enlarged(_, x):
    return F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False)


@planted("B C H W", "B C 8 12")
def sized_as_another(_, x, y):
    return F.interpolate(x, size=y.shape[2:], mode="nearest") + y


@planted("B 4 H W", module=lambda: nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.Flatten(1)))
def convolved(layers, x):
    return layers(x) / x.shape[2]


@planted("B 4 H W", module=lambda: nn.ModuleList([nn.Conv2d(4, 4, 3, 2, 1), nn.Linear(96, 3)]))
def head_of_one_size(layers, x):
    return layers[1](layers[0](x).flatten(1))


@planted(
    "B 4 H W", module=lambda: nn.ModuleList([nn.Conv2d(4, 4, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)])
)
def skip_connection(layers, x):
    down = layers[0](x)
    return layers[1](torch.cat([down, down.relu()], 1)) + x


# layers


@planted("B T 4", module=lambda: nn.LSTM(4, 5, batch_first=True, bidirectional=True))
def lstm(layer, x):
    states, (last, _) = layer(x)
    return states / x.shape[1], last


@planted("T B 4", module=lambda: nn.GRU(4, 5, num_layers=2))
def gru(layer, x):
    return layer(x)[0].mean(0) * x.shape[0]


@planted("B T 4", module=lambda: nn.MultiheadAttention(4, 2, batch_first=True))
def attention(layer, x):
    return layer(x, x, x)[0]


@planted("B T 4", "B U 4", module=lambda: nn.MultiheadAttention(4, 2, batch_first=True))
def cross_attention(layer, x, y):
    return layer(x, y, y, need_weights=False)[0]


@planted("B T 4", module=lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))
def encoder(layer, x):
    return layer(x).mean(1)


@planted("B T 4")
def scaled_attention(_, x):
    return F.scaled_dot_product_attention(x, x, x, is_causal=True)


# several arguments


@planted(["B 4", "B 4"], {"one": "B 4"})
def containers(_, xs, named):
    return xs[0] * 2 + xs[1] + named["one"]


@planted(["T 4", "U 4"])
def list_of_sequences(_, xs):
    return torch.stack([x.mean(0) for x in xs])


@planted({"ids": "i:B T", "mask": "i:B T"}, module=lambda: nn.Embedding(5, 4))
def masked_mean(table, batch):
    mask = batch["mask"][..., None].float()
    return (table(batch["ids"]) * mask).sum(1) / batch["ids"].shape[1]


@planted("B T 4", "B U 4")
def joined(_, x, y):
    return torch.cat([x, y], 1).cumsum(1)[:, x.shape[1] :]


@planted("B T 4", "B T 4")
def every_pair(_, x, y):
    return torch.cdist(x, y).mean((1, 2))


@planted("B T 4", "i:B")
def gathered(_, x, i):
    return x[torch.arange(x.shape[0]), i % x.shape[1]]


# orders


@planted("B T 4")
def rolled(_, x):
    return x.roll(2, 1) + x.flip(1)


@planted("B T 4")
def largest_two(_, x):
    return x.topk(2, dim=1).values


@planted("B T 4")
def sorted_by_length(_, x):
    return x.sort(dim=1).values[:, -1] + x.kthvalue(1, dim=1).values


@planted("B T 4")
def spread(_, x):
    return x.std(1) + x.var(dim=(0, 1), unbiased=True)


@planted("B T 4")
def padded_to_eight(_, x):
    return F.pad(x, (0, 0, 0, 8 - x.shape[1])).sum(1)


@planted("B T 4")
def written_in_part(_, x):
    made = torch.zeros_like(x)
    made[:, : x.shape[1] // 2] = x[:, : x.shape[1] // 2] * 2
    return made


@planted("B T 4")
def buffer_of_a_length(_, x):
    made = x.new_zeros(x.shape[0], 8, 4)
    made[:, : x.shape[1]] = x
    return made.mean(1)


@planted("B T 4")
def linspaced(_, x):
    return x * torch.linspace(0, 1, x.shape[1])[:, None]


@planted("B T 4")
def spectrum(_, x):
    return torch.fft.rfft(x, dim=1).abs()


@planted("B T")
def short_time_spectrum(_, x):
    return x.unfold(1, 2, 1).pow(2).sum(-1).sqrt()


@planted("B T 4")
def einsum(_, x):
    return torch.einsum("btc,bsc->bts", x, x) / x.shape[1]


@planted("B T 4")
def repeated(_, x):
    return x.repeat(1, 2, 1) + x.repeat_interleave(2, dim=1)


@planted("B T 4")
def diagonal_of_products(_, x):
    return torch.diagonal(x @ x.transpose(1, 2), dim1=1, dim2=2) / x.size(1)


@planted("B T 4")
def fourth_step(_, x):
    return x[:, 3] + x[:, -4]


@planted("B T 4")
def first_five(_, x):
    return x[:, :5].sum(1) / x[:, :5].shape[1]


@planted("B T 4")
def without_the_ends(_, x):
    return x[:, 1:-1].flatten(1).sum(1)


@planted("B T 4")
def spectrum_by_root(_, x):
    return torch.fft.irfft(
        torch.fft.rfft(x, dim=1, norm="ortho"), n=x.shape[1], dim=1, norm="ortho"
    )


@planted("B T 4", "B T 4", "T T")
def attention_with_a_mask(_, x, y, mask):
    return F.scaled_dot_product_attention(x, y, y, attn_mask=mask)


@planted("B 2 T 4", "B 2 U 4")
def causal_across(_, x, y):
    return F.scaled_dot_product_attention(x, y, y, is_causal=True)


@planted("B T 4", "B U 4")
def outer(_, x, y):
    return (x[:, :, None] * y[:, None]).flatten(1, 2).transpose(1, 2).reshape(-1, 2).sum(1)


@planted("B T 4", module=lambda: nn.BatchNorm1d(4))
def normed(layer, x):
    return layer(x.transpose(1, 2)).transpose(1, 2) + F.layer_norm(x, x.shape[-1:])


@planted("B C H W")
def normed_over_images(_, x):
    return F.layer_norm(x, x.shape[1:]) + F.instance_norm(x)


@planted(
    "B 4 T", module=lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
)
def sounds(layers, x):
    return layers(x)


@planted("B H W")
def turned(_, x):
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[1], x.shape[2])


@planted("i:B T", module=lambda: nn.Embedding(5, 4))
def places_from_a_mask(table, ids):
    places = (ids != 0).cumsum(1)
    return table(ids) * places[..., None] / places.shape[1]


@planted("B T 4")
def meshed(_, x):
    rows, columns = torch.meshgrid(
        torch.arange(x.shape[0]), torch.arange(x.shape[1]), indexing="ij"
    )
    return x + (rows * columns)[..., None]


@planted("B T 4")
def one_hot_places(_, x):
    return F.one_hot(torch.arange(x.shape[1]), x.shape[1]).float() @ x


@planted("B T 4")
def strided(_, x):
    return x[:, ::2].sum(1) + x[:, 1::2].sum(1)


@planted("B T 4")
def random_like(_, x):
    return torch.zeros(x.shape).add(x).new_ones(x.shape[0], x.shape[1]) * x.sum(-1)


@planted("B T 4")
def stacked_pairs(_, x):
    return torch.stack([x[:, i : i + 2].sum(1) for i in range(0, x.shape[1], 2)], 1)


@planted("B 4 H W", module=lambda: nn.Conv2d(4, 4, 4, 4))
def patch_embedding(layer, x):
    x = layer(x).flatten(2).transpose(1, 2)
    return torch.cat([x.new_zeros(x.shape[0], 1, 4), x], 1).mean(1)
