"""Checkpoint directories: shards, indices, and what is wrong with them."""

import json

import numpy as np
import pytest

from torch2mlx import convert, load_converted
from torch2mlx.checkpoint.write.safetensors_file import write_safetensors
from torch2mlx.errors import AmbiguousCheckpointError, CheckpointError, KeyCollisionError


def save(path, arrays):
    """A plain safetensors file, written without any other library."""
    import os

    from torch2mlx.checkpoint.source.tensors import borrow
    from torch2mlx.types import Piece

    pieces = []
    for key, array in arrays.items():
        source = borrow(key, array)
        pieces.append(Piece(key, source.shape, source.dtype, (key,), "copy", source.load))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    write_safetensors(fd, pieces, {"format": "pt"})
    os.close(fd)


@pytest.fixture
def sharded(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    parts = {
        "model-00001-of-00002.safetensors": {"a.weight": np.ones((2, 3), np.float32)},
        "model-00002-of-00002.safetensors": {"b.weight": np.zeros((3, 2), np.float32)},
    }
    for name, arrays in parts.items():
        save(folder / name, arrays)
    index = {"weight_map": {key: name for name, arrays in parts.items() for key in arrays}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def rewrite_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_shards_become_one_file(sharded, tmp_path):
    convert(sharded, tmp_path / "x.safetensors")
    found = load_converted(tmp_path / "x.safetensors", framework="numpy")
    assert sorted(found) == ["a.weight", "b.weight"]


def test_shards_become_a_directory_with_its_companions(sharded, tmp_path):
    out = tmp_path / "out"
    convert(sharded, out, shard_size=24)
    assert sorted(p.name for p in out.iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    assert sorted(load_converted(out, framework="numpy")) == ["a.weight", "b.weight"]


def test_shards_without_an_index(sharded, tmp_path):
    (sharded / "model.safetensors.index.json").unlink()
    convert(sharded, tmp_path / "x.safetensors")
    (sharded / "model-00001-of-00002.safetensors").unlink()
    (sharded / "other.safetensors").write_bytes(b"")
    with pytest.raises(AmbiguousCheckpointError, match="several"):
        convert(sharded, tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b", "a\\b", "..", "", 7])
def test_an_index_cannot_point_elsewhere(sharded, tmp_path, name):
    rewrite_index(sharded, lambda weights: weights.update({"a.weight": name}))
    with pytest.raises(CheckpointError, match="not a file beside it"):
        convert(sharded, tmp_path / "x.safetensors")


def test_an_index_and_its_shards_must_agree(sharded, tmp_path):
    rewrite_index(sharded, lambda weights: weights.pop("b.weight"))
    rewrite_index(sharded, lambda w: w.update(c="model-00002-of-00002.safetensors"))
    with pytest.raises(CheckpointError, match=r"b\.weight"):
        convert(sharded, tmp_path / "x.safetensors")
    rewrite_index(sharded, lambda w: w.update({"b.weight": "model-00002-of-00002.safetensors"}))
    with pytest.raises(CheckpointError, match="'c'"):
        convert(sharded, tmp_path / "x.safetensors")


def test_missing_shards_are_named(sharded, tmp_path):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        convert(sharded, tmp_path / "x.safetensors")


def test_one_key_in_two_shards(sharded, tmp_path):
    (sharded / "model.safetensors.index.json").unlink()
    save(sharded / "model-00002-of-00002.safetensors", {"a.weight": np.ones(2, np.float32)})
    with pytest.raises(KeyCollisionError, match=r"a\.weight"):
        convert(sharded, tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": {}}', "[" * 100_000])
def test_a_broken_index_is_one_clear_error(sharded, tmp_path, text):
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        convert(sharded, tmp_path / "x.safetensors")


def test_folders_without_a_checkpoint(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        convert(tmp_path / "empty", tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="does not exist"):
        convert(tmp_path / "absent.pt", tmp_path / "x.safetensors")


def test_of_many_missing_shards_a_few_are_named(sharded, tmp_path):
    index = {"weight_map": {f"k{i}": f"f{i}.safetensors" for i in range(20_000)}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"missing: f0.* and 19995 more") as caught:
        convert(sharded, tmp_path / "x.safetensors")
    assert len(str(caught.value)) < 500
