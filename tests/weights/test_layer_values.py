"""For every layer kind: convert, load strictly, run both, compare every output; then revert."""

import pytest

from tests.support import assert_same_state, close, need

need("torch", "mlx.core")

import mlx.core as mx
import numpy as np
import torch

from tests.weights.layer_cases import CASES, leaves
from torch2mlx import convert, load_converted, revert


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # of torch, on its speed
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_converted_layer_computes_what_torch_computes(case, tmp_path):
    layer = case.torch_layer()
    if case.integers:
        inputs = [np.random.randint(0, case.integers, shape) for shape in case.shapes]
    else:
        inputs = [np.random.randn(*shape).astype(np.float32) for shape in case.shapes]
    layer.eval()
    with torch.no_grad():
        expected = leaves(case.call(layer, *map(torch.from_numpy, inputs)))
        state = {k: v.clone() for k, v in layer.state_dict().items()}

    file = tmp_path / "layer.safetensors"
    convert(layer, file)
    twin = case.mlx_layer().eval()
    twin.load_weights(list(load_converted(file).items()), strict=True)
    found = leaves(case.run(twin, *map(mx.array, inputs)))

    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    assert_same_state(revert(file), state)
