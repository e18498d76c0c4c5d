"""What a notebook shows: results as cards, short reprs, bars, refusals in ten lines."""

import re
import sys
from html.parser import HTMLParser

import pytest

from tests.support import need

mx, torch = need("mlx.core", "torch", "libcst", "tqdm")[:2]
need("nbclient", "ipykernel", "nbformat", "safetensors")

import nbformat

import torch2mlx
from tools import notebooks
from torch2mlx.errors import MissingLibraryError, TranslationError, UnsupportedOperatorError

SCRIPT = "import torch\n\n\ndef f(x, a: torch.Tensor):\n    return x.repeat(2, 1), a.sum(dim=0)\n"


class Tags(HTMLParser):
    """Whether all tags are closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("br", "col", "colgroup"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("br", "col", "colgroup"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(result):
    """The text of a result's card, which is well formed, small, and has no script."""
    page = result._repr_html_()
    assert "<script" not in page and "http" not in page and len(page) < 40_000
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert repr(result).startswith(f"<{type(result).__name__}: ") and len(repr(result)) < 200
    assert "\n" not in repr(result)
    return tags.text


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()


def test_a_conversion_shows_its_tensors(net, tmp_path):
    report = torch2mlx.convert(net, tmp_path / "w.safetensors")
    text = shown(report)
    assert "Tensors (2)" in text and "layers.0.weight" in text and "[4, 3]" in text
    assert "layers.0.bias" in shown(torch2mlx.inspect(tmp_path / "w.safetensors"))


class Branching(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x + 1
        return x


def test_an_analysis_shows_its_findings(net):
    assert "coverage 100.0% (2 of 2 layers)" in shown(torch2mlx.analyze(net))
    text = shown(torch2mlx.analyze(Branching()))
    assert "Findings (1)" in text and "x.sum() > 0" in text


def test_a_translation_and_its_verification_show_what_was_compared(net):
    made = torch2mlx.translate(net, (torch.ones(2, 3),))
    text = shown(made)
    assert "Sequential" in text and "compared: equal" in text and "import mlx.nn as nn" in text
    text = shown(torch2mlx.verify(net, made, (torch.ones(2, 3),), sizes=[]))
    assert "equal, 1 comparison, largest difference" in text


def test_a_port_shows_both_sides_and_what_is_open():
    text = shown(torch2mlx.port(SCRIPT))
    assert "1 question" in text and "line 5: What does 'x' in 'f' hold" in text
    assert "sum(dim=0)" in text.replace("\xa0", " ") and "sum(axis=0)" in text


def test_what_a_source_holds_is_text_on_a_card():
    made = torch2mlx.port(SCRIPT + "\n\nPAGE = '<script>alert(1)</script>'\n")
    assert "<script" not in made._repr_html_()


@pytest.mark.parametrize("library", ["tqdm", "rich"])
def test_true_draws_a_bar(library, net, tmp_path, capsys, monkeypatch):
    need(library)
    if library == "rich":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    torch2mlx.convert(net, tmp_path / "w.safetensors", progress=True)
    torch2mlx.revert(tmp_path / "w.safetensors", tmp_path / "w.pt", progress=True)
    said = capsys.readouterr()
    assert "converting" in said.err + said.out and "100%" in said.err + said.out
    torch2mlx.convert(net, tmp_path / "w.safetensors", progress=False)
    assert capsys.readouterr().err == ""


def test_a_bar_wants_a_library(net, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(MissingLibraryError) as caught:
        torch2mlx.convert(net, tmp_path / "w.safetensors", progress=True)
    assert str(caught.value) == "progress=True needs rich: pip install 'torch2mlx[cli]'"
    assert not (tmp_path / "w.safetensors").exists()


class Odd(torch.nn.Module):
    def forward(self, x):
        return torch.igamma(x, x)


def test_a_refusal_is_the_line_of_the_user_and_the_message(capfd):
    with pytest.raises(UnsupportedOperatorError) as caught:
        torch2mlx.translate(Odd(), (torch.ones(2),))
    lines = caught.value._render_traceback_()
    assert lines[0].endswith("torch2mlx.translate(Odd(), (torch.ones(2),))")
    assert lines[1] == "UnsupportedOperatorError: 1 calls cannot be translated:"
    assert len(lines) == 3
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


def test_a_long_refusal_is_cut_to_ten_lines():
    lines = TranslationError("\n".join("abcdefghijklmn"))._render_traceback_()
    assert lines[0] == "TranslationError: a" and len(lines) <= 10
    assert lines[-1] == "... 6 more lines are in str() of the exception"


def outputs(notebook):
    """What the cells of a notebook showed."""
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.mark.parametrize("name", notebooks.names())
def test_notebooks_of_the_docs_are_small_and_show_what_they_gave(name):
    path = notebooks.FOLDER / f"{name}.ipynb"
    text = path.read_text()
    assert len(text) < notebooks.LARGEST
    assert not re.search(r"/tmp/|site-packages|/Users/", text)
    found = outputs(nbformat.read(path, as_version=4))
    assert found and not [o for o in found if o.output_type == "error"]
    assert f"({name}.ipynb)" in (notebooks.FOLDER / "README.md").read_text()


def test_a_notebook_of_the_docs_runs_and_shows_what_it_has():
    found = [o.get("text") for o in outputs(notebooks.kept(notebooks.executed("adapters")))]
    path = notebooks.FOLDER / "adapters.ipynb"
    assert found == [o.get("text") for o in outputs(nbformat.read(path, as_version=4))]
    assert found[-1] == "every matrix came back bit for bit\n"
