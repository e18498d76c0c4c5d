"""Numbers that the dtype asked for cannot hold stay in a wider one, and are named."""

import json

import numpy as np
import pytest

from tests.support import need
from torch2mlx import convert, load_converted, revert
from torch2mlx.errors import ConversionError

MASK = np.array([-1e9, 0], np.float32)
FINE = np.array([0.5, -np.inf, np.nan, 65504], np.float32)


@pytest.mark.parametrize("folder", [False, True])
def test_what_float16_cannot_hold_stays_float32_and_is_named(tmp_path, folder):
    both = {"mask": MASK, "w": FINE}
    state = {f"layers.{i}.{name}": value.copy() for i in range(3) for name, value in both.items()}
    out = tmp_path / ("out" if folder else "out.safetensors")
    more = {"shard_size": "20B"} if folder else {}
    report = convert(state, out, rules={}, dtype="float16", **more)
    found = load_converted(out, framework="numpy")
    for i in range(3):
        assert found[f"layers.{i}.mask"].dtype == np.float32
        np.testing.assert_array_equal(found[f"layers.{i}.mask"], MASK)
        np.testing.assert_array_equal(found[f"layers.{i}.w"], FINE.astype(np.float16))
    named = "; ".join(f"layers.{i}.mask stays float32" for i in range(3))
    assert f"{named}: there are numbers that float16 cannot hold" in report.notes
    assert {p.dtype for p in report.pieces if p.target.endswith("mask")} == {"float32"}
    with pytest.warns(UserWarning, match="rounded"):
        back = revert(out, framework="numpy")
    np.testing.assert_array_equal(back["layers.1.mask"], MASK)
    if folder:
        index = json.loads((out / "model.safetensors.index.json").read_text())
        assert len(index["weight_map"]) == 6


def test_a_bfloat16_tensor_stays_bfloat16(tmp_path):
    need("torch")
    import torch

    state = {"w": torch.tensor([1e30, 1.0], dtype=torch.bfloat16)}
    report = convert(state, tmp_path / "o.safetensors", rules={}, dtype="float16")
    assert [piece.dtype for piece in report.pieces] == ["bfloat16"]
    assert any(note.startswith("w stays bfloat16") for note in report.notes)


def test_a_folded_weight_that_is_too_large_stays_float32(tmp_path):
    need("torch")
    import torch
    from torch.nn.utils import parametrizations

    layer = parametrizations.weight_norm(torch.nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        layer.parametrizations.weight.original0.fill_(6e4)
        layer.parametrizations.weight.original1.copy_(torch.tensor([[1.0, 0], [1e-3, 1]]))
        layer.parametrizations.weight.original0[1] = 7e4
    convert(layer, tmp_path / "o.safetensors", dtype="float16")
    found = load_converted(tmp_path / "o.safetensors", framework="numpy")["weight"]
    np.testing.assert_allclose(found, layer.weight.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_float32_cannot_hold_is_refused_and_nothing_is_written(tmp_path, dtype):
    state = {"w": np.array([1e39, 1.0])}
    with pytest.raises(ConversionError, match=r"tensor 'w' holds .* float32 cannot: pass dtype="):
        convert(state, tmp_path / "o.safetensors", rules={}, dtype=dtype)
    assert not list(tmp_path.iterdir())
