"""What the documents say is what the code does."""

import re
from pathlib import Path

import pytest

from tests.support import close, need

ROOT = Path(__file__).parent.parent


def test_the_readme_example_runs_and_computes_what_torch_computes(tmp_path, monkeypatch):
    torch, mx = need("torch", "mlx.core")
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    image = torch.randn(1, 3, 9, 9)
    found = names["twin"].eval()(mx.array(image.permute(0, 2, 3, 1).numpy()))
    expected = names["model"].eval()(image).detach().permute(0, 2, 3, 1)
    close(found, expected)


def test_the_rules_table_is_that_of_the_registry():
    from tools.make_docs import WEIGHTS, updated

    text = WEIGHTS.read_text()
    assert updated(text) == text, "run: python -m tools.make_docs"


@pytest.mark.parametrize("path", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]))
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_version_is_told_once():
    import torch2mlx
    from torch2mlx.converter import WRITER

    told = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert told == WRITER
    assert torch2mlx.__version__ in (told, "0+unknown")
    assert f"## {told}" in (ROOT / "CHANGELOG.md").read_text()


def test_named_limits_exist():
    found = " ".join(p.read_text() for p in (ROOT / "csrc").rglob("*.[ch]"))
    for name in re.findall(r"`(T2M_\w+)`", (ROOT / "docs" / "security.md").read_text()):
        assert re.search(rf"#define {name}\b", found), name
