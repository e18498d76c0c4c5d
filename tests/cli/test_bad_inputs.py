"""Bad inputs of every verb: one message that names the place, never a traceback, exit code 1."""

import os
from pathlib import Path

import pytest

from tests.support import need
from torch2mlx.cli import main

FACTORIES = """\
import torch


def boom():
    raise RuntimeError("mine\\nand more")


def five():
    return 5, (torch.ones(1),)


three = 3


def takes(n):
    return n


def alone():
    return torch.nn.Linear(2, 2)


def shapeless():
    return torch.nn.Linear(2, 2), (torch.ones(1, 2),), [1]


def quits():
    raise SystemExit(3)


def ok():
    return torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),)


def nothing():
    pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, line, code=1):
    """The one line on standard error."""
    assert main(line.split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("torch2mlx: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err and "Errno" not in captured.err
    return captured.err.removeprefix("torch2mlx: ").removesuffix("\n")


FUNCTIONS = {
    "f.py:zzz": "f.py: has no 'zzz'; it has boom, five, takes, alone, shapeless",
    "f.py:fiev": "f.py: has no 'fiev'; did you mean f.py:five?",
    "f.py:boom": "{here}/f.py:5: f.py:boom raised RuntimeError: mine",
    "f.py:five": "f.py:five: answers an int where the model belongs; it has to answer (model, "
    "args), the model a torch.nn.Module",
    "f.py:three": "f.py:three: is an int, not a function; name one that answers (model, args)",
    "f.py:takes": "f.py:takes: takes n, and is called without arguments; name a function that "
    "answers (model, args)",
    "f.py:alone": "f.py:alone: answers a model alone; let it answer (model, args), with example "
    "inputs",
    "f.py:shapeless": "f.py:shapeless: answers a list where kwargs, a dict, belong",
    "f.py:quits": "{here}/f.py:28: f.py:quits raised SystemExit: 3",
    "f.py:nothing": "f.py:nothing: answers a NoneType; it has to answer (model, args) or (model, "
    "args, kwargs)",
    "f.py": "f.py: is a file; name the function in it, as in f.py:boom; it has boom, five, alone, "
    "shapeless, quits",
    "syntax.py:f": "{here}/syntax.py:1: SyntaxError: invalid syntax",
    "imports.py:f": "{here}/imports.py:1: imports.py:f raised ModuleNotFoundError: No module "
    "named 'not_there_either'",
    "not_there:f": "not_there:f: there is no module 'not_there' here or on Python's path; a file "
    "is named file.py:function",
    "absent.py:f": "absent.py: no such file",
    ":f": ":f: names no module before the colon",
    "x.txt": "x.txt: is a file; give a folder with a config.json, or file.py:function",
    "a/b/c": "a/b/c: does not exist; give a folder, file.py:function or package.module:function",
    "empty": "empty: no config.json",
}


@pytest.mark.parametrize("verb", ["translate", "verify"])
@pytest.mark.parametrize("source", FUNCTIONS)
def test_a_source_that_is_no_model_is_told_with_its_line(verb, source, here, capsys):
    need("torch", "mlx.core", "transformers")
    Path("f.py").write_text(FACTORIES)
    Path("syntax.py").write_text("def f(:\n")
    Path("imports.py").write_text("import not_there_either\n")
    Path("x.txt").write_text("text")
    Path("empty").mkdir()
    expected = FUNCTIONS[source].format(here=here)
    assert said(capsys, f"{verb} {source} out") == expected
    assert not Path("out").exists()


def test_a_function_of_a_file_is_translated_and_verified(here, capsys):
    need("torch", "mlx.core")
    Path("inner").mkdir()
    Path("inner/beside.py").write_text("WIDTH = 2\n")
    Path("inner/f.py").write_text(f"import beside\n{FACTORIES}\nassert beside.WIDTH == 2\n")
    source = "inner/f.py:ok"
    Path("inner/f.py").write_text(
        "import beside, torch\n\ndef ok():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Linear(beside.WIDTH, 2).eval(), (torch.ones(1, 2),)\n"
    )
    assert main(["translate", source, "out", "--dry-run"]) == 0
    assert "would write out/weights.safetensors" in capsys.readouterr().out
    assert not Path("out").exists()
    assert main(["translate", source, "out"]) == 0
    assert main(["verify", source, "out"]) == 0
    capsys.readouterr()
    assert main(["verify", source, "out", "--gradients"]) == 0
    assert "gradient" in capsys.readouterr().out
    assert main(["analyze", source]) == 0
    assert "coverage 100.0% (1 of 1 layers)" in capsys.readouterr().out
    assert said(capsys, "verify inner/f.py:ok inner") == (
        "inner: no model.py; is this a folder that translate wrote?"
    )


def test_a_translation_that_differs_is_not_written(here, monkeypatch, capsys):
    need("torch", "mlx.core")
    from torch2mlx.export.verify.comparing import Compared
    from torch2mlx.export.verify.judging import Judgement

    found = Judgement((Compared("", 0.5, 1e-4, "differs"),))
    monkeypatch.setattr("torch2mlx.export.verify.check.judge", lambda *_, **__: found)
    Path("f.py").write_text(FACTORIES)
    assert main(["translate", "f.py:ok", "out"]) == 1
    error = capsys.readouterr().err
    assert "output: 5.0e-01 (allowed 1e-04)  <- differs" in error
    assert error.endswith("; --no-check returns the translation all the same\n")
    assert not Path("out").exists()
    assert main(["translate", "f.py:ok", "out", "--no-check"]) == 0
    told = capsys.readouterr().out
    assert "compared: no" in told and "not run and compared: --no-check" in told
    assert Path("out", "model.py").exists()


SCRIPTS = {
    "binary.py": (b"\xff\xfe\x00\x01", "binary.py:1: is no text in UTF-8, nor in an encoding "),
    "latin.py": (b"\n# caf\xe9\n", "latin.py:2: is no text in UTF-8, nor in an encoding that its"),
    "nul.py": (b"import torch\nx = '\0'\n", "nul.py:2: holds a NUL, so it is no Python"),
    "unknown.py": (b"# coding: klingon\n", "unknown.py:1: is no text in UTF-8, nor in an enc"),
    "syntax.py": (b"import torch\ndef f(:\n", "syntax.py:2:7: invalid syntax"),
    "two.py": (b'print "x"\n', "two.py:1:1: Missing parentheses in call to 'print'. Did you"),
    "broken.ipynb": (b"{oops", "broken.ipynb: is no notebook: Notebook does not appear to be JSON"),
    "list.ipynb": (b"[1]", "list.ipynb: is no notebook: it has not the structure of one"),
    "x.txt": (b"import torch\n", "x.txt: nothing to port: it is no .py or .ipynb file"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_none_is_told_with_its_line(name, here, capsys):
    need("libcst", "nbformat")
    raw, expected = SCRIPTS[name]
    Path(name).write_bytes(raw)
    assert said(capsys, f"port {name}").startswith(expected)
    assert said(capsys, f"port {name} out.py").startswith(expected)
    assert sorted(os.listdir()) == [name]


def test_a_folder_without_scripts_has_nothing_to_port(here, capsys):
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/x.txt").write_text("text")
    for name in ("empty", "texts"):
        expected = f"{name}: nothing to port: it holds no .py or .ipynb file"
        assert said(capsys, f"port {name}") == expected
        assert said(capsys, f"port {name} out") == expected
    assert said(capsys, "port absent.py") == "absent.py: no such file"
    Path("texts/x.py").write_text("import os\n")
    need("libcst")
    assert said(capsys, "port texts") == (
        "texts: is a folder; say where to write: torch2mlx port FOLDER OUT"
    )


def test_a_script_without_torch_is_told(here, capsys):
    need("libcst")
    Path("plain.py").write_text("import os\n")
    assert main(["port", "plain.py"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "import os\n"
    assert captured.err == "plain.py: does not import torch: left as it is\n"


def test_a_declared_encoding_is_read_and_kept(here):
    need("libcst")
    text = "# -*- coding: latin-1 -*-\nimport torch\nx = torch.ones(3)  # café\n"
    Path("x.py").write_bytes(text.encode("latin-1"))
    assert main(["port", "x.py", "y.py"]) == 0
    found = Path("y.py").read_bytes().decode("latin-1")
    assert "mx.ones" in found and found.endswith("# café\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("inspect absent.pt", "absent.pt: does not exist"),
        ("inspect empty.pt", "empty.pt: "),
        ("convert empty.safetensors o.safetensors", "empty.safetensors: "),
        ("analyze half.safetensors", "half.safetensors: "),
        ("convert folder o", "folder: holds no checkpoint"),
        ("revert half.safetensors o.pt", "half.safetensors: "),
        ("analyze folder/config.json", "folder/config.json: not valid JSON"),
        ("convert half.safetensors absent/o.safetensors", "absent: is no folder; make it first"),
        ("analyze . --html absent/x.html", ".: holds no checkpoint"),
        (
            "convert https://huggingface.co/a/b o",
            "https://huggingface.co/a/b: is no path; download",
        ),
        ("inspect a\0b", "source 'a\\x00b': a path has no NUL in it"),
    ],
)
def test_files_that_are_none_are_named(line, expected, here, capsys):
    Path("empty.pt").touch()
    Path("empty.safetensors").touch()
    Path("half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    Path("folder").mkdir()
    Path("folder/config.json").write_text("{")
    if line.startswith("analyze ."):
        for path in (*here.glob("*.*"),):
            path.unlink()
    assert said(capsys, line).startswith(expected)


def test_a_key_within_a_flat_checkpoint_is_left_out(here, capsys):
    (torch,) = need("torch")
    torch.save({"a.weight": torch.ones(2)}, "flat.pt")
    assert said(capsys, "convert flat.pt o.safetensors --key wrong") == (
        "flat.pt: no state dict at 'wrong'; it is one itself: leave out --key"
    )
