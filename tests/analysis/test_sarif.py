"""SARIF: files from the root of the repository on, help for every rule."""

import subprocess
import sys
from pathlib import Path

from tests.support import need

need("torch")

from tests.analysis.branches import HelperFunction
from tests.analysis.models import Branch
from torch2mlx import analyze
from torch2mlx.report.sarif import as_sarif, repository

ROOT = Path(__file__).parent.parent.parent


def place(sarif):
    (result,) = sarif["runs"][0]["results"]
    return result["locations"][0]["physicalLocation"]["artifactLocation"]


def test_files_are_named_from_the_root_on(tmp_path):
    report = analyze(Branch())
    inside = place(as_sarif(report, "1", ROOT))
    assert inside == {"uri": "tests/analysis/models.py", "uriBaseId": "%SRCROOT%"}
    assert (ROOT / inside["uri"]).is_file()
    outside = place(as_sarif(report, "1", tmp_path))
    assert outside == {"uri": (ROOT / "tests/analysis/models.py").as_uri()}


def test_the_root_is_the_repository_of_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert repository(Path.cwd()) == tmp_path
    bases = as_sarif(analyze(Branch()), "1")["runs"][0]["originalUriBaseIds"]
    assert bases == {"%SRCROOT%": {"uri": f"{tmp_path.as_uri()}/"}}


def test_every_rule_has_help_and_every_result_its_rule():
    run = as_sarif(analyze(HelperFunction()), "1", ROOT)["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["help"]["text"] and rule["help"]["markdown"]
        assert rule["helpUri"].startswith("https://") and rule["shortDescription"]["text"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_paths_with_spaces_are_quoted(tmp_path):
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x if x.sum() > 0 else -x\n"
    )
    code = (
        "import sys, json; sys.path.insert(0, 'my models'); import net, torch2mlx;"
        "from torch2mlx.report.sarif import as_sarif;"
        "print(json.dumps(as_sarif(torch2mlx.analyze(net.Net()), '1')))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert '"uri": "my%20models/net.py"' in ran.stdout
