"""Operators in place that are refused: the line is the model's, the operator is named; and what
torch lets no one write to while gradients are recorded."""

import re

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import ExportError, TranslationError, UnsupportedOperatorError

X = torch.rand(2, 3) + 0.5


class Does(nn.Module):
    """A forward that is a function of the module and its input."""

    def __init__(self, function):
        super().__init__()
        self.does = function
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("kept", torch.ones(2, 3))

    def forward(self, x):
        return self.does(self, x)


def on_a_copy(m, x):
    y = x * 2
    return y.igamma_(x)  # here


def on_a_part(m, x):
    y = x * 2
    y[:, 1:].igamma_(y[:, 1:])  # here
    return y


def on_a_buffer(m, x):
    m.kept.igamma_(x)  # here
    return x + m.kept


def through_bytes(m, x):
    y = x * 2
    y.view(torch.int32).add_(1)  # here
    return y


def to_data(m, x):
    m.weight.data = torch.igamma(m.weight.data, m.weight.data)  # here
    return x * m.weight


IN_PLACE = [on_a_copy, on_a_part, on_a_buffer, through_bytes, to_data]


@pytest.mark.parametrize("function", IN_PLACE)
def test_a_refused_write_is_told_with_the_models_own_line(function):
    with open(__file__) as source:
        lines = source.read().split("\n")
    first = lines.index(f"def {function.__name__}(m, x):")
    line = next(i for i in range(first, len(lines)) if lines[i].endswith("# here")) + 1
    with pytest.raises(UnsupportedOperatorError) as caught:
        torch2mlx.translate(Does(function), (X,), check=False)
    (finding,) = caught.value.findings
    assert re.match(rf"aten\.\w+\.\w+ in model \(.*test_in_place_refused\.py:{line}\): ", finding)


def doubles_a_row(m, x):
    m.weight[0].mul_(2)
    return x * m.weight


def each_of_several(m, x):
    y = x * m.weight
    for row in y.unbind(1):
        row.add_(1)
    return y


@pytest.mark.parametrize("function", [doubles_a_row, each_of_several])
def test_what_torch_writes_to_without_gradients_alone_is_translated_in_evaluation(function):
    model = Does(function).eval()
    made = torch2mlx.translate(model, (X,))
    assert torch2mlx.verify(model, made, (X,)).ok
    assert any("without gradients alone" in note for note in made.notes)
    with pytest.raises(ExportError, match=r"is being (used|modified).*in-?place"):
        torch2mlx.translate(model.train(), (X,))


def test_a_line_of_who_calls_translate_is_no_line_of_the_model():
    made = torch2mlx.translate(nn.Sequential(nn.Linear(3, 2), nn.Tanh()).eval(), (X,))
    made_longer = torch2mlx.translate(nn.Sequential(nn.BatchNorm1d(3)).eval(), (X,))
    for source in (made.source, made_longer.source):
        assert "test_in_place_refused.py" not in source


def test_an_error_of_the_forward_keeps_its_line():
    def fails(m, x):
        return x[:, 5]

    with pytest.raises(TranslationError, match=r"test_in_place_refused\.py:\d+ \(`return x"):
        torch2mlx.translate(Does(fails), (X,))
