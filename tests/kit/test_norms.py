"""Norms of the kit against torch's, over one row of statistics: what is computed once for both the
result and the running ones, and groups where channels come first."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch.nn import functional as F

from torch2mlx import kit


def drawn(*shape, mean=2.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))) * 3 + mean


def near(a, b, most=2e-6):
    assert np.abs(np.array(a) - b.numpy()).max() <= most * max(1, float(b.abs().max()))


@pytest.mark.parametrize("shape", [(4, 6), (3, 6, 5), (2, 6, 4, 5), (2, 6, 3, 2, 2)])
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_results_and_running_statistics_are_torchs(name, shape):
    if name == "instance_norm" and len(shape) == 2:
        shape = (*shape, 2)
    x, mean, var, weight, bias = (drawn(*s) for s in (shape, (6,), (6,), (6,), (6,)))
    var = var.abs() + 1
    given = [mx.array(t.numpy()) for t in (x.movedim(1, -1).contiguous(), mean, var, weight, bias)]
    expected = getattr(F, name)(x, mean, var, weight, bias, True, 0.3)
    result, after_mean, after_var = getattr(kit.tracking, name)(*given, True, 0.3)
    near(result, expected.movedim(1, -1), 5e-6)
    near(after_mean, mean)  # torch has written to its own
    near(after_var, var)
    layer = getattr(kit.norm, "BatchNorm" if name == "batch_norm" else "InstanceNorm")
    layer = layer(6, momentum=0.3, affine=True, track_running_stats=True).train()
    layer.running_mean, layer.running_var = given[1:3]
    layer(given[0])
    near(layer.running_mean, mean)
    near(layer.running_var, var)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(4, 6), (3, 6, 5), (2, 6, 40, 50)])
def test_groups_where_channels_come_first(groups, shape):
    if shape == (4, 6) and groups == 6:
        pytest.skip("one value in a group has no spread")
    x, weight, bias = drawn(*shape, mean=20.0), drawn(6), drawn(6)
    given = [mx.array(t.numpy()) for t in (x, weight, bias)]
    expected = F.group_norm(x, groups, weight, bias)
    near(kit.channels_first.group_norm(given[0], groups, *given[1:]), expected, 2e-5)
    near(kit.channels_first.group_norm(given[0], groups), F.group_norm(x, groups), 2e-5)


def test_groups_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(ValueError, match=r"^4 groups do not divide 6 channels$"):
        kit.channels_first.group_norm(mx.zeros((2, 6, 3)), 4)


@pytest.mark.parametrize(
    "name, options", [("batch_norm", "training"), ("instance_norm", "use_input_stats")]
)
def test_running_statistics_that_are_used_have_to_be_given(name, options):
    with pytest.raises(ValueError, match=f"^{options}=False needs running_mean and running_var$"):
        getattr(kit.norm, name)(mx.zeros((2, 3, 4)), None, None, **{options: False})
