"""What all verbs share: help, formats, exit codes, dry runs, completion, doctor."""

import argparse
import ast
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import torch2mlx
from tests.support import need
from torch2mlx import convert, errors, revert
from torch2mlx.cli import main
from torch2mlx.cli.parser import VERBS

ROOT = Path(__file__).parent.parent.parent
NAMES = [verb.name for verb in VERBS]
CONV = {"conv.weight": np.zeros((4, 3, 2), np.float32)}
NEVER = ("--fail-on", "none")
RULE = ("--rule", "conv=Conv1d")
SCRIPT = "import torch\n\nx = torch.zeros(3)\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a checkpoint, what was converted of it, and scripts; the current one."""
    monkeypatch.chdir(tmp_path)
    convert(CONV, "mlx.safetensors", rules={"conv": "Conv1d"})
    revert("mlx.safetensors", "torch.safetensors")
    (tmp_path / "src").mkdir()
    for name in ("x.py", "src/x.py"):
        Path(name).write_text(SCRIPT)
    Path("src/data.txt").write_text("kept")
    return tmp_path


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def enveloped(capsys, *arguments):
    code = main([*arguments, "--format", "json"])
    captured = capsys.readouterr()
    assert captured.err == ""
    shape = json.loads(captured.out)
    assert list(shape) == ["ok", "result", "error"] and shape["ok"] == (code == 0)
    return shape


def alone(code):
    """A program in a process of its own; its standard output."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_version_import_no_library():
    lines = [["--help"], ["--version"], *([name, "--help"] for name in NAMES)]
    shown = alone(
        "import sys\nfrom torch2mlx.cli import main\n"
        f"for line in {lines}:\n"
        "    try:\n        main(line)\n"
        "    except SystemExit as error:\n        assert not error.code\n"
        "heavy = {'numpy', 'torch', 'mlx', 'transformers', 'rich', 'shtab', 'torch2mlx._core'}\n"
        "print('imported', sorted(heavy & set(sys.modules)))"
    )
    assert shown.splitlines()[-1] == "imported []"
    assert shown.count("exit codes:") == 1 + len(NAMES)


def test_completion_imports_no_library_but_its_own():
    need("shtab")
    shown = alone(
        "import sys\nfrom torch2mlx.cli import main\n"
        "assert main(['completion', 'bash']) == 0\n"
        "print('imported', sorted({'numpy', 'torch', 'mlx'} & set(sys.modules)))"
    )
    assert shown.splitlines()[-1] == "imported []"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_option(shell, capsys):
    need("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*NAMES, "shard-size", "io-layout", "dry-run"):
        assert word in script, word


def test_completion_without_its_library_says_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 1
    assert capsys.readouterr().err == (
        "torch2mlx: completion needs shtab: pip install 'torch2mlx[cli]'\n"
    )


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_every_help_has_examples_that_the_verb_takes(verb, capsys):
    from torch2mlx.cli.parser import parser

    with pytest.raises(SystemExit):
        main([verb.name, "--help"])
    shown = capsys.readouterr().out
    assert "--format" in shown and ("--dry-run" in shown) == verb.writes
    for example in verb.examples:
        assert example in shown
        line = re.search(r"torch2mlx ([^>)]*)", example)[1]
        words = shlex.split(line)
        assert parser().parse_args(words).command == verb.name


def test_names_are_listed_once_more_for_readers_of_types_only():
    tree = ast.parse((ROOT / "torch2mlx" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.name: (node.module or "").removeprefix("torch2mlx").lstrip(".")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name: home for name, home in told.items() if home} == torch2mlx._HOMES
    assert {*told, "__version__"} == set(torch2mlx.__all__)
    for name in torch2mlx.__all__:
        assert getattr(torch2mlx, name) is not None
    assert set(torch2mlx.__all__) <= set(dir(torch2mlx))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        torch2mlx.nothing  # noqa: B018


def test_a_tree_that_is_not_built_says_how_to_build_it():
    shown = alone(
        "import sys\n"
        "sys.modules['torch'] = sys.modules['mlx'] = None\n"
        "class Lost:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch2mlx._core':\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Lost())\n"
        "sys.stderr = sys.stdout\nfrom torch2mlx.cli import main\n"
        "assert main(['inspect', 'x.pt']) == 1\n"
        "assert main(['doctor']) == 0"
    )
    assert shown.startswith("torch2mlx: torch2mlx._core is not built: run `pip install .`")


def test_results_and_errors_have_one_shape(here, capsys):
    shape = enveloped(capsys, "inspect", "mlx.safetensors")
    assert shape["error"] is None and shape["result"]["tensors"][0]["key"] == "conv.weight"
    shape = enveloped(capsys, "inspect", "absent.pt")
    assert shape["result"] is None
    assert shape["error"] == {
        "code": "checkpoint",
        "message": "absent.pt: does not exist",
        "where": "absent.pt",
        "what_to_do": None,
    }
    shape = enveloped(capsys, "convert", "torch.safetensors", "x.pt", *RULE)
    assert shape["error"]["where"] == "x.pt" and shape["error"]["code"] == "conversion"
    shape = enveloped(capsys, "revert", "mlx.safetensors", "torch.safetensors")
    assert shape["error"]["code"] == "write"
    assert shape["error"]["what_to_do"] == "write somewhere else, or pass --force"
    with pytest.raises(SystemExit) as caught:
        main(["inspect", "--json"])
    assert caught.value.code == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_a_library_that_lacks_is_what_to_do(monkeypatch, here, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    error = enveloped(capsys, "revert", "mlx.safetensors", "x.pt")["error"]
    assert error["code"] == "missing-library"
    assert error["what_to_do"] == "pip install 'torch2mlx[torch]'"


def test_the_codes_of_errors_are_the_documented_ones():
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in classes if issubclass(kind, errors.Torch2MLXError)}
    page = (ROOT / "docs" / "command-line.md").read_text()
    told = re.findall(r"^\| `([\w-]+)` \|", page.split("\n## JSON\n")[1].split("\n## ")[0], re.M)
    own = {"usage", "interrupted", "system", "memory", "internal"}
    assert sorted(told) == sorted((codes - {"error"}) | own)


def test_a_result_that_means_failure_comes_with_its_error(here, capsys):
    need("libcst")
    Path("left.py").write_text("import torch\nx = torch.optim.SparseAdam([])\n")
    shape = enveloped(capsys, "port", "left.py", "--check")
    assert not shape["ok"] and shape["error"]["code"] == "port"
    assert shape["result"]["files"][0]["unsupported"][0]["line"] == 2
    assert main(["analyze", "torch.safetensors", "--fail-on", "none"]) == 0
    capsys.readouterr()
    shape = enveloped(capsys, "analyze", "torch.safetensors", "--fail-on", "warning")
    assert shape["error"]["message"].startswith("torch.safetensors: 1 blockers or warnings, first")
    assert shape["result"]["findings"]


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (("convert", "torch.safetensors", "o.safetensors", *RULE), ["o.safetensors"]),
        (("convert", "torch.safetensors", "o", *RULE), ["o/model.safetensors"]),
        (("revert", "mlx.safetensors", "o.safetensors"), ["o.safetensors"]),
        (("analyze", "torch.safetensors", "--html", "o.html", *NEVER), ["o.html"]),
        (("analyze", "torch.safetensors", *NEVER), []),
    ],
    ids=["file", "folder", "revert", "page", "nothing"],
)
def test_a_dry_run_says_what_would_be_written_and_writes_nothing(line, written, here, capsys):
    if "--html" in line:
        need("jinja2")
    before = content(here)
    shape = enveloped(capsys, *line, "--dry-run")
    assert shape["result"]["would_write"][: len(written)] == written
    assert main([*line, "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("nothing was written\n")
    assert content(here) == before
    assert main(list(line)) == 0
    assert set(content(here)) - set(before) == set(shape["result"]["would_write"])


def test_a_dry_run_of_a_port_writes_nothing(here, capsys):
    need("libcst")
    before = content(here)
    for source, out, files in (("x.py", "y.py", ["y.py"]), ("src", "o", ["o/data.txt", "o/x.py"])):
        assert enveloped(capsys, "port", source, out, "--dry-run")["result"] == {
            "would_write": files,
            "places left as they are": 0,
        }
        assert content(here) == before
        assert main(["port", source, out]) == 0
        told = "".join(f"written: {file}\n" for file in files)
        assert capsys.readouterr().out == told
        assert set(content(here)) - set(before) == set(files)
        before = content(here)


def test_a_port_of_one_file_names_what_it_imports_of_torch_still(here, capsys):
    need("libcst")
    Path("src/y.py").write_text("import os, x\nfrom pure import one\nimport torch\n")
    Path("src/pure.py").write_text("one = 1  # torch\n")
    assert main(["port", "src/y.py", "y.py"]) == 0
    beside = "imports src/x.py, which imports torch and is not ported with it"
    advice = f"src/y.py: {beside}: port the folder, torch2mlx port src OUT\n"
    assert capsys.readouterr().err == advice
    assert torch2mlx.port("src/y.py").beside == ("src/x.py",)
    assert main(["port", "src", "whole"]) == 0
    assert capsys.readouterr().err == "src/pure.py: does not import torch: left as it is\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("flags", [(), ("-q",), ("-v",)])
def test_a_terminal_is_told_what_goes_on_until_it_is_done(flags, here, monkeypatch):
    need("libcst")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["port", "x.py", "y.py", *flags]) == 0
    said, wiped = terminal.getvalue(), "\r\x1b[K"
    step = {(): f"{wiped}torch2mlx: porting x.py ...{wiped}", ("-v",): "torch2mlx: porting x.py\n"}
    assert said.replace(wiped, "") == "" if flags == ("-q",) else said.startswith(step[flags])
    assert said.endswith(wiped)


def test_all_that_is_missing_is_one_command():
    from torch2mlx.common.optional import command

    assert command("torch", "mlx") == "pip install 'torch2mlx[torch,mlx]'"
    assert command("libcst", "nbformat") == "pip install 'torch2mlx[port]'"
    assert command("mlx", "transformers") == "pip install 'torch2mlx[mlx]' transformers"
    assert command("transformers") == "pip install transformers"


def test_a_dry_run_refuses_what_the_run_would(here, capsys):
    Path("mine.safetensors").write_bytes(b"mine")
    Path("o").mkdir()
    Path("o/model.safetensors").write_bytes(b"mine")
    lines = [
        ("convert", "torch.safetensors", "mine.safetensors", *RULE),
        ("convert", "torch.safetensors", "o", *RULE),
        ("revert", "mlx.safetensors", "mine.safetensors"),
        ("analyze", "torch.safetensors", "--sarif", "mine.safetensors"),
    ]
    for line in lines:
        said = []
        for more in ((), ("--dry-run",)):
            assert main([*line, *more]) == 1
            said.append(capsys.readouterr().err)
        assert said[0] == said[1] and "pass --force" in said[0]


def test_a_dry_run_of_an_analysis_looks_for_the_folder(here, capsys):
    need("jinja2")
    Path("led.html").symlink_to(here / "missing" / "x.html")
    for page in ("missing/x.html", "led.html"):
        said = []
        for more in ((), ("--dry-run",)):
            assert main(["analyze", "torch.safetensors", "--html", page, *more, *NEVER]) == 1
            said.append(capsys.readouterr().err)
        assert said[0] == said[1] and said[0].endswith("missing: is no folder; make it first\n")


def test_a_dry_run_takes_a_stream_as_the_run_does(here, capsys):
    need("jinja2")
    line = ("analyze", "torch.safetensors", "--html", "/dev/null", *NEVER)
    assert enveloped(capsys, *line, "--dry-run")["result"]["would_write"] == ["/dev/null"]
    assert main(list(line)) == 0


def test_a_place_to_write_is_named_once(here, capsys):
    need("libcst")
    assert main(["port", "x.py", "-"]) == 0
    assert "mx.zeros" in capsys.readouterr().out and not Path("-").exists()
    assert main(["port", "x.py", "-o", "y.py"]) == 0
    assert main(["port", "x.py", "z.py", "-o", "y.py"]) == 1
    assert "y.py: where to write is z.py already" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_and_shows_more_when_asked(here, monkeypatch, capsys):
    def broken(*_, **__):
        raise LookupError("first line\nsecond line")

    monkeypatch.setattr("torch2mlx.inspector.inspect", broken)
    assert main(["inspect", "x"]) == 3
    assert capsys.readouterr().err == (
        "torch2mlx: a fault of torch2mlx itself: LookupError: first line; "
        "-v, or TORCH2MLX_TRACEBACK=1, shows where\n"
    )
    assert main(["inspect", "x", "-v"]) == 3
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("TORCH2MLX_TRACEBACK", "1")
    assert main(["inspect", "x"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing was changed"),
        (MemoryError(), 1, "there is not enough memory"),
        (ModuleNotFoundError("No module named 'x'"), 1, "No module named 'x'"),
        (PermissionError(13, "Permission denied", "a"), 1, "a: Permission denied"),
    ],
)
def test_errors_of_the_system_are_one_line(error, code, told, monkeypatch, capsys):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("torch2mlx.inspector.inspect", failing)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["inspect", "x"]) == code
    assert capsys.readouterr().err == f"torch2mlx: {told}\n"


def test_an_interrupt_before_a_verb_runs_is_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch2mlx.cli.running.run", interrupted)
    assert main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "torch2mlx: interrupted; nothing was changed\n"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (["covnert"], "did you mean convert?"),
        (["inspect", "x", "--jsonn"], "did you mean --json?"),
        (["inspect", "x", "--format", "jsn"], "did you mean json?"),
        (["verify", "a", "b", "--tolerance", "-1"], "'-1' is no tolerance, such as 1e-4"),
        (["convert", "a", "b", "--threads", "-3"], "'-3' is no number of threads"),
    ],
)
def test_wrong_usage_is_told_with_what_was_meant(line, meant, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line)
    assert caught.value.code == 2 and meant in capsys.readouterr().err


def test_names_that_are_not_quite_right_get_the_right_one(here, capsys):
    assert main(["convert", "torch.safetensors", "o.safetensors", "--dtype", "flaot16"]) == 1
    assert "did you mean float16?" in capsys.readouterr().err
    assert main(["convert", "torch.safetensors", "o.safetensors", "--rule", "conv=Conv1dd"]) == 1
    assert "did you mean 'Conv1d'?" in capsys.readouterr().err


def test_threads_are_not_negative_in_python_either(tmp_path):
    with pytest.raises(errors.ConversionError, match="threads=-3: 0 takes all cores"):
        convert(CONV, tmp_path / "o.safetensors", threads=-3)


def test_doctor_says_what_is_here_and_what_would_bring_the_rest(monkeypatch, capsys):
    for name in ("torch", "mlx", "mlx.core", "libcst", "rich"):
        monkeypatch.setitem(sys.modules, name, None)
    found = enveloped(capsys, "doctor")["result"]
    assert set(found) >= {"python", "system", "core", "packages", "devices", "extras", "verbs"}
    assert found["packages"]["numpy"] and found["devices"] == {"mlx": None, "torch": None}
    assert found["verbs"]["convert"] == []
    assert found["verbs"]["translate"] == ["pip install 'torch2mlx[torch,mlx]'"]
    assert main(["doctor"]) == 0
    assert "needs pip install 'torch2mlx[port]'" in capsys.readouterr().out
    verbs = {line.split()[0].rstrip(",") for line in found["verbs"]}
    assert verbs == {*NAMES, "--format"} - {"doctor"}


def test_doctor_names_the_devices(capsys):
    torch, mx = need("torch", "mlx.core")
    found = enveloped(capsys, "doctor")["result"]
    assert found["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["devices"]["mlx"].startswith(str(mx.default_device()))
    assert found["verbs"]["translate"] == []


def test_verbs_take_the_same_words_for_the_same_things():
    from torch2mlx.cli.parser import parser

    subs = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for verb in VERBS:
        options = {s for a in subs.choices[verb.name]._actions for s in a.option_strings}
        assert {"--format", "--json", "-v", "--verbose", "--help"} <= options
        assert ({"--force", "--dry-run"} <= options) == verb.writes
