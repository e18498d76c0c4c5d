"""What is shipped: every file of the package, every file of the project, and nothing else."""

import ast
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support import BARE, need
from tools import export, shipped

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "torch2mlx"


def files(folder):
    """Names under a folder, without what interpreters and compilers leave there."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {
        p.as_posix()
        for p in found
        if "__pycache__" not in p.parts and p.suffix not in (".so", ".o")
    }


def test_a_build_holds_every_file_of_the_package(tmp_path):
    (setuptools,) = need("setuptools")
    if BARE and int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip("bare run: its setuptools does not know the licence's form")
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_py", "--build-lib"]
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    assert files(tmp_path / "torch2mlx") == files(PACKAGE)
    assert {p.name for p in tmp_path.iterdir()} == {"torch2mlx"}


def test_every_folder_of_modules_is_a_package():
    for path in PACKAGE.rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), f"{path.parent}: give it an __init__.py"


def wheel(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*names, "torch2mlx-1.dist-info/METADATA"):
            archive.writestr(name, "")


def sdist(path, source, names):
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.add(source, f"torch2mlx-1/{name}")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project that tracks two files."""
    tracked = ["setup.py", "torch2mlx/__init__.py"]
    monkeypatch.setattr(shipped, "tracked", lambda: tracked)
    return tmp_path


def test_complete_packages_pass(project, capsys):
    wheel(project / "a.whl", ["torch2mlx/__init__.py", "torch2mlx/_core.cpython.so"])
    made = ["PKG-INFO", "setup.cfg", "torch2mlx.egg-info/SOURCES.txt"]
    sdist(project / "a.tar.gz", __file__, [*made, "setup.py", "torch2mlx/__init__.py"])
    assert shipped.main(project) == 0
    assert capsys.readouterr().out == "shipped: 2 files in the sdist, 1 in the wheel\n"


def test_what_lacks_or_should_not_be_there_is_named(project, capsys):
    wheel(project / "a.whl", ["torch2mlx/stray.py", "torch2mlx/_core.cpython.so"])
    sdist(project / "a.tar.gz", __file__, ["torch2mlx/__init__.py", "notes.txt"])
    assert shipped.main(project) == 1
    assert capsys.readouterr().out.splitlines() == [
        "the sdist lacks setup.py",
        "the sdist has notes.txt",
        "the wheel lacks torch2mlx/__init__.py",
        "the wheel has torch2mlx/stray.py",
    ]


def test_a_wheel_without_the_extension_is_refused(project):
    wheel(project / "a.whl", ["torch2mlx/__init__.py"])
    sdist(project / "a.tar.gz", __file__, ["setup.py"])
    with pytest.raises(SystemExit, match=r"a\.whl has 0 extensions"):
        shipped.main(project)


def git(folder, *words):
    identity = ("-c", "user.name=n", "-c", "user.email=e@localhost")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a kept file, a stray one, and what builds leave behind."""
    root = tmp_path / "root"
    for name in ("kept.py", "stray.py", "deleted.py", "build/x.py", ".venv/y.py", "_core.so"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(export, "ROOT", root)
    return root


def test_an_export_holds_what_git_tracks(checkout, tmp_path):
    try:
        git(checkout, "init", "-q")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    git(checkout, "add", "kept.py", "deleted.py")
    (checkout / "deleted.py").unlink()
    (checkout / "kept.py").write_text("edited")
    export.copy(tmp_path / "copy")
    assert files(tmp_path / "copy") == {"kept.py"}
    assert (tmp_path / "copy" / "kept.py").read_text() == "edited"


def test_an_export_without_git_leaves_builds_behind(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    export.copy(tmp_path / "copy")
    assert files(tmp_path / "copy") == {"kept.py", "stray.py", "deleted.py"}


#: What a bare run has, beside the project's own.
THERE = {"numpy", "pytest", "_pytest", "tests", "tools", "torch2mlx", "fuzz", "bench", "examples"}


def unguarded(tree):
    """Libraries that a module imports before `need` was asked for them."""
    asked = THERE | set(sys.stdlib_module_names)
    for node in tree.body:
        if isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Call):
            called = getattr(node.value.func, "id", getattr(node.value.func, "attr", ""))
            if called in ("need", "importorskip"):
                asked |= {a.value.partition(".")[0] for a in node.value.args}
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] not in asked)
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] not in asked:
            yield node.module


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda p: p.name)
def test_optional_libraries_are_asked_for_before_they_are_imported(path):
    assert not list(unguarded(ast.parse(path.read_text()))), "see need() in tests/support.py"


def test_an_unguarded_import_is_found():
    text = "import os, numpy\nneed('torch')\nimport torch.nn\nfrom hypothesis import given\n"
    assert list(unguarded(ast.parse(text))) == ["hypothesis"]
