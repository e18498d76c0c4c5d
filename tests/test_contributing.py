"""What CONTRIBUTING.md and the hooks call is there, and does what `./dev lint` asks for."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import need
from tools.export import tracked

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()


def hooks():
    (yaml,) = need("yaml")
    (local,) = yaml.safe_load(HOOKS)["repos"]
    assert local["repo"] == "local"
    return {hook["id"]: hook for hook in local["hooks"]}


def test_commands_and_paths_that_contributors_are_given_exist():
    dev = (ROOT / "dev").read_text()
    for verb in re.findall(r"\./dev ([a-z]+)", GUIDE):
        assert f"\n{verb})\n" in dev or verb == "help", verb
    folders = [
        text for text in re.findall(r"`([^`\s]+)`", GUIDE) if "/" in text and "*" not in text
    ]
    assert len(folders) > 10
    for name in folders:
        assert (ROOT / name).exists(), name


def test_hooks_are_tools_of_the_virtual_environment_with_pinned_versions():
    assert "http" not in HOOKS
    pins = (ROOT / "pyproject.toml").read_text()
    for hook in hooks().values():
        tool = re.fullmatch(r"\.venv/bin/([\w-]+)", hook["entry"].split()[0])[1]
        assert hook["language"] == "system" and f'"{tool}==' in pins


@pytest.mark.parametrize(
    "name, file, before, after",
    [
        ("ruff", "a.py", "import os\nimport json\n\nprint(json)\n", "import json\n\nprint(json)\n"),
        ("ruff-format", "a.py", "x = [1,2]\n", "x = [1, 2]\n"),
        ("clang-format", "a.c", "int\nf(void){return 1;}\n", "int\nf(void)\n{\n    return 1;\n}\n"),
    ],
)
def test_a_hook_mends_what_lint_would_find(name, file, before, after, tmp_path):
    tool, *options = shlex.split(hooks()[name]["entry"])
    path = Path(sys.executable).parent / Path(tool).name
    if not path.exists():
        pytest.skip(f"{path.name} is not installed beside Python")
    for settings in ("pyproject.toml", ".clang-format"):
        (tmp_path / settings).write_text((ROOT / settings).read_text())
    (tmp_path / file).write_text(before)
    command = [path, *options, file]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / file).read_text() == after


def test_the_hook_for_c_takes_the_files_that_lint_formats():
    pattern = hooks()["clang-format"]["files"]
    files = tracked()
    if files is None:
        pytest.skip("git is not installed")
    formatted = [f for f in files if f.endswith((".c", ".h"))]
    assert formatted and all(re.search(pattern, f) for f in formatted)
