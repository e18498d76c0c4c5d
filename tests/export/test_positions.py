"""Tables that are looked up at places which the model counts itself: past their ends torch raises
an error, and so does the file, by the table's name."""

import numpy as np
import pytest

from tests.support import close, need

torch, mx = need("torch", "mlx.core")

from torch import nn

import torch2mlx

ROWS = 10


class Positions(nn.Module):
    """Tokens (B, L) behind others that a state (B, P) tells the number of: rows of a table."""

    def __init__(self, places, first=0):
        super().__init__()
        self.table = nn.Embedding(ROWS, 4)
        self.places, self.first = places, first

    def forward(self, x, state):
        return x[..., None] + self.looked_up(self.places(x, state) + self.first)

    def looked_up(self, places):
        return self.table(places)


class Indexed(Positions):
    def looked_up(self, places):
        return self.table.weight[places]


class Selected(Positions):
    def looked_up(self, places):
        return self.table.weight.index_select(0, places.reshape(-1)).reshape(*places.shape, -1)


class Axis(Positions):
    def looked_up(self, places):
        return self.table.weight.T[:, places].movedim(0, -1)


class Buffer(Positions):
    def __init__(self, places, first=0):
        super().__init__(places, first)
        self.register_buffer("rotations", torch.arange(ROWS * 2.0).reshape(ROWS, 2))

    def looked_up(self, places):
        return self.rotations[places].repeat(1, 1, 2)


class Made(Positions):
    def looked_up(self, places):
        angles = torch.arange(ROWS).float()[:, None] * torch.tensor([1.0, 0.1, 0.2, 0.3])
        return angles.cos()[places]


def counted(x, state):
    return (torch.arange(x.shape[1]) + state.shape[1])[None]


def between(x, state):
    return torch.arange(state.shape[1], state.shape[1] + x.shape[1]).unsqueeze(0)


def of_a_mask(x, state):
    mask = torch.ones(x.shape[0], x.shape[1] + state.shape[1])
    return ((mask.cumsum(1) * mask).long() - 1)[:, state.shape[1] :]


def of_tokens(x, state):
    mask = x.ne(0).int()
    return (mask.cumsum(1).type_as(mask) + state.shape[1]) * mask - 1


KINDS = [
    (Positions, counted, 0, "table.weight"),
    (Positions, between, 0, "table.weight"),
    (Positions, of_a_mask, 2, "table.weight"),
    (Positions, of_tokens, 1, "table.weight"),
    (Indexed, counted, 0, "table.weight"),
    (Selected, counted, 1, "table.weight"),
    (Axis, counted, 0, "table.weight"),
    (Buffer, counted, 0, "rotations"),
    (Made, between, 0, "the table of test_positions.py"),
]


def example(tokens, past, batch=2):
    torch.manual_seed(tokens)
    return torch.rand(batch, tokens) + 1, torch.zeros(batch, past)


@pytest.mark.parametrize("kind, places, first, name", KINDS)
def test_past_the_end_of_a_table_the_file_raises_an_error_with_its_name(kind, places, first, name):
    model = kind(places, first).eval()
    made = torch2mlx.translate(model, example(3, 4))
    most = ROWS - first
    for tokens, past in ((3, 4), (1, most - 1), (most - 1, 1)):
        given = example(tokens, past)
        with torch.no_grad():
            expected = model(*given).numpy()
        close(np.array(made.module(*(mx.array(a.numpy()) for a in given))), expected, 1e-6)
    for tokens, past in ((1, most), (most, 1), (4, most)):
        given = example(tokens, past)
        with pytest.raises((IndexError, RuntimeError)):
            model(*given)
        with pytest.raises(ValueError, match=name) as error:
            made.module(*(mx.array(a.numpy()) for a in given))
        said = str(error.value)
        assert said.startswith(f"state.shape[1] + x.shape[1] is {tokens + past}: {name}")
        assert said.endswith(f"ends at {most}")


def clamped(x, state):
    return counted(x, state).clamp(max=ROWS - 1)


def repeated(x, state):
    return counted(x, state) % ROWS


def least(x, state):
    return torch.minimum(counted(x, state), torch.full((1,), ROWS - 1))


@pytest.mark.parametrize("places", [clamped, repeated, least])
def test_places_that_never_pass_the_end_are_not_checked(places):
    model = Positions(places).eval()
    made = torch2mlx.translate(model, example(3, 4))
    assert "ends at" not in made.source
    for tokens, past in ((3, 4), (2 * ROWS, 3), (1, 3 * ROWS)):
        given = example(tokens, past)
        with torch.no_grad():
            expected = model(*given).numpy()
        close(np.array(made.module(*(mx.array(a.numpy()) for a in given))), expected, 1e-6)
