"""Weights and buffers that a forward overwrites through `.data`: values of this call and the next,
gradients, what is kept."""

import copy

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import numpy as np
import torch
from torch import nn

import torch2mlx
from tests.export.alike import assert_alike, assert_state_alike
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.lower.build_layer import converted_arrays


class Overwrites(nn.Module):
    """A model around one way of overwriting."""

    def __init__(self, way):
        super().__init__()
        self.way, self.fc = way, nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.tensor([0.5, -3.0, 2.0, 0.1]))
        self.register_buffer("level", torch.tensor([1.0, 2.0, -1.0, 0.5]))

    def forward(self, x):
        return self.way(self, x)


def bounded(weight):
    with torch.no_grad():
        sign = weight.sign()
        size = weight.abs_()
        size.clamp_(max=1.0)
        return size * sign


def assigned(m, x):
    m.weight.data = bounded(m.weight.data)
    return x * m.weight


def assigned_without_recording(m, x):
    with torch.no_grad():
        m.weight.data = m.weight.data.clamp(-1, 1)
    return m.fc(x) * m.weight


def copied(m, x):
    m.weight.data.copy_(m.weight.data.clamp(max=0.7))
    return x * m.weight


def multiplied(m, x):
    m.weight.data.mul_(0.5)
    m.weight.data[1] = 0.25
    return x * m.weight.data + m.weight


def a_buffer(m, x):
    m.level.data = 0.9 * m.level + 0.1 * x.mean(0).detach()
    return x * m.level + m.weight


def of_a_layer(m, x):
    m.fc.weight.data = m.fc.weight.data / m.fc.weight.data.norm(dim=1, keepdim=True)
    return m.fc(x)


def in_a_layer(m, x):
    before = m.fc(x)
    m.fc.weight.data.clamp_(-0.1, 0.1)
    return before + m.fc(x)


def seen_by_others(m, x):
    row, new = m.level[1], torch.ones(4)
    m.level.data = new
    new.mul_(3)
    return x * m.level + row + m.weight


def of_a_result(m, x):
    y = x * m.weight
    y.data = y.data.clamp(min=0)
    return y * 2


def only_read(m, x):
    return x * m.weight.data + m.weight.data.sum() * m.weight


WAYS = [assigned, assigned_without_recording, copied, multiplied, a_buffer, of_a_layer, in_a_layer]
WAYS += [seen_by_others, of_a_result, only_read]


@pytest.mark.parametrize("way", WAYS)
def test_data_that_is_overwritten(way):
    torch.manual_seed(0)
    model = Overwrites(way)
    first = copy.deepcopy(model)
    assert_alike(model, (torch.randn(3, 4),), (torch.randn(5, 4),))
    x = torch.randn(2, 4)
    for _ in range(3):
        first(x)
    module = torch2mlx.translate(Overwrites(way), (x,), check=False).module
    module.load_weights(list(converted_arrays(model).items()), strict=True)
    for _ in range(3):
        expected = model(x).detach()
        np.testing.assert_allclose(module(to_mlx(x)), expected, rtol=1e-5, atol=1e-6)
    assert_state_alike(model, module)


def test_a_weight_in_another_layout_is_written_to():
    class Convolves(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            self.conv.weight.data = self.conv.weight.data.clamp(max=0.1)
            return self.conv(x)

    model, given = Convolves(), torch.randn(1, 2, 5, 5)
    module = torch2mlx.translate(model, (given,)).module
    for x in (given, torch.randn(3, 2, 6, 4)):
        expected = model(x).detach()
        np.testing.assert_allclose(module(to_mlx(x)), expected, rtol=1e-5, atol=1e-6)
    assert_state_alike(model, module)


def test_data_that_the_strict_tracer_reads_is_refused_by_name():
    """A number that is read of an input leaves the strict tracer alone, which reads .data as a
    constant without values."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x):
            self.weight.data = self.weight.data * 0.9
            return x * self.weight, float(x.sum())

    with pytest.raises(TranslationError, match=r"read through \.data has no values"):
        torch2mlx.translate(Counts(), (torch.randn(2, 4),))


def test_data_is_assigned_beside_a_number_that_is_read_of_a_buffer():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("at", torch.zeros(1, dtype=torch.long))
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x):
            self.weight.data = self.weight.data * 0.9
            return x * self.weight, int(self.at)

    model = Counts()
    module = torch2mlx.translate(model, (torch.randn(2, 4),)).module
    for batch in (2, 1, 3):
        x = torch.randn(batch, 4)
        (expected, number), (found, same) = model(x), module(to_mlx(x))
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-6)
        assert number == same == 0
    module.at = module.at + 1
    with pytest.raises(ValueError, match="at has another value"):
        module(to_mlx(x))
