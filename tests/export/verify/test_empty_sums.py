"""MLX's sums over nothing that never end are errors while both sides are compared."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import VerificationError
from torch2mlx.export.verify.empty_sums import sums_that_end


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.int64, mx.bool_])
def test_only_transposed_arrays_are_refused(dtype):
    with sums_that_end():
        for shape, axis in (((3, 0), 1), ((0, 3), 0), ((2, 0, 3), 1)):
            x = mx.zeros(shape, dtype)
            assert mx.sum(x, axis=axis).tolist() == mx.zeros(mx.sum(x, axis).shape).tolist()
            assert mx.all(x, axis=axis).tolist() == mx.ones(mx.sum(x, axis).shape).tolist()
        assert mx.sum(mx.zeros((0, 3), dtype).T, axis=0).shape == (0,)
        assert mx.sum(mx.ones((2, 3), dtype).T, axis=1).tolist() == [2, 2, 2]
        with pytest.raises(ValueError, match=r"mx\.sum over an axis of length 0"):
            mx.sum(mx.zeros((0, 3), dtype).T, axis=1)
    assert "checked" not in repr(mx.sum)


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2).prod(-1)


def test_a_comparison_with_nothing_along_a_summed_axis_ends():
    model = Turned()
    made = torch2mlx.translate(model, (torch.randn(2, 5, 3),))
    assert torch2mlx.verify(model, made, (torch.randn(4, 3, 3),)).ok
    with pytest.raises(VerificationError, match=r"mx\.prod over an axis of length 0"):
        torch2mlx.verify(model, made, (torch.randn(2, 0, 3),), sizes=[])
