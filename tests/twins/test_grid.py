"""build(layer) computes what the layer computes: outputs, gradients, running statistics."""

import pytest

from tests.support import need

need("torch", "mlx.core")

from tests.twins import grid, grid_more
from tests.twins.measure import measure, measure_half

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
            with subtests.test(case=case.name):
                found = measure_half(case, dtype)
                assert found is None or found <= 1e-2


def test_every_twin_is_on_the_grid():
    from torch2mlx.twins import twin_names

    tried = {case.name.split("(")[0] for cases in FAMILIES.values() for case in cases}
    containers = {"Sequential", "ModuleList", "ModuleDict"}
    aliases = {"NLLLoss2d", "SyncBatchNorm"}  # the same function as NLLLoss, BatchNorm2d
    assert set(twin_names()) - tried == containers | aliases
