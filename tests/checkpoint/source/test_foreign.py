"""Formats that are not read are called by their names, whatever the verb and the file's name."""

import io
import json
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from tests.support import need
from torch2mlx import analyze, convert, inspect, load_converted, revert
from torch2mlx.checkpoint.source.foreign import missing
from torch2mlx.cli import main
from torch2mlx.errors import CheckpointError, NotConvertedError


def zipped(*names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


def tarred():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    return out.getvalue()


def arrays(save):
    out = io.BytesIO()
    save(out, np.ones(3))
    return out.getvalue()


FILES = {
    "GGUF": b"GGUF\x03\0\0\0" + bytes(64),
    "GGML": b"tjgg\x01\0\0\0" + bytes(64),
    "torch.export": zipped("x/data/weights/weight_0", "x/models/model.json", "x/archive_format"),
    "TorchScript": zipped("x/data.pkl", "x/code/__torch__/m.py", "x/constants.pkl"),
    "numpy arrays": arrays(np.savez),
    "one numpy array": arrays(np.save),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "Keras model": zipped("metadata.json", "config.json", "model.weights.h5"),
    "ONNX": b"\x08\x08\x12\x07pytorch\x1a\x052.4.0" + bytes(64),
    "TensorFlow Lite": b"\x1c\0\0\0TFL3" + bytes(64),
    "ExecuTorch": b"\x1c\0\0\0ET12" + bytes(64),
    "Core ML": zipped("m.mlpackage/Manifest.json"),
    "zip archive": zipped("one.bin", "two.bin"),
    "tar archive": tarred(),
    "gzip": b"\x1f\x8b\x08\0" + bytes(64),
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "web page": b"\n<!DOCTYPE HTML><html><body>Sign in</body></html>",
    "answer of a server": b"Entry not found",
    "JSON": b'{"error": "Repository not found"}',
}
VERBS = {
    "convert": lambda path: convert(path, path.with_name("out.safetensors"), rules={}),
    "inspect": inspect,
    "analyze": analyze,
    "load_converted": lambda path: load_converted(path, framework="numpy"),
    "revert": lambda path: revert(path, framework="numpy"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", FILES)
def test_a_file_of_another_format_is_named_by_its_content(form, verb, tmp_path):
    for name in ("model.safetensors", "model.pt", "model.bin", "weights"):
        path = tmp_path / name
        path.write_bytes(FILES[form])
        with pytest.raises(CheckpointError, match=f"{name}: is .*{form}.*; ") as caught:
            VERBS[verb](path)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


BY_NAME = {"m.onnx": "ONNX", "flax_model.msgpack": "Flax", "m.mlmodel": "Core ML"}
BY_NAME |= {"__0_0.distcp": "torch.distributed.checkpoint", "saved_model.pb": "TensorFlow"}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_format_without_a_mark_is_told_by_its_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x82\xa5" + bytes(64))
    for verb in VERBS.values():
        with pytest.raises(CheckpointError, match=BY_NAME[name]):
            verb(tmp_path / name)


FOLDERS = {
    "torch.distributed.checkpoint": [".metadata", "__0_0.distcp"],
    "adapter of PEFT": ["adapter_config.json", "adapter_model.safetensors"],
    "pipeline of diffusers": ["model_index.json", "safety.safetensors"],
    "ZeRO": ["zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"],
    "SavedModel": ["saved_model.pb", "keras_metadata.pb"],
    "TensorFlow checkpoint": ["model.ckpt.index", "model.ckpt.data-00000-of-00001"],
    "Core ML": ["Manifest.json"],
    "Flax": ["flax_model.msgpack", "config.json"],
    "Orbax": ["_METADATA", "checkpoint"],
    "GGUF": ["model-q4.gguf"],
    "numpy arrays": ["weights.npz", "config.json"],
    "ONNX": ["model.onnx"],
}


@pytest.mark.parametrize("form", FOLDERS)
def test_a_folder_of_another_format_is_named(form, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in FOLDERS[form]:
        (folder / name).write_bytes(b"{}")
    for verb in VERBS.values():
        with pytest.raises(CheckpointError, match=form):
            verb(folder)


def test_other_formats_beside_a_checkpoint_do_not_matter(tmp_path):
    (save,) = [pytest.importorskip("safetensors.numpy", reason="bare run").save_file]
    save({"a": np.ones((2, 3))}, tmp_path / "model.safetensors")
    for name in ("model.onnx", "model.gguf", "flax_model.msgpack", "tf_model.h5", "x.npz"):
        (tmp_path / name).write_bytes(b"x")
    assert [t.key for t in inspect(tmp_path).tensors] == ["a"]


def test_the_tensors_of_an_adapter_are_known_wherever_they_lie(tmp_path):
    (save,) = [pytest.importorskip("safetensors.numpy", reason="bare run").save_file]
    names = ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight")
    save(dict.fromkeys(names, np.ones((2, 3))), tmp_path / "renamed.safetensors")
    with pytest.raises(CheckpointError, match="writes it for mlx-lm"):
        convert(tmp_path / "renamed.safetensors", tmp_path / "o.safetensors")


def header(length):
    """A safetensors file whose header has this many bytes."""
    entry = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    text = json.dumps(entry).encode()
    return struct.pack("<Q", length) + text.ljust(length) + b"\0"


@pytest.mark.parametrize("length", [0x8B1F, 0x227B, 0x225B, 0x0880])
def test_lengths_that_look_like_marks_are_lengths(length, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(header(length))
    (tmp_path / "x").write_bytes(header(length))
    assert inspect(tmp_path / "x.safetensors").tensors[0].key == "a"
    assert inspect(tmp_path / "x").tensors[0].key == "a"


def test_a_damaged_file_of_torch_is_still_called_damaged(tmp_path):
    (tmp_path / "x.pt").write_bytes(zipped("x/data.pkl", "x/data/0"))
    with pytest.raises(CheckpointError, match="byte"):
        convert(tmp_path / "x.pt", tmp_path / "o.safetensors")


def test_what_torch_wrote_is_not_converted_yet(tmp_path):
    (torch,) = need("torch")
    torch.save({"a": torch.ones(2)}, tmp_path / "zip.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "old.pt"):
        for verb in ("load_converted", "revert"):
            with pytest.raises(NotConvertedError, match=r"PyTorch checkpoint.*convert"):
                VERBS[verb](tmp_path / name)
    with pytest.raises(NotConvertedError, match=r"has no model\.safetensors"):
        load_converted(tmp_path)


def test_real_files_of_torch_are_what_these_tests_imitate(tmp_path):
    (torch,) = need("torch")
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(2, 3),))
    torch.export.save(program, tmp_path / "x.pt2")
    with pytest.raises(CheckpointError, match=r"torch\.export"):
        inspect(tmp_path / "x.pt2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/Some-Model_1.5", "hf download org/Some-Model_1.5 --local-dir Some-Model_1.5"),
        ("gpt2", "hf download gpt2 --local-dir gpt2"),
        ("https://huggingface.co/org/name", "hf download org/name --local-dir name"),
        ("https://huggingface.co/org/name/tree/main", "hf download org/name --local-dir name"),
        (
            "https://huggingface.co/org/name/resolve/main/a/b.safetensors?download=true",
            "hf download org/name a/b.safetensors --local-dir name",
        ),
        ("https://huggingface.co/gpt2", "hf download gpt2 --local-dir gpt2"),
        (
            "https://huggingface.co/gpt2/resolve/main/model.safetensors",
            "hf download gpt2 model.safetensors --local-dir gpt2",
        ),
        ("file:///data/m.pt", "pass /data/m.pt"),
        ("hf://org/name", "hf download org/name --local-dir name"),
        ("https:/huggingface.co/org/name", "hf download org/name --local-dir name"),
        ("https://example.com/m.pt?x=1&y", "curl -LO 'https://example.com/m.pt?x=1&y'"),
        ("https:/example.com/m.pt", "curl -LO https://example.com/m.pt"),
        ("s3://bucket/m.pt", "aws s3 cp s3://bucket/m.pt ."),
    ],
)
def test_a_hub_id_or_url_gets_the_command_that_downloads_it(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expected in missing(text)
    for verb in (inspect, analyze, load_converted, revert):
        with pytest.raises(CheckpointError) as caught:
            verb(text)
        assert expected in str(caught.value)
    with pytest.raises(CheckpointError):
        convert(text, "out.safetensors")


@pytest.mark.parametrize("text", ["model.pt", "runs/last.ckpt", "/no/such", "./there", "a/b/c"])
def test_a_path_that_is_missing_is_only_missing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert missing(text) == f"{text}: does not exist"


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="a device is there on POSIX only")
def test_a_device_is_there_and_is_no_file():
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        inspect("/dev/null")


@pytest.mark.parametrize("verb", [inspect, analyze, load_converted, revert])
def test_a_path_that_no_system_can_have_is_called_that(verb):
    with pytest.raises(CheckpointError, match="no file has this name"):
        verb("half\ud800.pt")


def test_translate_and_verify_say_so_too(tmp_path, monkeypatch, capsys):
    need("torch", "mlx.core")  # without them, they are what is missing
    monkeypatch.chdir(tmp_path)
    for arguments in (["translate", "org/name", "out"], ["verify", "org/name", "out"]):
        assert main(arguments) == 1
        assert "hf download org/name" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["e.pt", "e.bin", "e.ckpt", "e.safetensors", "e"])
@pytest.mark.parametrize("verb", [inspect, analyze, load_converted, revert])
def test_an_empty_file_is_called_empty(verb, name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"e(\.\w+)?: is empty \(0 bytes\): fetch it again"):
        verb(tmp_path / name)


@pytest.mark.parametrize("verb", [inspect, analyze, load_converted, revert])
def test_a_pipe_is_not_waited_for_and_not_missing(verb, tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(CheckpointError, match=r"pipe\.pt: is neither a file nor a folder"):
        verb(tmp_path / "pipe.pt")


FOUR_BIT = {
    "a.weight": np.ones((8, 1), np.uint8),
    "a.weight.absmax": np.ones(1, np.float32),
    "a.weight.quant_map": np.ones(16, np.float32),
    "a.weight.quant_state.bitsandbytes__nf4": np.ones(80, np.uint8),
}
EIGHT_BIT = {"a.weight": np.ones((4, 4), np.int8), "a.SCB": np.ones(4, np.float32)}


@pytest.mark.parametrize("state", [FOUR_BIT, EIGHT_BIT], ids=["4 bit", "8 bit"])
def test_what_bitsandbytes_packed_is_refused_by_its_name(state, tmp_path):
    with pytest.raises(CheckpointError, match=r"bitsandbytes has packed; .*dequantize\(\)"):
        convert(state, tmp_path / "out.safetensors")
    assert len(inspect(state).tensors) == len(state)


def test_names_like_those_of_bitsandbytes_alone_are_nothing(tmp_path):
    state = {"a.SCB": np.ones(4, np.float32), "b.absmax": np.ones(4, np.float32)}
    assert len(convert(state, tmp_path / "out.safetensors").pieces) == 2
