"""What a write may replace, and what it never does: the source, and whatever is the user's."""

import json
import os

import numpy as np
import pytest

from tests.checkpoint.write.faults import STATES, held
from tests.support import BARE, need
from torch2mlx import _core, convert, load_converted, revert
from torch2mlx.cli import main
from torch2mlx.errors import ConversionError, RevertError

STATE, CHANGED, PLAIN = STATES


def write_safetensors(path, arrays, metadata=None):
    """A file as PyTorch users have it."""
    entries = [(name, str(a.dtype), a.shape) for name, a in arrays.items()]
    head = _core.safetensors_header(entries, {"format": "pt", **(metadata or {})})
    path.write_bytes(head + b"".join(a.tobytes() for a in arrays.values()))


@pytest.fixture
def source(tmp_path):
    """A folder with two shards, an index, a config and a tokenizer."""
    folder = tmp_path / "hf"
    folder.mkdir()
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        write_safetensors(folder / name, {f"w{i}": np.full(4, i + 1 / 3, np.float32)})
    index = {"metadata": {}, "weight_map": {f"w{i}": name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "mine"}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def content(folder):
    """Every file under a folder, by its path."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def linked(path, make):
    """A new path in a folder of its own, made by `make(path)`."""
    path.parent.mkdir(exist_ok=True)
    make(path)
    return path


SHARD = "hf/model-00001-of-00002.safetensors"
#: name -> (source, target), from the folder that holds the source folder.
PLACES = {
    "a shard": lambda at: (at / "hf", at / SHARD),
    "a new file beside the shards": lambda at: (at / "hf", at / "hf" / "mlx.safetensors"),
    "the folder": lambda at: (at / "hf", at / "hf"),
    "the folder by another path": lambda at: (
        at / "hf",
        linked(at / "link", lambda p: p.symlink_to(at / "hf")),
    ),
    "the folder of the source file": lambda at: (at / SHARD, at / "hf"),
    "a folder around the source": lambda at: (at / "hf", at),
    "the source file": lambda at: (at / SHARD, at / SHARD),
    "a symbolic link to a shard": lambda at: (
        at / "hf",
        linked(at / "x.safetensors", lambda p: p.symlink_to(at / SHARD)),
    ),
    "a hard link to a shard": lambda at: (
        at / "hf",
        linked(at / "x.safetensors", lambda p: os.link(at / SHARD, p)),
    ),
    "a folder with a hard link to a shard": lambda at: (
        at / "hf",
        linked(at / "out" / "model.safetensors", lambda p: os.link(at / SHARD, p)).parent,
    ),
    "a file whose sidecar is the source": lambda at: (
        linked(at / "x.torch.safetensors", lambda p: write_safetensors(p, STATE)),
        at / "x.safetensors",
    ),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", PLACES)
def test_the_source_is_never_replaced(name, force, source, tmp_path):
    given, target = PLACES[name](source.parent)
    before = content(tmp_path)
    with pytest.raises(ConversionError, match="source"):
        convert(given, target, rules={}, dtype="float16", force=force)
    assert content(tmp_path) == before


def test_a_folder_within_the_source_is_another_folder(source):
    before = content(source)
    convert(source, source / "mlx", rules={})
    assert {k: v for k, v in content(source).items() if not k.startswith("mlx/")} == before
    assert set(load_converted(source / "mlx", framework="numpy")) == {"w0", "w1"}
    convert(source, source / "mlx", rules={})


@pytest.mark.parametrize("out", ["o.safetensors", "o.torch.safetensors"])
def test_revert_never_replaces_what_it_comes_from(out, tmp_path):
    convert(STATE, tmp_path / "o.safetensors")
    before = content(tmp_path)
    with pytest.raises(RevertError, match="is the source"):
        revert(tmp_path / "o.safetensors", tmp_path / out, force=True)
    assert content(tmp_path) == before


def test_a_file_of_a_folder_does_not_replace_the_originals_of_it(tmp_path):
    convert(STATE, tmp_path / "mlx")
    before = content(tmp_path)
    with pytest.raises(RevertError, match=r"originals\.torch\.safetensors: is the source"):
        revert(
            tmp_path / "mlx/model.safetensors",
            tmp_path / "mlx/originals.torch.safetensors",
            force=True,
        )
    assert content(tmp_path) == before


def test_paths_may_be_bytes(tmp_path):
    convert(STATE, os.fsencode(tmp_path / "o.safetensors"))
    assert held(tmp_path / "o.safetensors") == 0


def foreign(tmp_path):
    write_safetensors(tmp_path / "mine.safetensors", {"mine": np.ones(3, np.float32)})
    return tmp_path / "mine.safetensors"


def test_files_of_the_user_need_force(tmp_path):
    path = foreign(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConversionError, match=r"mine\.safetensors: was not written .*force=True"):
        convert(STATE, path)
    assert content(tmp_path) == before
    convert(STATE, path, force=True)
    assert held(path) == 0
    convert(CHANGED, path)
    assert held(path) == 1


def test_what_is_no_checkpoint_needs_force_and_an_empty_file_does_not(tmp_path):
    (tmp_path / "text.safetensors").write_text("a diary")
    with pytest.raises(ConversionError, match="was not written by torch2mlx"):
        convert(STATE, tmp_path / "text.safetensors")
    (tmp_path / "empty.safetensors").touch()  # as tempfile makes them
    convert(STATE, tmp_path / "empty.safetensors")
    assert held(tmp_path / "empty.safetensors") == 0


def test_a_sidecar_of_another_file_is_not_replaced(tmp_path):
    convert(STATE, tmp_path / "a.safetensors")
    with pytest.raises(ConversionError, match="was not written"):
        convert(CHANGED, tmp_path / "a.torch.safetensors")  # a's own sidecar, as a target
    (tmp_path / "a.torch.safetensors").rename(tmp_path / "b.torch.safetensors")
    before = content(tmp_path)
    with pytest.raises(ConversionError, match="in the way of the sidecar"):
        convert(CHANGED, tmp_path / "b.safetensors")
    assert content(tmp_path) == before
    convert(CHANGED, tmp_path / "b.safetensors", force=True)
    assert held(tmp_path / "b.safetensors") == 1


def test_a_shard_of_a_converted_folder_is_not_replaced_alone(tmp_path):
    convert(STATE, tmp_path / "out")
    before = content(tmp_path)
    with pytest.raises(ConversionError, match="part of the checkpoint"):
        convert(CHANGED, tmp_path / "out" / "model.safetensors")
    assert content(tmp_path) == before


def test_a_reverted_file_needs_force(tmp_path):
    convert(STATE, tmp_path / "o.safetensors")
    for name in ("mine.safetensors",) if BARE else ("mine.safetensors", "back.pt"):  # torch's
        (tmp_path / name).write_text("of mine")
        with pytest.raises(RevertError, match=f"{name}: was not written .*force=True"):
            revert(tmp_path / "o.safetensors", tmp_path / name)
        assert (tmp_path / name).read_text() == "of mine"
    revert(tmp_path / "o.safetensors", tmp_path / "mine.safetensors", force=True)
    assert (tmp_path / "mine.safetensors").read_bytes()[:1] != b"o"


def test_companions_are_replaced_while_they_are_what_was_copied(source, tmp_path):
    out = tmp_path / "out"
    convert(source, out, rules={})
    (source / "config.json").write_text('{"model_type": "new"}')
    (source / "tokenizer.json").unlink()
    convert(source, out, rules={})
    assert "new" in (out / "config.json").read_text()
    assert not (out / "tokenizer.json").exists(), "it was the old model's"
    (out / "config.json").write_text('{"quantization": "mine"}')
    (source / "config.json").write_text('{"model_type": "newer"}')
    before = content(out)
    with pytest.raises(ConversionError, match=r"config\.json: not written by torch2mlx .*force"):
        convert(source, out, rules={})
    assert content(out) == before
    convert(source, out, rules={}, force=True)
    assert "newer" in (out / "config.json").read_text()


def umask():
    now = os.umask(0o022)
    os.umask(now)
    return now


def test_a_folder_of_the_user_keeps_all_that_is_not_in_the_way(source, tmp_path):
    out = tmp_path / "out"
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "er" / "notes").write_text("mine")
    (out / "config.json").write_bytes((source / "config.json").read_bytes())
    (out / "README").symlink_to("nowhere")
    os.mkfifo(out / "pipe")
    convert(source, out, rules={})  # a config.json that stays the same is not in the way
    assert (out / "deep" / "er" / "notes").read_text() == "mine"
    assert os.readlink(out / "README") == "nowhere"
    assert (out / "pipe").is_fifo()
    write_safetensors(out / "model-mine.safetensors", STATE)
    with pytest.raises(ConversionError, match="model-mine"):
        convert(source, out, rules={})
    (out / "model.safetensors").unlink()
    (out / "model.safetensors").symlink_to("nowhere")
    convert(source, out, rules={}, force=True)
    assert not (out / "model-mine.safetensors").exists(), "mlx-lm would read it too"
    assert not (out / "model.safetensors").is_symlink()
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()


def test_an_index_of_the_user_is_told_from_ours(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors.index.json").write_text('{"weight_map": {"a": "pytorch.bin"}}')
    with pytest.raises(ConversionError, match="index"):
        convert(STATE, out)
    assert "pytorch" in (out / "model.safetensors.index.json").read_text()


def test_folders_in_the_way_are_not_removed_by_force(source, tmp_path):
    (tmp_path / "out" / "config.json").mkdir(parents=True)
    (tmp_path / "out" / "config.json" / "x").write_text("mine")
    with pytest.raises(ConversionError, match="is a folder, in the way"):
        convert(source, tmp_path / "out", rules={}, force=True)
    assert (tmp_path / "out" / "config.json" / "x").read_text() == "mine"


@pytest.mark.parametrize("where", [".", "..", "inner/.."])
def test_the_current_folder_is_not_exchanged(where, tmp_path, monkeypatch):
    (tmp_path / "here" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConversionError, match="is the current folder, or holds it"):
        convert(STATE, where)
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["inner"]


def test_a_link_is_written_through(tmp_path, monkeypatch):
    (tmp_path / "big").mkdir()
    (tmp_path / "out.safetensors").symlink_to("big/real.safetensors")
    (tmp_path / "out").symlink_to("big/folder")
    for _ in range(2):
        for name in ("out.safetensors", "out"):
            convert(STATE, tmp_path / name)
            assert (tmp_path / name).is_symlink()
            assert held(tmp_path / name) == 0
    assert held(tmp_path / "big" / "real.safetensors") == 0
    assert {p.name for p in (tmp_path / "big").iterdir()} == {
        "real.safetensors",
        "real.torch.safetensors",
        "folder",
    }
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    monkeypatch.chdir(tmp_path)  # messages shorten what is long
    with pytest.raises(ConversionError, match=r"loop\.safetensors"):
        convert(STATE, "loop.safetensors")


def test_the_command_line_speaks_of_flags_and_has_them(source, tmp_path, capsys):
    path = foreign(tmp_path)
    (source / "config.json").unlink()
    assert main(["convert", str(source), str(path)]) == 1
    assert "or pass --force" in capsys.readouterr().err
    assert main(["convert", str(source), str(path), "--force"]) == 0
    back = tmp_path / "back.safetensors"
    assert main(["revert", str(path), str(back)]) == 0
    assert main(["revert", str(path), str(back)]) == 1
    assert "or pass --force" in capsys.readouterr().err
    assert main(["revert", str(path), str(back), "--force"]) == 0


def test_pages_of_the_analysis_replace_pages_only(source, tmp_path, capsys):
    need("jinja2")
    shard = source / "model-00001-of-00002.safetensors"
    before = shard.read_bytes()
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    for option, name in (("--html", "mine.html"), ("--sarif", "mine.html")):
        assert main(["analyze", str(shard), option, str(tmp_path / name)]) == 1
        assert "or pass --force" in capsys.readouterr().err
        assert main(["analyze", str(shard), option, str(shard), "--force"]) == 1
        assert "is the source" in capsys.readouterr().err
    assert shard.read_bytes() == before
    for _ in range(2):
        for option, name in (("--html", "page.html"), ("--sarif", "report.sarif")):
            page = [option, str(tmp_path / name), "--fail-on", "none"]
            assert main(["analyze", str(shard), *page]) == 0
