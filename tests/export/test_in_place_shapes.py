"""Changes of a tensor's shape in place: the tensor is another view, what else shows its memory
stays as it is."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from tests.export.alike import assert_alike
from torch2mlx.errors import UnsupportedOperatorError


class Shaped(nn.Module):
    """A model around one change of shape."""

    def __init__(self, change):
        super().__init__()
        self.change, self.up = change, nn.Linear(4, 4)

    def forward(self, x):
        return self.change(self.up(x))


def without_recording(y):
    with torch.no_grad():
        y.unsqueeze_(0)
    return y * y


def view_before(y):
    z = y * 1
    row = z[0]
    z.unsqueeze_(1)
    z.mul_(3)
    return z, row, z.squeeze(1) * row


def view_after(y):
    z = (y * 1).t_()
    column = z[1]
    column.add_(2)
    return z, column


def write_through_the_turned(y):
    z = y * 1
    same = z
    z.transpose_(0, 1)
    z[0] = 7.0
    return same, z * same


def of_a_view(y):
    z = y * 1
    part = z[:, 1:3]
    part.unsqueeze_(0)
    part.mul_(5)
    part.squeeze_(0)
    return z, part


def in_a_list(y):
    held = [y * 2]
    held[0].unsqueeze_(1).squeeze_()
    return held[0]


CHANGES = {
    "squeeze_": lambda y: y.mean(0, keepdim=True).squeeze_(0),
    "squeeze_ of all": lambda y: y.mean(0, keepdim=True).squeeze_(),
    "unsqueeze_": lambda y: (y * 2).unsqueeze_(1),
    "unsqueeze_ from the end": lambda y: (y * 2).unsqueeze_(-1),
    "transpose_": lambda y: (y * 2).transpose_(0, 1),
    "t_": lambda y: (y * 2).t_(),
    "t_ of a vector": lambda y: (y * 2).sum(0).t_(),
    "swapaxes_": lambda y: (y[None] * 2).swapaxes_(0, 2),
    "swapdims_": lambda y: (y[None] * 2).swapdims_(-1, 0),
    "a chain": lambda y: (y[:, None] * 2).squeeze_(1).t_().sum(-1),
    "without recording": without_recording,
    "a view before": view_before,
    "a view after": view_after,
    "a write through the turned": write_through_the_turned,
    "a view itself": of_a_view,
    "in a list": in_a_list,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_shape_changed_in_place_is_a_view(name):
    torch.manual_seed(0)
    assert_alike(Shaped(CHANGES[name]), (torch.randn(3, 4),), (torch.randn(5, 4),))


class Kept(nn.Module):
    """Numbers that are kept, in a shape that is changed in place."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        y = x * 2
        y.resize_(*self.size)
        return y, y * 3


@pytest.mark.parametrize("size", [(4, 3), (12,), (2, 2), (2, 3, 2)])
def test_resizing_keeps_the_first_numbers(size):
    model, x = Kept(size), torch.arange(12.0).reshape(3, 4)
    made = torch2mlx.translate(model, (x,), dynamic=False)
    assert torch2mlx.verify(model, made, (x,)).difference == 0


def test_resizing_beyond_the_memory_is_refused():
    with pytest.raises(UnsupportedOperatorError, match=r"resize_.*more than the tensor holds"):
        torch2mlx.translate(Kept((5, 5)), (torch.ones(3, 4),), dynamic=False)
