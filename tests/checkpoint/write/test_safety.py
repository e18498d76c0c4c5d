"""At every moment the target is absent, old or complete; nothing temporary stays behind."""

import hashlib
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.checkpoint.write import stress
from torch2mlx import _core, convert, load_converted, revert
from torch2mlx.errors import CheckpointError, ConversionError, RevertError

STATE = {
    "norm.weight": np.ones(4, np.float32),
    "norm.bias": np.ones(4, np.float32),
    "norm.running_mean": np.ones(4, np.float32),
    "norm.running_var": np.ones(4, np.float32),
    "norm.num_batches_tracked": np.array(3),
    "big": np.arange(200_000, dtype=np.float32),
}
CHANGED = {**STATE, "big": STATE["big"] + 1, "norm.num_batches_tracked": np.array(4)}


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def consistent(path):
    """The state a complete conversion holds: 0 or 1 for STATE or CHANGED."""
    tensors = load_converted(path, framework="numpy")
    state = revert(path, framework="numpy")
    which = int(tensors["big"][0])
    expected = CHANGED if which else STATE
    for key, value in expected.items():
        np.testing.assert_array_equal(state[key], value)
    return which


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", ["out.safetensors", "folder"])
def test_stopped_at_any_moment(name, how, tmp_path):
    found = stress.stopped_at_random(tmp_path / name, 12, how)
    assert found["state 0"] + found["state 1"] == 12
    assert not found["untrue"] and not found["left behind"]


@pytest.mark.parametrize("in_steps", [False, True])
@pytest.mark.parametrize("name", ["out.safetensors", "folder"])
def test_writers_of_one_target_wait_for_each_other(name, in_steps, tmp_path, monkeypatch):
    if in_steps:  # as where two names cannot be exchanged
        monkeypatch.setattr(_core, "exchange", lambda a, b: False)
    folder = tmp_path / "made"
    folder.mkdir()
    found = stress.writers_at_once(folder / name, 8)
    assert found["state 0"] + found["state 1"] + found["state 2"] == 8
    assert not found["failed"] and not found["left behind"]


@pytest.mark.parametrize("name", ["out.safetensors", "folder"])
def test_a_reader_finds_one_conversion_whole_while_others_are_written(name, tmp_path):
    assert stress.read_while_written(tmp_path / name, 30) == {"read": 30}


def limited(limit):
    def apply():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return apply


@pytest.mark.parametrize("limit", [0, 100, 5_000, 600_000])
@pytest.mark.parametrize("name", ["out.safetensors", "folder"])
def test_a_file_size_limit_leaves_the_old_target(name, limit, tmp_path):
    target = tmp_path / name
    convert(STATE, target)
    before = digest(target)
    code = (
        "import sys; from torch2mlx import _core, convert, errors\n"
        "from tests.checkpoint.write.test_safety import CHANGED\n"
        "try: convert(CHANGED, sys.argv[1])\n"
        "except errors.ConversionError as e: print(e); sys.exit(7)"
    )
    found = subprocess.run(
        [sys.executable, "-B", "-c", code, str(target)],
        preexec_fn=limited(limit),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert found.returncode == 7, found.stderr
    assert str(target) in found.stdout or "sidecar" in found.stdout or "torch" in found.stdout
    assert digest(target) == before
    assert leftovers(tmp_path) == []


def digest(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_full_disk_is_told_before_and_while_writing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here: not root, or in a container")
    try:
        target = disk / "out.safetensors"
        convert({"w": np.zeros(100_000, np.float32)}, target)
        before = target.read_bytes()
        with pytest.raises(ConversionError, match=r"out\.safetensors.*(free|space)"):
            convert({"w": np.zeros(200_000, np.float32)}, target)
        assert target.read_bytes() == before
        assert [path.name for path in disk.iterdir()] == ["out.safetensors"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_folders_that_are_missing_or_not_writable(tmp_path):
    with pytest.raises(ConversionError, match="no folder"):
        convert(STATE, tmp_path / "absent" / "out.safetensors")
    if os.getuid() != 0:  # root may write anywhere
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(ConversionError, match="not writable"):
            convert(STATE, locked / "out.safetensors")


def test_a_folder_that_vanishes_while_writing(tmp_path):
    import shutil

    folder = tmp_path / "gone"
    folder.mkdir()

    def vanish(done, total, what):
        shutil.rmtree(folder, ignore_errors=True)

    with pytest.raises(ConversionError, match="cannot be written"):
        convert(STATE, folder / "out.safetensors", progress=vanish)
    assert not folder.exists()


def test_an_interrupt_cleans_up(tmp_path):
    def interrupt(done, total, what):
        raise KeyboardInterrupt

    for name in ("out.safetensors", "folder"):
        with pytest.raises(KeyboardInterrupt):
            convert(STATE, tmp_path / name, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_living_writer_is_not_swept_away(tmp_path):
    target = tmp_path / "out.safetensors"
    seen = []

    def convert_again(done, total, what):
        if not seen:
            seen.append(done)
            convert(CHANGED, target)

    convert(STATE, target, progress=convert_again)
    assert seen and consistent(target) == 0


def test_foreign_files_are_never_lost(tmp_path):
    beside = tmp_path / "out.torch.safetensors"
    beside.write_bytes(b"something of mine")
    with pytest.raises(ConversionError, match="in the way"):
        convert(STATE, tmp_path / "out.safetensors")
    convert({"big": STATE["big"]}, tmp_path / "out.safetensors")
    assert beside.read_bytes() == b"something of mine"

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_text("mine too")
    convert(STATE, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "sub" / "x").read_text() == "mine too"
    (folder / "model-other.safetensors").write_bytes(b"weights of mine")
    with pytest.raises(ConversionError, match="not written by torch2mlx"):
        convert(CHANGED, folder)
    assert (folder / "model-other.safetensors").read_bytes() == b"weights of mine"
    assert consistent(folder) == 0


def test_inspect_reads_the_plan_of_a_sharded_folder(tmp_path):
    from torch2mlx import inspect

    state = {**STATE, "epoch": 3}
    convert(state, tmp_path / "one")
    convert(state, tmp_path / "two", shard_size="100KB")
    one, two = inspect(tmp_path / "one"), inspect(tmp_path / "two")
    assert one.layout == two.layout and one.layout.startswith("mlx (torch2mlx 0")
    assert one.values == two.values == ("epoch",)
    assert {t.key: t.shape for t in one.tensors} == {t.key: t.shape for t in two.tensors}


def test_fewer_shards_replace_more(tmp_path):
    folder = tmp_path / "out"
    convert(STATE, folder, shard_size="100KB")
    assert len(list(folder.glob("model-*"))) == 2
    convert(CHANGED, folder)
    assert sorted(p.name for p in folder.glob("model*")) == [
        "model.safetensors",
        "model.safetensors.index.json",
    ]
    assert consistent(folder) == 1


def test_bytes_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        convert(STATE, tmp_path / name / "out.safetensors")
        convert(STATE, tmp_path / name / "folder", shard_size="100KB")
    assert digest(tmp_path / "a" / "folder") == digest(tmp_path / "b" / "folder")
    for name in ("out.safetensors", "out.torch.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_lost_or_foreign_sidecar_is_noticed(tmp_path):
    target = tmp_path / "out.safetensors"
    convert(STATE, target)
    side = tmp_path / "out.torch.safetensors"
    side.write_bytes(side.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RevertError, match="not the sidecar"):
        revert(target)
    side.unlink()
    with pytest.raises(RevertError, match="missing"):
        revert(target)
    assert "big" in load_converted(target, framework="numpy")


def test_unconverted_and_damaged_files_are_told_apart(tmp_path):
    from tests.checkpoint.source.builders import small_safetensors

    path = tmp_path / "plain.safetensors"
    path.write_bytes(small_safetensors())
    for function in (load_converted, revert):
        with pytest.raises(CheckpointError, match="not written by torch2mlx"):
            function(path)
    convert(STATE, tmp_path / "folder", shard_size="100KB")
    with pytest.raises(CheckpointError, match="one shard"):
        load_converted(next(iter(sorted((tmp_path / "folder").glob("*00002-of*")))))


def test_outputs_that_make_no_sense(tmp_path):
    with pytest.raises(ConversionError, match="safetensors"):
        convert(STATE, tmp_path / "x.npz")
    with pytest.raises(ConversionError, match="directory"):
        convert(STATE, tmp_path / "x.safetensors", shard_size=10)
    for size in ("5 parsecs", 0, "-1GB", ""):
        with pytest.raises(ConversionError, match="shard_size"):
            convert(STATE, tmp_path / "folder", shard_size=size)
    (tmp_path / "d.safetensors").mkdir()
    convert(STATE, tmp_path / "d.safetensors")
    assert (tmp_path / "d.safetensors" / "model.safetensors").is_file()
