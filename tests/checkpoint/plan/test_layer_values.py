"""For every layer kind: convert, load strictly, run both, compare every output; then revert."""

import inspect

import pytest

from tests.support import assert_same_state, close, need

need("torch", "mlx.core")

import mlx.core as mx
import numpy as np
import torch

from tests.checkpoint.plan.layer_cases import CASES, leaves
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


#: Modules of torch.nn with tensors of their own or of fixed sub-modules, and how to make one.
MADE = {
    "AdaptiveLogSoftmaxWithLoss": (32, 10, [3, 6]),
    **{f"{kind}{n}d": (2, 2, 3) for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    **{
        f"{kind}Norm{n}d": (4, 1e-5, 0.1, True) for kind in ("Batch", "Instance") for n in (1, 2, 3)
    },
    **{name: (4, 3) for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")},
    **{name: (8, 2, 16) for name in ("TransformerEncoderLayer", "TransformerDecoderLayer")},
    **{"Bilinear": (2, 3, 4), "Linear": (2, 3), "LinearCrossEntropyLoss": (2, 3)},
    **{"Embedding": (4, 3), "EmbeddingBag": (4, 3), "GroupNorm": (2, 4), "LayerNorm": (4,)},
    **{"MultiheadAttention": (4, 2), "PReLU": (), "RMSNorm": (4,), "SyncBatchNorm": (4,)},
    **{"Transformer": (8, 2, 1, 1, 16)},
}
#: Those that hold only what they are given, have no tensors before a first call, or are abstract.
GIVEN = {"Container", "DataParallel", "Module", "RNNBase", "RNNCellBase", "ParameterDict"} | {
    *("ModuleDict", "ModuleList", "ParameterList", "Sequential", "TransformerDecoder"),
    "TransformerEncoder",
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_every_module_of_torch_nn_with_weights_has_a_case():
    tested = {type(case.torch_layer()).__name__ for case in CASES}
    for name, cls in vars(torch.nn).items():
        is_module = isinstance(cls, type) and issubclass(cls, torch.nn.Module)
        if not is_module or name.startswith("Lazy") or name in GIVEN:
            continue
        if name in MADE:
            assert list(cls(*MADE[name]).state_dict()), f"{name} has no tensors"
            assert name in tested, name
        else:
            sources = inspect.getsource(cls)
            assert "Parameter(" not in sources and "register_parameter" not in sources, name
