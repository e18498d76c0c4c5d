"""Every bad input of every verb, one by one: one clear message, its exit code, nothing lost."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli import world
from tests.support import need
from torch2mlx.cli import main
from torch2mlx.cli.parser import VERBS, parsed
from torch2mlx.errors import Torch2MLXError


@dataclass(frozen=True)
class Bad:
    """A bad command line, its exit code, and how its answer begins."""

    line: str
    code: int
    told: str
    needs: tuple[str, ...]


def _rows():
    needs, line = (), ""
    for text in Path(__file__).with_name("bad_lines.txt").read_text().splitlines()[3:]:
        head, _, rest = text.partition(" ")
        if head == "needs":
            needs = tuple(rest.split())
        elif head == "$":
            line = rest
        elif head:
            yield Bad(line, int(head), rest, needs)


ROWS = list(_rows())


def content(folder):
    """All files with their bytes, and all folders."""
    found = {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}
    return {name: raw for name, raw in found.items() if "__pycache__" not in name}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of the world, current while the tests of this file run."""
    folder = tmp_path_factory.mktemp("world")
    path, modules = list(sys.path), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        world.build(folder)
        yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def here(place, monkeypatch):
    """The same; the test fails if it is not what it was afterwards."""
    # other tests of the process may have imported a module of this name from elsewhere
    if str(place) not in str(getattr(sys.modules.get("nets"), "__file__", place)):
        monkeypatch.delitem(sys.modules, "nets")
    before = content(place)
    yield place
    assert content(place) == before


def test_the_table_covers_every_verb():
    lines = [row.line for row in ROWS]
    assert len(lines) >= 158 and len(set(lines)) == len(lines)
    assert {verb.name for verb in VERBS} <= {line.split()[0] for line in lines}


@pytest.mark.parametrize("row", ROWS, ids=[row.line for row in ROWS])
def test_a_bad_line_is_answered_in_one_message(row, here, capsys):
    need(*row.needs)
    if row.code == 2:
        with pytest.raises(SystemExit) as caught:
            main(shlex.split(row.line))
        assert caught.value.code == 2
        error = capsys.readouterr().err.splitlines()
        assert error[0].startswith("usage: torch2mlx") and "error: " in error[-1]
        assert error[-1].partition("error: ")[2].startswith(row.told)
        return
    assert main(shlex.split(row.line)) == 1
    error = capsys.readouterr().err
    told = row.told.replace("{here}", str(here))
    assert error.startswith(f"torch2mlx: {told}")
    assert "Traceback" not in error and "Errno" not in error and ".t2m-tmp" not in error


def in_python(line):
    """What a program would write for a command line about weights or scripts."""
    import torch2mlx
    from torch2mlx.porter import port, port_folder, write

    args = parsed(shlex.split(line))
    if args.command == "convert":
        names = ("key", "prefix", "dtype", "shard_size", "threads")
        options = {name: getattr(args, name) for name in names}
        torch2mlx.convert(args.source, args.out, rules=dict(args.rule or ()) or None, **options)
    elif args.command == "inspect":
        torch2mlx.inspect(args.source, key=args.key)
    elif args.command == "revert":
        torch2mlx.revert(args.source, args.out, like=args.like)
    elif args.command == "analyze":
        torch2mlx.analyze(args.source)
    elif Path(args.source).is_dir():
        port_folder(args.source, args.out or "o")
    else:
        answers = dict(args.answer or ())
        write(port(Path(args.source), answers=answers), Path(args.out or "o.py"))


#: Refused by the command line itself, and by no function of Python.
_OWN = (
    "port x.py o.py -o p.py",
    "port left.py --check",
    "port scripts",
    "port faulty --check",
    "analyze conv.safetensors",
    "agent-files empty.safetensors",
    "mcp --root absent",
)
_MODELS = ("translate", "verify", "generate")
PYTHON = [
    row
    for row in ROWS
    if row.code == 1 and not row.line.startswith(_MODELS) and row.line not in _OWN
    if "--html" not in row.line and "--sarif" not in row.line
]


@pytest.mark.parametrize("row", PYTHON, ids=[row.line for row in PYTHON])
def test_a_bad_input_is_an_error_of_ours_in_python(row, here):
    need(*row.needs)
    with pytest.raises(Torch2MLXError) as caught:
        in_python(row.line)
    said = str(caught.value)
    assert "--" not in said.replace("--local-dir", "")
    if not row.told.startswith("--"):  # an option, which has another name
        assert said[:24].startswith(row.told.replace("{here}", str(here)).partition(" --")[0][:24])


def test_a_bad_line_is_answered_in_json_too(here, capsys):
    for row in ROWS[:80:4]:
        if row.code == 1:
            assert main([*shlex.split(row.line), "--format", "json"]) == 1
            captured = capsys.readouterr()
            shape = json.loads(captured.out)
            assert not shape["ok"] and shape["error"]["message"].startswith(row.told)
            assert captured.err == ""


def test_a_process_of_its_own_answers_the_same(here):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "torch2mlx", "convert", "half.safetensors", "o.safetensors"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("torch2mlx: half.safetensors: byte ")
    assert done.stderr.count("\n") == 1
