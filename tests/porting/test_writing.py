"""Ported files replace neither their source nor a file that differs, unless told to."""

import os
import stat

import pytest

from tests.support import need

need("libcst")

from torch2mlx import port, port_folder
from torch2mlx.cli import main
from torch2mlx.errors import PortError
from torch2mlx.porter import write

SCRIPT = "import torch\n\nprint(torch.ones(3))\n"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(SCRIPT)
    return path


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_the_source_is_never_replaced(force, script, capsys):
    os.link(script, script.with_name("hard.py"))
    script.with_name("soft.py").symlink_to(script)
    for name in ("x.py", "hard.py", "soft.py"):
        out = script.with_name(name)
        assert main(["port", str(script), "-o", str(out), *force]) == 1
        assert "is the source" in capsys.readouterr().err
    assert script.read_text() == SCRIPT


def test_a_file_that_differs_needs_force(script, capsys):
    out = script.with_name("y.py")
    out.write_text("# mine\n")
    out.chmod(0o600)
    assert main(["port", str(script), "-o", str(out)]) == 1
    assert "y.py: was not written by torch2mlx" in capsys.readouterr().err
    assert out.read_text() == "# mine\n"
    assert main(["port", str(script), "-o", str(out), "--force"]) == 0
    assert "mlx" in out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.stat().st_ino
    assert main(["port", str(script), "-o", str(out)]) == 0  # what it says already
    assert out.stat().st_ino == before


def test_places_that_cannot_be_written(script, tmp_path):
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop.py").symlink_to("loop.py")
    for name in ("folder.py", "pipe.py", "loop.py", "absent/x.py"):
        with pytest.raises(PortError, match=name.split("/")[0]):
            write(port(script), tmp_path / name, force=True)


def test_a_failing_write_leaves_the_old_file(script, tmp_path, monkeypatch):
    out = tmp_path / "y.py"
    out.write_text("# mine\n")
    result = port(script)

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("write", "fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(PortError, match=r"y\.py: cannot be written: No space left"):
                write(result, out, force=True)
        assert content(tmp_path) == {"x.py": SCRIPT.encode(), "y.py": b"# mine\n"}


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "inner").mkdir(parents=True)
    (root / "net.py").write_text(SCRIPT)
    (root / "inner" / "more.py").write_text(SCRIPT)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (tmp_path / "secret").write_text("a key")
    (root / "notes.txt").symlink_to("../secret")
    (root / "alias.txt").symlink_to("run.sh")
    return root


def test_a_new_folder_appears_whole_or_not_at_all(project, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        with pytest.raises(PortError, match="out: cannot be written"):
            port_folder(project, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["project", "secret"]
    port_folder(project, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert "mlx" in (out / "inner" / "more.py").read_text()
    assert os.access(out / "run.sh", os.X_OK)
    assert os.readlink(out / "notes.txt") == "../secret"  # a link still, not what it leads to
    assert (out / "alias.txt").read_text() == "#!/bin/sh\n"


def test_one_file_in_the_way_refuses_the_folder(project, tmp_path):
    out = tmp_path / "out"
    port_folder(project, out)
    (out / "own.py").write_text("# mine\n")
    port_folder(project, out)  # all the same
    (project / "net.py").write_text(SCRIPT * 2)
    (project / "a.py").write_text(SCRIPT)
    before = content(out)
    with pytest.raises(PortError, match=r"net\.py: was not written by torch2mlx"):
        port_folder(project, out)
    assert content(out) == before
    port_folder(project, out, force=True)
    assert (out / "a.py").exists() and (out / "own.py").read_text() == "# mine\n"
    assert (out / "net.py").read_text().count("print") == 2


def test_a_folder_whose_files_would_land_on_their_sources(tmp_path):
    root = tmp_path / "a"
    (root / "a").mkdir(parents=True)
    (root / "x.py").write_text(SCRIPT)
    (root / "a" / "x.py").write_text(SCRIPT)
    before = content(tmp_path)
    with pytest.raises(PortError, match="is the source"):
        port_folder(root, tmp_path, force=True)
    assert content(tmp_path) == before
