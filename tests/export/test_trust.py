"""A folder's program runs where its user's own translate wrote it, or where somebody vouches."""

import os
import py_compile
import stat
import subprocess
import sys

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core")

import mlx.core as mx
import torch

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.common import trust
from torch2mlx.common.options import command_line
from torch2mlx.errors import TranslationError, UntrustedCodeError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).eval()


@pytest.fixture(scope="module")
def translation(model):
    return torch2mlx.translate(model, (torch.ones(2, 3),))


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "torch2mlx" / "translations"


@pytest.fixture
def folder(translation, state, tmp_path):
    return translation.save(tmp_path / "out")


def forget(state):
    for path in state.iterdir():
        path.unlink()


def test_what_was_saved_loads_in_this_process_and_in_another(folder, model):
    x = np.ones((1, 3), np.float32)
    expected = model(torch.from_numpy(x)).detach().numpy()
    assert np.abs(np.array(torch2mlx.load(folder)(mx.array(x))) - expected).max() < 1e-6
    code = f"import torch2mlx; torch2mlx.load({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_may_move(folder, tmp_path):
    folder.rename(tmp_path / "elsewhere")
    torch2mlx.load(tmp_path / "elsewhere")


def test_a_strangers_program_needs_a_word_and_does_not_run_without(folder, state, model, capsys):
    (folder / "model.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    x = (torch.ones(2, 3),)
    for call in (
        lambda: torch2mlx.load(folder),
        lambda: torch2mlx.verify(model, folder, x),
        lambda: torch2mlx.verify(model, str(folder), x),
    ):
        with pytest.raises(UntrustedCodeError, match=r"model\.py.*trust_remote_code=True"):
            call()
    with command_line(), pytest.raises(UntrustedCodeError, match=r"pass --trust-remote-code$"):
        torch2mlx.load(folder)
    assert not (folder / "ran").exists()


def test_somebody_may_vouch(folder, state, model):
    forget(state)
    with pytest.raises(UntrustedCodeError):
        torch2mlx.load(folder)
    torch2mlx.load(folder, trust_remote_code=True)
    assert torch2mlx.verify(model, folder, (torch.ones(2, 3),), trust_remote_code=True).ok
    assert not list(state.iterdir())  # vouching once is not vouching for ever


@pytest.mark.parametrize("name", ["model.py", "other.py"])
def test_an_edited_folder_needs_a_word_again(folder, name):
    with (folder / name).open("a") as file:
        file.write("# changed\n")
    with pytest.raises(UntrustedCodeError, match="changed since"):
        torch2mlx.load(folder)


def test_a_compiled_program_beside_the_source_is_not_run(folder, tmp_path):
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    cached = folder / "__pycache__" / f"model.{sys.implementation.cache_tag}.pyc"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(evil), str(cached), invalidation_mode=mode)
    torch2mlx.load(folder)
    assert not (tmp_path / "ran").exists()


def test_digests_are_private_outside_of_the_folder_and_bounded(translation, state, tmp_path):
    state.mkdir(parents=True)
    for i in range(trust.MAX_KEPT + 5):
        (state / f"old{i}").touch()
        os.utime(state / f"old{i}", (i, i))
    folder = translation.save(tmp_path / "out")
    assert len(list(state.iterdir())) == trust.MAX_KEPT
    assert not (state / "old0").exists() and (state / f"old{trust.MAX_KEPT}").exists()
    (mine,) = [p for p in state.iterdir() if not p.name.startswith("old")]
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600 and mine.read_bytes() == b""
    torch2mlx.load(folder)


def test_where_nothing_can_be_noted_saving_works_and_says_so(translation, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="trust_remote_code=True"):
        folder = translation.save(tmp_path / "out")
    with pytest.raises(UntrustedCodeError):
        torch2mlx.load(folder)


@pytest.mark.parametrize(
    ("given", "platform", "expected"),
    [
        ("/state", "linux", "/state/torch2mlx/translations"),
        ("relative", "linux", "{home}/.local/state/torch2mlx/translations"),
        ("", "linux", "{home}/.local/state/torch2mlx/translations"),
        ("", "darwin", "{home}/Library/Application Support/torch2mlx/translations"),
    ],
)
def test_the_state_folder_is_the_systems(given, platform, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert str(trust.state_folder()) == expected.format(home=tmp_path)


def test_the_command_line_asks_for_its_flag(folder, state, tmp_path, monkeypatch, capsys):
    (tmp_path / "vouched.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Linear(3, 2).eval(), (torch.ones(2, 3),)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    forget(state)
    assert main(["verify", "vouched:make", str(folder)]) == 1
    assert "pass --trust-remote-code" in capsys.readouterr().err
    assert main(["verify", "vouched:make", str(folder), "--trust-remote-code"]) == 0


def test_a_folder_that_no_translate_wrote_says_what_is_wrong(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(TranslationError, match=r"weights\.safetensors is missing"):
        torch2mlx.load(folder)
    (folder / "model.py").write_text("x = 1\n")
    with pytest.raises(TranslationError, match="has no function load"):
        torch2mlx.load(folder, trust_remote_code=True)
    (folder / "model.py").write_text("def load(:\n")
    with pytest.raises(TranslationError, match=r"model\.py: line 1: invalid syntax"):
        torch2mlx.load(folder, trust_remote_code=True)
    (folder / "model.py").unlink()
    with pytest.raises(TranslationError, match=r"no model\.py"):
        torch2mlx.load(folder)
