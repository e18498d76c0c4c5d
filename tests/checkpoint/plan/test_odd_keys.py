"""Keys that no model has and files may: every verb answers, or refuses them by name."""

import json
import struct

import numpy as np
import pytest

from tests.support import need
from torch2mlx import analyze, convert, inspect, load_converted, revert
from torch2mlx.errors import CheckpointError, ConversionError, KeyCollisionError

# kind -> keys of one file
ODD = {
    "empty parts": ["a..b", "a..c", "a.x."],
    "leading dots": [".a", "..b", ".c.d", "e.f"],
    "dots alone": [".", "x"],
    "no name": [""],
    "line ends and nulls": ["a\nb.weight", "a\0b.weight", "c.\r"],
    "a tensor called as the module beside it": ["module", "a.module", "weight.weight"],
    "as deep as may be": [".".join("a" * 512)],
    "side by side": [f"{i}.{j}.w" for i in range(20) for j in range(20)],
    "one within the other": [".".join(["c"] * i + ["w"]) for i in range(1, 60)],
    "long": [f"{'m' * 100_000}{i}.{'n' * 100_000}" for i in range(3)],
}


def saved(path, keys):
    """A safetensors file of one float32 for each key: 0, 1, 2, ...."""
    entries = {
        key: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, key in enumerate(keys)
    }
    header = json.dumps(entries).encode()
    data = np.arange(len(keys), dtype=np.float32).tobytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize("name", ODD)
def test_odd_keys_go_through_unchanged(name, tmp_path):
    keys = ODD[name]
    source, out = saved(tmp_path / "in.safetensors", keys), tmp_path / "out.safetensors"
    convert(source, out, rules={})
    assert [info.key for info in inspect(source).tensors] == keys
    assert analyze(source).output_bytes == 4 * len(keys)
    values = {key: float(array[0]) for key, array in load_converted(out, framework="numpy").items()}
    assert values == {key: float(i) for i, key in enumerate(keys)}
    back = revert(out, framework="numpy")
    assert list(back) == keys
    assert [float(array[0]) for array in back.values()] == list(range(len(keys)))


@pytest.mark.parametrize("depth", [514, 20_000, 200_000])
def test_keys_that_are_too_deep_are_named_by_every_verb(depth, tmp_path):
    deep = ".".join("a" * depth)
    source = saved(tmp_path / "in.safetensors", ["b.weight", deep])
    assert inspect(source).tensors[1].key == deep
    for call in (
        lambda: analyze(source),
        lambda: convert(source, tmp_path / "out.safetensors", rules={}),
        lambda: convert({deep: np.ones(1)}, tmp_path / "out.safetensors"),
    ):
        with pytest.raises(ConversionError, match=r"key 'a\.a\.a.*': nested deeper"):
            call()
    assert not (tmp_path / "out.safetensors").exists()


def _nested(keys, tmp_path):
    out = tmp_path / "out.safetensors"
    convert({key: np.ones(1, np.float32) for key in keys}, out, rules={"**": "identity"})
    assert list(revert(out, framework="numpy")) == list(keys)
    with pytest.raises(CheckpointError) as caught:
        load_converted(out, nested=True, framework="numpy")
    return str(caught.value)


def test_a_tree_that_is_too_deep_to_nest_says_file_and_key(tmp_path):
    said = _nested(["b", ".".join("a" * 513)], tmp_path)
    assert "out.safetensors: key 'a.a.a" in said
    assert "nested deeper than the limit" in said


def test_lists_with_more_holes_than_keys_say_file_and_key(tmp_path):
    said = _nested(["b", "a.16777216", "a.0"], tmp_path)
    assert "out.safetensors: key 'a.16777216': " in said
    assert "lists=False" in said
    plain = load_converted(
        tmp_path / "out.safetensors", nested=True, lists=False, framework="numpy"
    )
    assert sorted(plain["a"]) == ["0", "16777216"]


def test_keys_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="is not valid text"):
        convert({"a.\ud800": np.ones(1)}, tmp_path / "out.safetensors")


def test_of_several_collisions_the_first_is_told(tmp_path):
    state = dict.fromkeys(["z.a", "z", "b-", "b", "b.c", "b.c.d"], np.ones(1))
    with pytest.raises(KeyCollisionError, match=r"'z' becomes 'z', .* prefix of 'z\.a'"):
        convert(state, tmp_path / "out.safetensors")


def test_equal_layers_by_the_thousand_are_each_converted(tmp_path):
    need("torch")
    import torch
    from torch import nn

    layers = [nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3)) for _ in range(400)]
    model = nn.ModuleDict({"blocks": nn.ModuleList(layers), "out": nn.Linear(3, 2)})
    with torch.no_grad():
        for i, tensor in enumerate(model.state_dict().values()):
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) + i)
    out = tmp_path / "out.safetensors"
    report = convert(model, out)
    arrays = load_converted(out, framework="numpy")
    assert len(arrays) == 400 * 6 + 2
    for i, layer in enumerate(layers):
        expected = layer[0].weight.detach().numpy().transpose(0, 2, 1)
        assert (arrays[f"blocks.{i}.layers.0.weight"] == expected).all()
        assert (arrays[f"blocks.{i}.layers.1.running_var"] == layer[1].running_var.numpy()).all()
    assert len(report.traces) == len(model.state_dict())
    back = revert(out, framework="torch")
    assert all(torch.equal(back[key], tensor) for key, tensor in model.state_dict().items())


def test_modules_deeper_than_torch_can_walk_are_refused(tmp_path):
    need("torch")
    from torch import nn

    deep = nn.Linear(1, 1)
    for _ in range(1500):
        deep = nn.Sequential(deep)
    with pytest.raises(ConversionError, match="Sequential are nested too deeply for torch"):
        convert(deep, tmp_path / "out.safetensors")
