"""The documentation site: what its check finds, what becomes of links, that no page is left out."""

import re
from pathlib import Path
from types import SimpleNamespace

from tools.site import faults
from tools.site_hooks import on_page_markdown

ROOT = Path(__file__).parent.parent


def test_links_that_lead_nowhere_and_what_is_loaded_from_elsewhere_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h2 id="part">x</h2><a href="../index.html">y</a>')
    (tmp_path / "index.html").write_text(
        '<a href="a/">1</a><a href="a/#part">2</a><a href="a/#none">3</a><a href="b/">4</a>'
        '<a href="https://elsewhere.example/x">5</a><a href="../out.html">6</a><a href="#">7</a>'
        '<script src="https://elsewhere.example/s.js"></script><img src="none.png">'
    )
    assert list(faults(tmp_path)) == [
        "index.html: loads https://elsewhere.example/s.js",
        "index.html: a/#none has no such anchor",
        "index.html: b/ leads nowhere",
        "index.html: ../out.html leads nowhere",
        "index.html: none.png leads nowhere",
    ]


def test_links_that_leave_the_documents_become_paths(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="how-to/x.md"))
    text = "[a](../weights.md#b), [c](../../CHANGELOG.md), [`tests/trm`](../../tests/trm), "
    text += "[g](../gallery), [weights.md](../weights.md#types)"
    assert on_page_markdown(text, page) == (
        "[a](../weights.md#b), c (`CHANGELOG.md`), `tests/trm`, [g](../gallery/README.md), "
        "[What happens to each layer's weights](../weights.md#types)"
    )


def test_every_document_is_in_the_navigation():
    told = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    docs = ROOT / "docs"
    assert told == {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}


def test_the_reference_names_what_is_there():
    from importlib import import_module

    names = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/reference/python.md").read_text(), re.M)
    assert len(names) > 25
    for name in names:
        file = ROOT / (name.replace(".", "/") + "/__init__.py")
        if not file.exists():
            module, _, attribute = name.rpartition(".")
            assert hasattr(import_module(module), attribute), name
    import torch2mlx

    told = {name.rpartition(".")[2] for name in names}
    assert set(torch2mlx.__all__) - told == {"__version__", "errors", "registry"}
