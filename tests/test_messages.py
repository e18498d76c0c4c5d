"""Errors speak the caller's language, name the path and what to do, and no library goes unnamed."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import torch2mlx
from tests import support
from torch2mlx import analyze, convert, inspect, load_converted, revert
from torch2mlx.cli import main
from torch2mlx.common import amounts, options
from torch2mlx.common.optional import installed, need
from torch2mlx.errors import (
    AlreadyConvertedError,
    ConversionError,
    MissingLibraryError,
    NotConvertedError,
    Torch2MLXError,
    UnsupportedTensorError,
)

CONV = {"net.conv1.weight": np.zeros((4, 3, 2), np.float32)}


@pytest.fixture
def checkpoint(tmp_path):
    """A directory of numpy's conversion: a checkpoint without types."""
    convert(CONV, tmp_path / "mlx.safetensors", rules={"**.conv*": "Conv1d"})
    return revert(tmp_path / "mlx.safetensors", tmp_path / "torch.safetensors")


def said(capsys, *arguments):
    assert main(list(map(str, arguments))) == 1
    error = capsys.readouterr().err
    assert error.startswith("torch2mlx: ") and error.count("\n") == 1
    return error


def test_options_are_named_as_the_caller_writes_them():
    assert options.option("rules") == "rules=" and options.given("key", "a b") == "key='a b'"
    assert options.rules({"a": "Linear"}) == 'rules={"a": "Linear"}'
    with options.command_line():
        assert options.option("shard_size") == "--shard-size"
        assert options.option("module") == "module= in Python"
        assert options.given("key", "a b") == "--key 'a b'"
        assert options.given("force", True) == "--force"
        assert options.given("verify", False) == "--no-verify"
        assert options.given("strict", False) == "strict=False in Python"
        assert options.rules({"**.a": "Linear"}) == "--rule '**.a=Linear'"
    assert options.option("rules") == "rules="


def test_advice_on_the_command_line_can_be_typed_as_it_stands(checkpoint, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    error = said(capsys, "convert", checkpoint, out)
    pattern = re.search(r"--rule '(.+?)'", error)[1]
    assert "rules=" not in error and pattern == "**.conv*=Conv1d"
    assert main(["convert", str(checkpoint), str(out), "--rule", pattern]) == 0
    capsys.readouterr()
    assert "--rule 'conv*=...' matches nothing" in said(
        capsys, "convert", checkpoint, out, "--rule", "conv*=Conv1d"
    )
    assert "--dtype fp16" in said(capsys, "convert", checkpoint, out, "--dtype", "fp16")
    assert "--shard-size 0" in said(
        capsys, "convert", checkpoint, tmp_path / "d", "--shard-size", "0", "--rule", pattern
    )


def test_a_rule_that_is_no_json_says_so(checkpoint, capsys):
    with pytest.raises(SystemExit):
        main(["convert", str(checkpoint), "o.safetensors", "--rule", "a={type: Conv1d}"])
    error = capsys.readouterr().err
    assert "the layer is no JSON" in error and "_pair" not in error


@pytest.mark.parametrize(
    ("dtype", "meant"),
    [("fp16", "float16"), ("half", "float16"), ("bf16", "bfloat16"), ("double", "float64")],
)
def test_a_nickname_of_a_dtype_gets_its_name(dtype, meant, tmp_path):
    with pytest.raises(ConversionError, match=f"did you mean {meant}"):
        convert(CONV, tmp_path / "out.safetensors", dtype=dtype)


PATHS = {
    "x" * 300: "longer than the file system takes",
    "a\0b": "no NUL",
    "": "not an empty text",
}


@pytest.mark.parametrize("path", PATHS, ids=("long", "NUL", "empty"))
def test_paths_that_no_system_has_are_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = [
        lambda: convert(path, "out.safetensors"),
        lambda: convert(CONV, path, rules={"**.conv*": "Conv1d"}),
        lambda: inspect(path),
        lambda: analyze(path),
        lambda: load_converted(path),
        lambda: revert(path),
        lambda: torch2mlx.load(path),
    ]
    for call in calls:
        with pytest.raises(Torch2MLXError, match=PATHS[path]):
            call()


def test_links_in_a_circle_are_named(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(Torch2MLXError, match="round in a circle"):
        inspect(tmp_path / "a")


@pytest.mark.parametrize("out", [None, 3, ["out.safetensors"]])
def test_an_output_that_is_no_path_is_refused(out):
    with pytest.raises(ConversionError, match="out: takes a path"):
        convert(CONV, out, rules={"**.conv*": "Conv1d"})


def test_an_error_of_the_system_names_its_path(checkpoint, tmp_path, capsys):
    support.need("jinja2")
    nowhere = tmp_path / "absent" / "page.html"
    error = said(capsys, "analyze", checkpoint, "--html", nowhere)
    assert "absent" in error and "Errno" not in error


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    state = {f"layers.{i}.weight": np.zeros((2, 2), np.float32) for i in range(4000)}
    convert(state, tmp_path / "many.safetensors")
    command = [sys.executable, "-m", "torch2mlx", "inspect", str(tmp_path / "many.safetensors")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def without(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_a_library_that_is_not_there_is_asked_for_by_the_command_that_brings_it(monkeypatch):
    without(monkeypatch, "torch", "mlx", "mlx.core", "ml_dtypes", "transformers")
    assert not installed("torch") and not installed("mlx")
    for name, command in {
        "torch": "pip install 'torch2mlx[torch]'",
        "mlx": "pip install 'torch2mlx[mlx]'",
        "ml_dtypes": "pip install ml_dtypes",
    }.items():
        with pytest.raises(MissingLibraryError, match=re.escape(f"x needs {name}: {command}")):
            need("x", name)


def test_every_verb_asks_for_what_it_lacks_before_it_works(tmp_path, monkeypatch, capsys):
    convert(CONV, tmp_path / "mlx.safetensors", rules={"**.conv*": "Conv1d"})
    without(monkeypatch, "torch", "mlx", "mlx.core")
    calls = {
        "mlx": [
            lambda: load_converted(tmp_path / "mlx.safetensors", framework="mlx"),
            lambda: torch2mlx.translate(object()),
            lambda: torch2mlx.verify(object(), object()),
        ],
        "torch": [
            lambda: revert(tmp_path / "mlx.safetensors", framework="torch"),
            lambda: revert(tmp_path / "mlx.safetensors", tmp_path / "out.pt"),
            lambda: torch2mlx.translate(object()),
        ],
    }
    for name, verbs in calls.items():
        for verb in verbs:
            with pytest.raises(MissingLibraryError, match=f"pip install '.*{name}"):
                verb()
    assert not (tmp_path / "out.pt").exists()
    (tmp_path / "config.json").write_text("{}")
    assert "pip install" in said(capsys, "translate", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("package", ["kit", "templates"])
def test_packages_of_mlx_ask_for_it(package):
    code = (
        "import sys; sys.modules['mlx'] = sys.modules['mlx.core'] = None\n"
        f"import torch2mlx.{package}"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "MissingLibraryError" in done.stderr and "pip install 'torch2mlx[mlx]'" in done.stderr


def test_sources_that_are_none_say_what_they_are(tmp_path):
    torch, mx, layers = support.need("torch", "mlx.core", "mlx.nn")
    out = tmp_path / "out.safetensors"
    for source in ({"a": mx.ones(2)}, layers.Linear(2, 2)):
        with pytest.raises(AlreadyConvertedError, match="is of MLX already"):
            convert(source, out)
    with pytest.raises(UnsupportedTensorError, match=r"no shape yet; run one forward pass first"):
        convert(torch.nn.LazyLinear(3), out)
    with pytest.raises(ConversionError, match="prefix= takes a text"):
        convert(CONV, out, prefix=3)


def test_sizes_and_counts_are_for_people(checkpoint):
    assert [amounts.counted(n, "tensor") for n in (0, 1, 1200)] == [
        "0 tensors",
        "1 tensor",
        "1,200 tensors",
    ]
    sizes = [amounts.shown_bytes(n) for n in (1, 999, 1000, 99_999, 100_000, 1_340_000_000)]
    assert sizes == ["1 byte", "999 bytes", "1.0 KB", "100.0 KB", "0.1 MB", "1,340.0 MB"]
    assert str(inspect(checkpoint)).split("\n")[0].endswith(", 1 tensor (1 float32), 96 bytes")


def test_weights_saved_in_mlx_are_no_converted_file_and_revert_wants_like(tmp_path, capsys):
    convert(CONV, tmp_path / "mlx.safetensors", rules={"**.conv*": "Conv1d"})
    header = b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    trained = tmp_path / "trained.safetensors"
    trained.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(NotConvertedError, match=r"trained\.safetensors: .*revert with like= what"):
        revert(trained)
    assert "revert with --like what they were converted from" in said(
        capsys, "revert", trained, tmp_path / "x.safetensors"
    )


def test_a_checkpoint_without_types_has_no_coverage_in_the_headline(tmp_path):
    convert(CONV, tmp_path / "mlx.safetensors", rules={"**.conv*": "Conv1d"})
    file = revert(tmp_path / "mlx.safetensors", tmp_path / "torch.safetensors")
    assert (
        "torch.safetensors: coverage unknown (no types of layers), 1 blocker, 0 warnings, 24 param"
        in (analyze(file).headline())
    )
