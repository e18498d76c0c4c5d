"""The command line: results, exit codes, JSON, silence in a pipe, a bar on a terminal."""

import json
import os
import pty
import subprocess
import sys

import numpy as np
import pytest

from tests.support import need
from torch2mlx import load_converted
from torch2mlx.checkpoint.source.files import read_safetensors
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.checkpoint.write.safetensors_file import write_safetensors
from torch2mlx.cli import main
from torch2mlx.types import Piece


@pytest.fixture
def source(tmp_path):
    """A checkpoint with a layout-sensitive tensor."""
    path = tmp_path / "source.safetensors"
    array = np.random.randn(4, 3, 2).astype(np.float32)
    tensor = borrow("conv.weight", array)
    piece = Piece("conv.weight", array.shape, "float32", ("conv.weight",), "copy", tensor.load)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    write_safetensors(fd, [piece], {"format": "pt"})
    os.close(fd)
    return path


def test_convert_inspect_revert(source, tmp_path, capsys):
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    assert main(["convert", str(source), str(out), "--rule", "conv=Conv1d"]) == 0
    assert "1 tensor, 448 bytes in " in capsys.readouterr().out
    assert load_converted(out, framework="numpy")["conv.weight"].shape == (4, 2, 3)
    assert main(["inspect", str(out)]) == 0
    assert "[4, 2, 3]" in capsys.readouterr().out
    assert main(["revert", str(out), str(back)]) == 0
    assert back.read_bytes() == source.read_bytes()


def test_weights_that_changed_since_go_back(source, tmp_path, capsys):
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    assert main(["convert", str(source), str(out), "--rule", "conv=Conv1d"]) == 0
    kernel = np.array(load_converted(out, framework="numpy")["conv.weight"]) * 2
    trained = tmp_path / "trained.npz"
    np.savez(trained, **{"conv.weight": kernel})
    assert main(["revert", str(trained), str(back), "--like", str(out)]) == 0
    found = read_safetensors(back)[0]["conv.weight"]
    np.testing.assert_array_equal(np.asarray(found), kernel.transpose(0, 2, 1))
    np.savez(trained, **{"conv.weight": kernel, "conv.lora_a": kernel})
    capsys.readouterr()
    assert main(["revert", str(trained), str(back), "--like", str(out)]) == 1
    assert "fuse the adapters" in capsys.readouterr().err


def test_json_is_the_whole_output(source, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    rule = 'conv={"type": "Conv1d"}'
    assert main(["convert", str(source), str(out), "--rule", rule, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["error"] is None
    assert report["result"]["tensors"][0]["rule"] == "o i k -> o k i"
    assert main(["inspect", str(source), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["layout"] == "torch"


def test_failures_are_one_line_and_exit_1(source, tmp_path, capsys):
    assert main(["convert", str(source), str(tmp_path / "x.safetensors")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "conv.weight" in captured.err
    assert main(["inspect", str(tmp_path / "absent.pt")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["convert"], ["nonsense"], ["convert", "a", "b", "-x"]])
def test_wrong_usage_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def run(arguments, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
    command = [sys.executable, "-m", "torch2mlx", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, **options)


def test_a_pipe_gets_no_progress_bar(source, tmp_path):
    arguments = ["convert", source, tmp_path / "x.safetensors", "--rule", "conv=Conv1d"]
    assert run(arguments, capture_output=True).stderr == b""


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_a_terminal_gets_a_progress_bar_that_goes_away(rich, source, tmp_path):
    if rich:
        need("rich")
    control, terminal = pty.openpty()
    arguments = ["convert", str(source), str(tmp_path / "x.safetensors"), "--rule", "conv=Conv1d"]
    hidden = "" if rich else "import sys; sys.modules['rich'] = None; "
    code = f"{hidden}from torch2mlx.cli import main; assert main({arguments}) == 0"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        stderr=terminal,
        stdout=subprocess.DEVNULL,
    )
    os.close(terminal)
    shown = os.read(control, 65536).decode()
    os.close(control)
    assert "100%" in shown and "conv.weight" in shown
    assert shown.endswith("\r\x1b[K") and shown.count("\x1b[2K" if rich else "\x1b[K") > 1


def test_an_interrupt_exits_130(source, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch2mlx.converter.convert", interrupted)
    assert main(["convert", str(source), str(tmp_path / "x.safetensors")]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_translate_and_verify(tmp_path, monkeypatch, capsys):
    need("torch", "mlx.core")
    from torch2mlx.cli import main

    (tmp_path / "made.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Linear(3, 2).eval(), (torch.ones(2, 3),)\n"
        "def other():\n"
        "    return torch.nn.Linear(3, 2).eval(), (torch.ones(2, 3),)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["translate", "made:make", "out"]) == 0
    assert (tmp_path / "out" / "model.py").exists()
    assert main(["verify", "made:make", "out"]) == 0
    assert main(["verify", "made:other", "out"]) == 1
    assert "differs" in capsys.readouterr().err
    assert main(["translate", "nothing", "out"]) == 1
