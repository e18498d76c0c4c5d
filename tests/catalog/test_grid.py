"""build(layer) computes what the layer computes: outputs, gradients, running statistics."""

import pytest

from tests.support import need

need("torch", "mlx.core")

import numpy as np
import torch

from tests.catalog import grid, grid_more
from tests.catalog.measure import measure, measure_half, measure_half_gradient

FAMILIES = {
    f.__name__: f()
    for f in (
        *(grid.convolutions, grid.poolings, grid.normalizations, grid.activations, grid.shapes),
        *(grid_more.losses, grid_more.linears, grid_more.recurrent, grid_more.attention),
    )
}

#: torch's own remarks on options that the grid tries
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}:UserWarning")
    for text in (
        "LSTM with projections",
        "Using a target size",
        "Initializing zero-element",
        "enable_nested_tensor",
        "Implicit dimension choice",
        "reduction. 'mean' divides",
        "Using padding='same'",
    )
]


def draw_again():
    """The same numbers for a case, whatever ran before it."""
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients(family, subtests):
    for case in FAMILIES[family]:
        for mode in case.modes:
            with subtests.test(case=case.name, mode=mode):
                found = measure(case, mode)
                assert found.forward <= 1e-5
                assert found.gradient <= 1e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_formats(family, dtype, subtests):
    for case in FAMILIES[family]:
        if case.halves:
            draw_again()
            with subtests.test(case=case.name):
                found = measure_half(case, dtype)
                assert found is None or found <= 1e-2
                found = measure_half_gradient(case, dtype)
                assert found is None or found <= 1e-2


def test_every_twin_is_on_the_grid():
    from torch2mlx.catalog.layers import twin_names

    tried = {case.name.split("(")[0] for cases in FAMILIES.values() for case in cases}
    containers = {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
    aliases = {"NLLLoss2d", "SyncBatchNorm"}  # the same function as NLLLoss, BatchNorm2d
    assert set(twin_names()) - tried == containers | aliases


def test_containers_hold_the_weights_of_what_is_in_them():
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from torch import nn

    from torch2mlx import registry

    inner = nn.ModuleDict({"a": nn.ModuleList([nn.Linear(2, 3), nn.Conv1d(3, 2, 1)])})
    layers = nn.ModuleList([inner, nn.BatchNorm1d(3)]).eval()
    made = registry.build(layers)
    given = torch.randn(2, 2)
    expected = layers[0]["a"][0](given).detach().numpy()
    np.testing.assert_allclose(made[0]["a"][0](mx.array(given.numpy())), expected, atol=1e-6)
    assert not made[1].training
    arrays = nn.ParameterDict({"w": nn.Parameter(torch.randn(3)), "v": torch.ones(2)})
    built = registry.build(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(built[name], value.detach())
    (only,) = registry.build(nn.ParameterList([torch.arange(3.0)]))
    np.testing.assert_array_equal(only, [0, 1, 2])
    assert len(tree_flatten(made)) == 8
