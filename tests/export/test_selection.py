"""Masks in any place of an index, splits of lengths that vary, functions that write in place, and
torch's Transformer with every form of mask."""

import numpy as np
import pytest

from tests.export.test_kinks import Several, compare
from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx

X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
ROWS = torch.tensor([True, False, True, True])
COLUMNS = torch.tensor([True, False, True, True, False])
PLANE = torch.rand(5, 3, generator=torch.Generator().manual_seed(1)) > 0.5


def test_masks_are_read_in_any_place():
    compare(
        {
            "second": lambda x: x[:, COLUMNS],
            "last": lambda x: x[..., COLUMNS[:3]],
            "two axes": lambda x: x[:, PLANE],
            "beside positions": lambda x: x[torch.tensor([[0], [2]]), COLUMNS],
            "of the data": lambda x: x[:, x[0, :, 0] > 0],
            "of nothing": lambda x: x[:, x[0, :, 0] > 100],
            "where": lambda x: x[torch.where(x > 0)].sum(),
        },
        X,
    )


def written(change):
    def function(x):
        x = x.clone()
        change(x)
        return x

    return function


def fill(x):
    x[:, COLUMNS] = 0
    x[ROWS, torch.tensor([0, 2, 1])] = 1.5
    x[:, PLANE] = 7


def copied(x):
    x[:, COLUMNS] = x[:, ~COLUMNS][:, :1]
    x[..., COLUMNS[:3]] = x[..., :2] * 2
    x[:, PLANE] = x[:, PLANE] + 1


def of_data(x):
    x[:, x[0, :, 0] > 0] = 0
    x[x > 0] = x[x > 0] * 2
    x[:, x[0, :, 0] > 100] = x[:, :0]


def rows(x):
    x[x[:, :, 0] > 0] = torch.tensor([1.0, 2.0, 3.0])
    x[ROWS] = 0
    x.index_put_((ROWS, torch.tensor([0, 0, 0])), torch.ones(3), accumulate=True)


def test_masks_are_written_in_any_place():
    changes = (fill, copied, of_data, rows)
    compare({change.__name__: written(change) for change in changes}, X)


class Pieces(nn.Module):
    """A constant number of pieces of a length that varies."""

    def forward(self, x):
        n = x.shape[0]
        even = torch.split(torch.cat([x, x, x]), n)
        rest = torch.split(torch.cat([x, x[:2]]), n)
        return [*even, *rest, *x.chunk(3), *x.tensor_split(3), *x.split([1, n - 1])]


def test_pieces_of_a_length_that_varies():
    model, x = Pieces(), torch.randn(7, 3)
    made = torch2mlx.translate(model, (x,))
    for rows in (7, 10, 13):
        found = torch2mlx.verify(model, made, (torch.randn(rows, 3),))
        given = [output for output in found.outputs if not output.case]
        assert len(given) == 13 and found.difference == 0, str(found)


def test_counts_transforms_and_padding():
    functions = {"bincount": lambda x: torch.bincount((x[:, 0, 0] > 0).long(), minlength=4)}
    functions["weights"] = lambda x: torch.bincount(ROWS.long(), weights=x[:, 0, 1].detach())
    functions["padded"] = lambda x: nn.utils.rnn.pad_sequence([x[:, 0], x[0]], True, -1.0)
    for norm in ("backward", "ortho", "forward"):
        functions[norm] = lambda x, norm=norm: torch.fft.irfft2(
            torch.fft.rfft2(x, norm=norm) * 2, s=(5, 4), norm=norm
        )
        functions[f"{norm}, all"] = lambda x, norm=norm: torch.view_as_real(
            torch.fft.fftn(x, dim=(0, 2), norm=norm)
        )
    compare(functions, X)


IN_PLACE = (F.relu, F.elu, F.leaky_relu, F.hardtanh, F.celu, F.selu, F.rrelu, F.silu, F.mish)
IN_PLACE += (F.hardswish, F.hardsigmoid, F.relu6)


class Dropped(nn.Module):
    def forward(self, x):
        h = x * 1
        F.dropout(h, 0.5, self.training, inplace=True)
        return h, F.alpha_dropout(x * 2, 0.3, self.training, inplace=True)


def test_functions_that_write_in_place():
    def both(f):
        def function(x):
            y = x * 1
            return torch.stack([f(y, inplace=True) + 1, y])

        return function

    compare({f.__name__: both(f) for f in IN_PLACE}, X)
    found = torch2mlx.translate(Dropped().eval(), (X,))
    assert torch2mlx.verify(Dropped().eval(), found, (X,)).difference == 0
    made = torch2mlx.translate(Dropped().train(), (X,), check=False).module
    kept = made(mx.ones((400, 5, 3)))[0]
    assert abs(mx.mean((kept == 2).astype(mx.float32)).item() - 0.5) < 0.05
    made.eval()
    assert np.array_equal(made(mx.ones((2, 5, 3)))[0], np.ones((2, 5, 3)))


class Languages(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1)
        self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, x, mask, several, padding):
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        turned = x.transpose(0, 1)
        return (
            self.encoder(x, causal),
            self.encoder(x, mask, is_causal=True),
            self.encoder(x, mask < 0, padding < 0),
            self.encoder(x, several),
            self.decoder(turned, turned, causal),
            self.both(x, x, tgt_mask=mask, src_key_padding_mask=padding < 0),
        )


@pytest.mark.slow
def test_transformers_take_every_form_of_mask():
    torch.manual_seed(0)
    model = Languages().train()  # so that torch takes no shortcut of its own
    for part in model.modules():
        if isinstance(part, (nn.Dropout, nn.MultiheadAttention)):
            part.p = part.dropout = 0.0
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    padding = torch.zeros(2, 5).masked_fill(torch.tensor([[0] * 5, [0, 0, 0, 1, 1]]).bool(), -1e9)
    args = (torch.randn(2, 5, 8), mask, torch.randn(4, 5, 5), padding)
    made = torch2mlx.translate(model, args)
    found = torch2mlx.verify(model, made, args)
    assert found.ok and found.difference < 1e-5, str(found)


def test_a_computed_length_of_one_is_squeezed():
    model = nn.Sequential(nn.Conv1d(1, 4, 8, 4), nn.Flatten(0, 0)).eval()

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = model

        def forward(self, x):
            return self.conv(x[:, None]).squeeze(-1)

    one, x = Last(), torch.randn(2, 8)
    made = torch2mlx.translate(one, (x,))
    assert torch2mlx.verify(one, made, (torch.randn(5, 8),)).difference < 1e-5
    with pytest.raises(ValueError, match=r"squeeze|translated"):
        made.module(mx.ones((2, 12)))


@pytest.mark.parametrize("dtype", (torch.int32, torch.bool))
def test_several_reads_agree_for_other_dtypes(dtype):
    x = (X * 10).to(dtype)
    model = Several([lambda x: x[:, COLUMNS], lambda x: x[:, PLANE]])
    assert torch2mlx.verify(model, torch2mlx.translate(model, (x,)), (x,)).difference == 0
