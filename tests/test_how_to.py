"""Every block of the how-to pages runs as it stands, in the order of the page; so do the blocks of
other pages that a reader would try first."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import need

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs" / "how-to").glob("*.md") if path.stem != "index")
#: Pages that start other processes, or run a whole language model.
SLOW = ("fixtures-and-ci", "huggingface-folder")
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


def command(line):
    """Runs a line of a shell; exit code 0 is asserted."""
    words = shlex.split(line, comments=True)
    if words[0] == "torch2mlx":
        from torch2mlx.cli import main

        words, place = (words[:-2], words[-1]) if ">" in words else (words, os.devnull)
        with open(place, "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            assert main(words[1:]) == 0, line
    else:
        assert words[0] == "pytest", f"{line}: tests run torch2mlx and pytest"
        ran = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout
        assert "skipped" not in ran.stdout


def run(kind, title, text, names):
    """Runs one block."""
    if title:
        Path(title).write_text(text)
    elif kind == "python":
        exec(compile(text, "<block>", "exec"), names)
    elif kind == "sh":
        for line in text.splitlines():
            command(line)
    elif kind == "yaml":
        import yaml

        assert yaml.safe_load(text)["jobs"]
    else:
        assert kind == "toml" and "[tool.pytest.ini_options]" in text


def walked(found, tmp_path, monkeypatch):
    """Runs blocks in an empty folder."""
    mx = need("mlx.core", "torch", "transformers", "safetensors", "yaml")[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    device, names = mx.default_device(), {"__name__": "how_to"}
    monkeypatch.setitem(sys.modules, "how_to", type(sys)("how_to"))
    try:
        for block in found:
            run(*block, names)
    finally:
        mx.set_default_device(device)
        sys.modules.pop("nets", None)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem in SLOW)) for p in PAGES],
)
def test_a_page_runs_from_its_first_block_to_its_last(path, tmp_path, monkeypatch, capsys):
    found = BLOCK.findall(path.read_text())
    assert sum(kind in ("python", "sh") for kind, *_ in found) >= 2
    assert len(found) == path.read_text().count("\n```") // 2
    walked(found, tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name, count", [("pages.md", 3), ("command-line.md", 2), ("translate.md", 1)]
)
def test_the_first_blocks_of_other_pages_run(name, count, tmp_path, monkeypatch):
    need("jinja2")
    found = BLOCK.findall((ROOT / "docs" / name).read_text())[:count]
    assert len(found) == count
    walked(found, tmp_path, monkeypatch)


def test_every_page_is_listed_and_short():
    index = (ROOT / "docs" / "how-to" / "index.md").read_text()
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == {path.name for path in PAGES}
    assert all(len(path.read_text().splitlines()) <= 100 for path in PAGES)
