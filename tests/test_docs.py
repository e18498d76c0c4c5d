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


def test_the_example_of_adapters_runs(tmp_path, monkeypatch, capsys):
    need("safetensors.numpy")
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "adapters.md").read_text(), re.S)[1]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "adapters.md", "exec"), {})
    assert capsys.readouterr().out.strip() == code.strip().rpartition("# ")[2]


def test_the_rules_table_is_that_of_the_registry():
    need("torch", "mlx.core")
    from tools.make_docs import WEIGHTS, updated

    text = WEIGHTS.read_text()
    assert updated(text) == text, "run: python -m tools.make_docs"


def test_the_page_of_rules_is_that_of_the_core():
    need("torch", "mlx.core")
    from tools.make_docs import ANALYZER, analyzer_page

    assert ANALYZER.read_text() == analyzer_page(), "run: python -m tools.make_docs"


@pytest.mark.filterwarnings("ignore")  # torch deprecates some of the calls that are tried
def test_the_page_of_operators_is_that_of_the_mapping():
    need("torch", "mlx.core")
    from tools.make_docs import OPERATORS, operators_page

    assert OPERATORS.read_text() == operators_page(), "run: python -m tools.make_docs"


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))
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


@pytest.mark.filterwarnings("ignore")  # torch's remarks on options that the grid tries
def test_the_support_matrix_is_that_of_the_grid():
    """Layers, twins, layouts and numbers of cases; the grid's tests measure the figures anew."""
    need("torch", "mlx.core")
    from tests.catalog.test_grid import FAMILIES
    from tools.make_matrix import MATRIX, functions, refusals
    from torch2mlx.catalog.layers import find_twin

    layers, heading, rest = MATRIX.read_text().partition("\n## Functions\n")
    assert heading + rest == functions(), "run: python -m tools.make_matrix"
    told = {}
    for line in layers.splitlines():
        if line.startswith("| `"):
            name, twins, layout, cases = (cell.strip() for cell in line.split("|")[1:5])
            told[name.strip("`")] = (set(twins.replace("`", "").split(", ")), layout, int(cases))
    found = {}
    for case in (case for cases in FAMILIES.values() for case in cases):
        twin = find_twin(case.make())
        name = case.name.split("(")[0]
        twins, _, count = found.get(name, (set(), "", 0))
        path = twin.path.replace("torch2mlx.kit", "kit")
        found[name] = (twins | {path}, twin.layout, count + len(case.modes))
    assert told == found, "run: python -m tools.make_matrix"
    assert all(line in MATRIX.read_text() for line in refusals())
