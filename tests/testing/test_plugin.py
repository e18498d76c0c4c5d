"""The pytest plugin, as other projects meet it: runs of pytest on small projects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import BARE

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent.parent
NEEDS = pytest.mark.skipif(BARE, reason="bare run: torch and mlx are not part of it")
PLUGIN = ("-p", "torch2mlx.testing.plugin", "-q", "-p", "no:cacheprovider")


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder for tests, and pytest with this plugin alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def test_starting_pytest_imports_no_framework(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_nothing_is_there():\n"
        "    assert not {'torch', 'mlx', 'numpy', 'libcst', 'torch2mlx._core'} & set(sys.modules)\n"
    )
    given = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-W", "error"]
    ran = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_uses_no_fixture_does_not_notice_that_torch_is_missing(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    project.makepyfile(
        """
        def test_plain():
            assert True
        def test_twin(mlx_twin):
            assert False
        def test_translates(assert_translates):
            assert False
        def test_converts(assert_converts):
            assert False
        def test_generates(assert_generates):
            assert False
        def test_trains(assert_same_training):
            assert False
        """
    )
    ran = project.runpytest_inprocess(*PLUGIN, "-rs")
    ran.assert_outcomes(passed=1, skipped=5)
    named = ("mlx_twin", *(f"assert_{n}" for n in ("translates", "converts", "generates")))
    for fixture in (*named, "assert_same_training"):
        # and mlx, where that is missing too
        asked = "needs *torch*: pip install 'torch2mlx[[]torch*'*"
        ran.stdout.fnmatch_lines([f"*{fixture} {asked}"])


@NEEDS
def test_a_script_and_its_port_are_compared_by_a_fixture(project):
    project.makepyfile(
        train="""
        import torch
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.5)
        w.square().sum().backward()
        optimizer.step()
        """,
        test_train="""
        def test_trains(assert_same_training):
            assert assert_same_training("train.py", steps=1).steps[0].torch_loss == 2
        """,
    )
    project.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


def test_a_fixture_of_the_projects_own_wins(project):
    project.makepyfile(
        """
        import pytest
        @pytest.fixture
        def mlx_twin():
            return "mine"
        def test_twin(mlx_twin):
            assert mlx_twin == "mine"
        """
    )
    project.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_tolerance_that_is_none_is_refused_where_it_is_used(project, text):
    project.makeini(f"[pytest]\ntorch2mlx_tolerance = {text}\n")
    project.makepyfile(
        "def test_plain():\n    assert True\ndef test_it(torch2mlx_tolerance):\n    assert True\n"
    )
    ran = project.runpytest_inprocess(*PLUGIN)
    ran.assert_outcomes(passed=1, errors=1)
    ran.stdout.fnmatch_lines([f"*torch2mlx_tolerance is a number such as 1e-4, not '{text}'*"])


def test_the_tolerance_is_none_unless_the_ini_file_or_a_fixture_says(project):
    body = "def test_it(torch2mlx_tolerance):\n    assert torch2mlx_tolerance == {}\n"
    project.makepyfile(test_none=body.format(None))
    project.runpytest_inprocess(*PLUGIN, "test_none.py").assert_outcomes(passed=1)
    project.makeini("[pytest]\ntorch2mlx_tolerance = 1e-3\n")
    project.makepyfile(test_ini=body.format("1e-3"))
    project.runpytest_inprocess(*PLUGIN, "test_ini.py").assert_outcomes(passed=1)
    fixture = "import pytest\n@pytest.fixture\ndef torch2mlx_tolerance():\n    return 2.0\n"
    project.makepyfile(test_own=fixture + body.format(2.0))
    project.runpytest_inprocess(*PLUGIN, "test_own.py").assert_outcomes(passed=1)


@NEEDS
@pytest.mark.filterwarnings("default")
def test_the_fixtures_assert_what_the_functions_do_with_the_tolerance_of_the_ini_file(project):
    project.makeini("[pytest]\ntorch2mlx_tolerance = 0.0\n")
    project.makepyfile(
        """
        import torch

        def made():
            torch.manual_seed(0)
            return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU()).eval()

        def test_off(assert_translates):
            assert_translates(made(), (torch.randn(9, 64),))

        def test_within(assert_translates):
            assert_translates(made(), (torch.randn(9, 64),), tolerance=1e-3)

        def test_twin(mlx_twin):
            assert mlx_twin(made(), (torch.randn(9, 64),)).layers

        def test_weights(assert_converts, tmp_path):
            assert set(assert_converts(made())) == {"layers.0.weight", "layers.0.bias"}
            assert (tmp_path / "weights.safetensors").exists()
        """
    )
    ran = project.runpytest_inprocess(*PLUGIN)
    ran.assert_outcomes(passed=3, failed=1)
    ran.stdout.fnmatch_lines(
        [
            "*Sequential and its translation differ in 1 of 1 outputs:",
            "*output*shape*dtype*difference*allowed*",
            "*(9, 64)*float32*0.0e+00*<- *",
        ]
    )
