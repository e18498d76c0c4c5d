"""Packed sequences in translated models: values, states and gradients at several lengths."""

import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, rnn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import torch2mlx
from tests.export.alike import assert_alike, assert_outputs_alike
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.kit import packed as kit_packed


class Packing(nn.Module):
    """A recurrent layer over packed sequences; `pads` are arguments of the padding."""

    def __init__(self, layer, enforce_sorted=False, batch_first=True, **pads):
        super().__init__()
        self.r, self.first, self.sorted, self.pads = layer, batch_first, enforce_sorted, pads

    def forward(self, x, lengths, state=None):
        packed = rnn.pack_padded_sequence(x, lengths, self.first, self.sorted)
        y, last = self.r(packed, state)
        return *rnn.pad_packed_sequence(y, self.first, **self.pads), last


class Whole(Packing):
    """As long as what came in."""

    def forward(self, x, lengths):
        y, _ = self.r(pack_padded_sequence(x, lengths.cpu(), True, False))
        return torch.cat([x, pad_packed_sequence(y, True, -2.0, x.size(1))[0]], -1)


class ByHand(Packing):
    """Sorted by the model's own code, the way back too."""

    def forward(self, x, lengths):
        lengths, order = lengths.sort(0, descending=True)
        y, last = self.r(pack_padded_sequence(x[order], lengths, batch_first=True))
        _, back = order.sort()
        return pad_packed_sequence(y, batch_first=True)[0][back], last[:, back]


class Encoder(nn.Module):
    """Takes and gives packed sequences, with items of its own."""

    def __init__(self):
        super().__init__()
        self.r, self.out = nn.GRU(4, 5), nn.Linear(5, 4)

    def forward(self, packed):
        y, last = self.r(packed)
        return PackedSequence(self.out(y.data).relu(), *y[1:]), last


class Encoders(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Encoder() for _ in range(2))

    def forward(self, x, lengths):
        packed, states = pack_padded_sequence(x, lengths, True, False), []
        for layer in self.layers:
            packed, last = layer(packed)
            states.append(last)
        return pad_packed_sequence(packed)[0], *states


class Pooled(Packing):
    """Masks made of the lengths that padding gives, and the last output of each sequence."""

    def forward(self, x, lengths):
        y, _ = self.r(pack_padded_sequence(x, lengths, True, False))
        y, counts = pad_packed_sequence(y, batch_first=True)
        inside = torch.arange(y.size(1)) < counts[:, None]
        weights = y.sum(-1).masked_fill(~inside, -1e9).softmax(-1)
        last = y[torch.arange(y.size(0)), counts - 1]
        return (weights[..., None] * y).sum(1), y.max(1)[0], last


class Unordered(Packing):
    """Leaves the order out: what follows is in the order of the lengths."""

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, True, False)
        y, last = self.r(PackedSequence(packed.data * 2, packed.batch_sizes))
        return pad_packed_sequence(y)[0], last, packed.sorted_indices


class Own(nn.LSTM):
    def forward(self, x, lengths):
        y, last = super().forward(pack_padded_sequence(x, lengths, True, False))
        return pad_packed_sequence(y, batch_first=True)[0], last


class Listed(Packing):
    """Lengths as a list of numbers, read from the tensor."""

    def forward(self, x, lengths):
        y, last = self.r(pack_padded_sequence(x, lengths.tolist(), True, False))
        return pad_packed_sequence(y, batch_first=True)[0], last


def inputs(*lengths, padded=0, first=True):
    longest = max(lengths) + padded
    torch.manual_seed(longest)
    x = torch.randn(len(lengths), longest, 4)
    return x if first else x.transpose(0, 1).contiguous(), torch.tensor(lengths)


CASES = {
    "bidirectional": (lambda: Packing(nn.LSTM(4, 5, batch_first=True, bidirectional=True)), {}),
    "projected": (lambda: Packing(nn.LSTM(4, 5, 2, proj_size=3), batch_first=True), {}),
    "no bias": (
        lambda: Packing(nn.RNN(4, 5, nonlinearity="relu", bias=False), batch_first=False),
        {"first": False},
    ),
    "total length": (lambda: Whole(nn.GRU(4, 5, 2, batch_first=True, bidirectional=True)), {}),
    "sorted by hand": (lambda: ByHand(nn.GRU(4, 5, batch_first=True)), {}),
    "nested": (Encoders, {}),
    "pooled": (lambda: Pooled(nn.LSTM(4, 5, batch_first=True)), {}),
    "unordered": (lambda: Unordered(nn.GRU(4, 5)), {}),
    "subclass": (lambda: Own(4, 5, batch_first=True), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients_agree_at_every_length(name):
    make, options = CASES[name]
    first, *others = (
        inputs(4, 6, 2, padded=1, **options),
        inputs(3, 3, **options),
        inputs(1, 9, 5, 2, **options),
    )
    made = assert_alike(make(), first, *others)
    assert made.free["lengths"] == (0,)
    assert made.free["x"] == (0, 1)


def test_a_weight_norm_of_a_layer_over_packed_sequences():
    """The layer's operator, with weights that the model computes; torch cannot copy such a one."""
    model = Packing(parametrizations.weight_norm(nn.LSTM(4, 5), "weight_hh_l0"))
    made = torch2mlx.translate(model, inputs(4, 6, 2))
    assert torch2mlx.verify(model, made, inputs(4, 6, 2), gradients=True).ok
    assert_outputs_alike(model, made.module, inputs(3, 1, 7, 2))


def test_a_layer_over_packed_sequences_stays_a_layer():
    t = torch2mlx.translate(Packing(nn.LSTM(4, 5)).eval(), inputs(4, 6, 2))
    assert "kit.LSTM(4, 5)" in t.source
    assert "kit.packed.pack_padded_sequence(" in t.source
    assert "mx.take" not in t.source


def test_sorted_sequences_with_a_state():
    model = Packing(nn.LSTM(4, 5), enforce_sorted=True, batch_first=False)
    state = lambda n: (torch.randn(1, n, 5), torch.randn(1, n, 5))
    cases = [inputs(6, 4, 2, first=False), inputs(5, 5, 3, 1, first=False)]
    given = [(*case, state(len(case[1]))) for case in cases]
    made = torch2mlx.translate(model, given[0])
    for args in given:
        assert_outputs_alike(model, made.module, args)
    with pytest.raises(ValueError, match="lengths must fall when enforce_sorted is True"):
        made(*inputs(2, 4, 6, first=False), state(3))


@pytest.mark.parametrize("lengths", [(4, 0, 2), (4, 9, 2)])
def test_lengths_that_sequences_cannot_have_are_refused(lengths):
    made = torch2mlx.translate(Packing(nn.GRU(4, 5)), inputs(4, 6, 2))
    with pytest.raises(ValueError, match="lengths must be from 1 to 6"):
        made(inputs(4, 6, 2)[0], torch.tensor(lengths))


def test_lengths_read_as_a_list_fix_the_number_of_sequences():
    model = Listed(nn.LSTM(4, 5))
    made = torch2mlx.translate(model, inputs(4, 6, 2))
    for args in (inputs(4, 6, 2), inputs(5, 1, 8)):
        assert_outputs_alike(model, made.module, args)
    with pytest.raises(ValueError, match="translated for 3"):
        made(*inputs(4, 6))


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_are_arguments_and_results(enforce_sorted):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.LSTM(4, 5, bidirectional=True)

        def forward(self, packed):
            y, (h, _) = self.r(packed)
            return y, h, pad_packed_sequence(y)[0]

    model = Layer()
    pack = lambda x, n: pack_padded_sequence(x, n, True, enforce_sorted)
    cases = [pack(*inputs(6, 4, 2)), pack(*inputs(5, 3, 3, 1))]
    made = torch2mlx.translate(model, (cases[0],))
    for packed in cases:
        assert_outputs_alike(model, made.module, (packed,))
    y = made(cases[1])[0]
    assert isinstance(y, kit_packed.PackedSequence)
    assert (y.sorted_indices is None) == enforce_sorted


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("packs", [False, True])
def test_dropout_between_layers_draws_as_torch_does(kind, packs):
    layer = kind(4, 5, 3, dropout=0.4, bidirectional=True).train()
    model, args = (Packing(layer), inputs(4, 6, 2)) if packs else (layer, inputs(4, 6)[:1])
    made = torch2mlx.translate(model, args)
    assert torch2mlx.verify(model, made, args).ok
    quiet = made.module.eval()
    assert_outputs_alike(model.eval(), quiet, args)


def test_torch_is_left_as_it_was():
    before = (pack_padded_sequence.__code__, pad_packed_sequence.__code__, nn.LSTM.forward)
    torch2mlx.translate(Packing(nn.GRU(4, 5)), inputs(4, 6, 2))
    after = (pack_padded_sequence.__code__, pad_packed_sequence.__code__, nn.LSTM.forward)
    assert before == after


def test_the_kit_packs_and_pads_as_torch_does():
    x, lengths = inputs(3, 5, 5, 1, padded=2)
    theirs = pack_padded_sequence(x, lengths, True, False)
    ours = kit_packed.pack_padded_sequence(to_mlx(x), lengths.tolist(), True, False)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.array(a), b.numpy())
    for options in ({}, {"batch_first": True, "padding_value": -1.5, "total_length": 9}):
        expected = pad_packed_sequence(theirs, **options)
        found = kit_packed.pad_packed_sequence(ours, **options)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(np.array(a), b.numpy())
    with pytest.raises(ValueError, match="total_length 3 is below the longest, 5"):
        kit_packed.pad_packed_sequence(ours, total_length=3)
    with pytest.raises(ValueError, match="2 lengths for 4 sequences"):
        kit_packed.pack_padded_sequence(to_mlx(x), mx.array([2, 3]), True)


def test_named_tuples_are_arguments():
    from collections import namedtuple

    Point = namedtuple("Point", "x y")

    class Sum(nn.Module):
        def forward(self, p):
            return p.x + 2 * p.y

    made = torch2mlx.translate(Sum(), (Point(torch.randn(2, 3), torch.randn(2, 3)),))
    given = Point(torch.randn(4, 5), torch.randn(4, 5))
    assert_outputs_alike(Sum(), made.module, (given,))


def test_a_model_that_calls_the_operators_of_torch_itself_is_refused():
    class Low(Packing):
        def forward(self, x, lengths):
            data, sizes = torch._pack_padded_sequence(x, lengths, True)
            states = tuple(torch.zeros(1, 3, 5) for _ in range(2))
            flat = self.r._flat_weights
            return torch._VF.lstm(data, sizes, states, flat, True, 1, 0.0, False, False)[0]

    with pytest.raises(TranslationError):
        torch2mlx.translate(Low(nn.LSTM(4, 5)), inputs(6, 4, 2))
