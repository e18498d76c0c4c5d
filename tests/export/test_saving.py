"""A saved translation replaces an older one whole, and nothing of the user's."""

import json
import os
import stat

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "safetensors")

import mlx.core as mx
import torch

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import ConversionError, NotConvertedError, TranslationError


def translated(width):
    torch.manual_seed(width)
    model = torch.nn.Linear(width, width).eval()
    return torch2mlx.translate(model, (torch.ones(1, width),))


@pytest.fixture(scope="module")
def small():
    return translated(2)


@pytest.fixture(scope="module")
def large():
    return translated(3)


def width(folder):
    """That of the model in a folder, whose source and weights must be of one translation."""
    model = torch2mlx.load(folder, trust_remote_code=True)
    size = model.weight.shape[0] if hasattr(model, "weight") else model.linear.weight.shape[0]
    assert model(mx.ones((1, size))).shape == (1, size)
    return size


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_new_translation_replaces_an_old_one_and_keeps_what_is_beside(small, large, tmp_path):
    folder = small.save(tmp_path / "out")
    (folder / "notes").mkdir()
    (folder / "notes" / "x").write_text("mine")
    folder.chmod(0o700)
    (folder / "weights.safetensors").chmod(0o600)
    large.save(folder)
    assert width(folder) == 3
    assert (folder / "notes" / "x").read_text() == "mine"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "weights.safetensors").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("failure", [RuntimeError("no space"), OSError(28, "No space left")])
def test_a_failure_leaves_the_old_translation(failure, small, large, tmp_path, monkeypatch):
    folder = small.save(tmp_path / "out")
    before = content(tmp_path)

    def full(*_, **__):
        raise failure

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(TranslationError, match=r"cannot be written: .*(no space|No space)"):
        large.save(folder)
    assert content(tmp_path) == before
    with pytest.raises(TranslationError):
        large.save(tmp_path / "new")
    assert content(tmp_path) == before and not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["rename", "fsync", "link", "mkdir", "unlink", "fchmod"])
def test_an_interrupt_leaves_one_translation(name, small, large, tmp_path, monkeypatch):
    real = getattr(os, name)
    for at in range(12):
        folder = tmp_path / str(at) / "out"
        small.save(folder)
        (folder / "mine").write_text("mine")
        calls = iter(range(1000))

        def stopping(*args, at=at, calls=calls, **options):
            if next(calls) == at:
                raise KeyboardInterrupt
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, stopping)
            try:
                large.save(folder)
                said = "done"
            except KeyboardInterrupt as stop:
                said = str(stop)
        assert width(folder) == (3 if said == "done" or "completely" in said else 2)
        assert (folder / "mine").read_text() == "mine"
        large.save(folder)
        assert [p.name for p in folder.parent.iterdir()] == ["out"]


def edit_source(folder):
    path = folder / "model.py"
    path.write_text(path.read_text() + "# mine\n")
    return path


def train(folder):
    path = folder / "weights.safetensors"
    mx.save_safetensors(str(path), {k: v + 1 for k, v in mx.load(str(path)).items()})
    return path


def another_config(folder):
    path = folder / "config.json"
    path.write_text('{"model_type": "mine"}')
    return path


@pytest.mark.parametrize("change", [edit_source, train, another_config])
def test_what_was_changed_since_is_the_users(change, small, large, tmp_path):
    folder = small.save(tmp_path / "out")
    changed = change(folder)
    before = content(tmp_path)
    with pytest.raises(TranslationError, match=f"{changed.name}.*not written by torch2mlx"):
        large.save(folder)
    assert content(tmp_path) == before
    large.save(folder, force=True)
    assert width(folder) == 3


def test_constants_of_the_old_translation_go(small, tmp_path):
    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.arange(400.0).reshape(20, 20)

        def forward(self, x):
            return x @ self.table

    large = torch2mlx.translate(Holder().eval(), (torch.ones(1, 20),))
    folder = large.save(tmp_path / "out")
    assert (folder / "constants.safetensors").is_file()
    small.save(folder)
    assert not (folder / "constants.safetensors").exists()
    (folder / "constants.safetensors").write_text("mine")
    small.save(folder)
    assert (folder / "constants.safetensors").read_text() == "mine"


def test_weights_that_are_streamed_in_are_not_written_over(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = torch.nn.Linear(2, 2).eval()
    (tmp_path / "hf").mkdir()
    save_file(model.state_dict(), str(tmp_path / "hf" / "weights.safetensors"))
    made = torch2mlx.translate(model, (torch.ones(1, 2),))
    before = content(tmp_path)
    for source in (tmp_path / "hf", tmp_path / "hf" / "weights.safetensors"):
        with pytest.raises(ConversionError, match="is the source"):
            made.save(tmp_path / "hf", weights=source, force=True)
    assert content(tmp_path) == before
    folder = made.save(tmp_path / "out", weights=tmp_path / "hf")
    made.save(folder, weights=tmp_path / "hf")
    loaded = dict(mx.load(str(folder / "weights.safetensors")))
    assert any(np.array_equal(np.array(v), model.weight.detach()) for v in loaded.values())


def test_the_command_line_refuses_before_it_works(tmp_path, monkeypatch, capsys):
    (tmp_path / "made.py").write_text("def make():\n    raise AssertionError('traced')\n")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"architectures": ["X"]}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["translate", "made:make", "."]) == 1
    assert "is the current folder" in capsys.readouterr().err
    assert main(["translate", "hf", "hf", "--force"]) == 1
    assert "is the source" in capsys.readouterr().err


def test_weights_of_a_translation_go_back_with_what_they_come_from(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 2), torch.nn.BatchNorm1d(3)).eval()
    translation = torch2mlx.translate(model, (torch.ones(1, 2, 4),))
    own = translation.save(tmp_path / "own")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    converted = translation.save(tmp_path / "converted", weights=tmp_path / "state.pt")
    twin = torch2mlx.load(own, trust_remote_code=True)
    for like in (model, converted):
        for source in (twin, own / "weights.safetensors", own):
            state = torch2mlx.revert(source, like=like)
            assert list(state) == list(model.state_dict())
            assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(
        torch.equal(value, model.state_dict()[key])
        for key, value in torch2mlx.revert(converted).items()
    )
    for call in (lambda: torch2mlx.revert(own), lambda: torch2mlx.to_torch(twin, like=own)):
        with pytest.raises(NotConvertedError, match=r"as translate wrote them.* torch module as"):
            call()


def test_double_precision_is_refused_before_it_is_saved(tmp_path):
    model = torch.nn.Linear(2, 2).double().eval()
    translation = torch2mlx.translate(model, (torch.ones(1, 2).double(),))
    with pytest.raises(ConversionError, match=r"'weight' is float64.*model\.float\(\)"):
        translation.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
