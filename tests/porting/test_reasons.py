"""What the report says of functions that MLX has under another name, or not as one call."""

import pytest

from tests.support import need

need("libcst")

import torch2mlx

SAID = [
    ("x.repeat(2, 3)", ".repeat", "mx.tile does the same"),
    ("x.tile(2, 3)", ".tile", "the same in MLX"),
    ("torch.tile(x, (2, 3))", "torch.tile", "the same in MLX"),
    ("torch.clamp(x, 0, 1)", "torch.clamp", "mx.clip does the same"),
    ("x.expand(3, 4)", ".expand", "kit.tensors.expand does the same"),
    ("torch.nn.functional.relu(x)", "torch.nn.functional.relu", "nn.relu does the same"),
    ("torch.linalg.inv(x)", "torch.linalg.inv", "the same in MLX, on the CPU stream"),
    ("torch.addcmul(x, x, x)", "torch.addcmul", "written out in MLX"),
]


@pytest.mark.parametrize("call, what, why", SAID)
def test_the_report_names_what_does_the_same(call, what, why):
    source = f"import torch\n\n\ndef f(x: torch.Tensor):\n    return {call}\n"
    changes = {change.what: change.why for change in torch2mlx.port(source).changes}
    assert changes[what] == why
