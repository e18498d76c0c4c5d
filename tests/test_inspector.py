"""`inspect` of files that hold several state dicts: all are listed, and how to choose one."""

import numpy as np
import pytest

from tests.support import need

need("torch")

import torch

from torch2mlx import inspect
from torch2mlx.checkpoint.source import opening as checkpoint
from torch2mlx.cli import main
from torch2mlx.errors import AmbiguousCheckpointError
from torch2mlx.inspector import MOST

READ = checkpoint.read_torch
MODEL = {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}
EMA = {"a.weight": torch.ones(2, 3, dtype=torch.float16), "a.bias": torch.ones(2)}
SAVED = {"model": MODEL, "ema": EMA, "epoch": 3}
KEYS = ["model.a.weight", "model.a.bias", "ema.a.weight", "ema.a.bias"]


def test_a_file_is_read_once_for_the_choice_and_once_for_all_its_state_dicts(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(checkpoint, "read_torch", lambda path: read.append(path) or READ(path))
    torch.save({f"part{i}": dict(MODEL) for i in range(8)}, tmp_path / "many.pt")
    assert len(inspect(tmp_path / "many.pt").state_dicts) == 8
    assert len(read) == 2


def test_all_state_dicts_of_a_file_are_listed(tmp_path):
    torch.save(SAVED, tmp_path / "two.pt")
    found = inspect(tmp_path / "two.pt")
    assert [t.key for t in found.tensors] == KEYS
    assert [t.dtype for t in found.tensors] == ["float32", "float32", "float16", "float32"]
    assert found.state_dicts == ("model", "ema") and found.nbytes == 24 + 8 + 12 + 8
    assert found.to_dict()["state_dicts"] == ("model", "ema")
    head, *rows = str(found).splitlines()
    assert head == (
        f"{tmp_path / 'two.pt'}: torch layout, 4 tensors (3 float32, 1 float16), 52 bytes; "
        "2 state dicts: convert takes one of key='model', key='ema'"
    )
    assert len(rows) == 4 and rows[2].split() == ["ema.a.weight", "float16", "[2,", "3]"]


def test_a_key_chooses_and_a_dict_is_as_good_as_a_file(tmp_path):
    torch.save(SAVED, tmp_path / "two.pt")
    one = inspect(tmp_path / "two.pt", key="ema")
    assert [t.key for t in one.tensors] == ["a.weight", "a.bias"] and not one.state_dicts
    assert [t.key for t in inspect(SAVED).tensors] == KEYS
    with pytest.raises(AmbiguousCheckpointError, match="no state dict at 'none'"):
        inspect(tmp_path / "two.pt", key="none")


def test_the_command_line_names_its_own_option(tmp_path, capsys):
    torch.save(SAVED, tmp_path / "two.pt")
    assert main(["inspect", str(tmp_path / "two.pt")]) == 0
    assert "2 state dicts: convert takes one of --key model, --key ema" in capsys.readouterr().out


def test_of_very_many_the_first_are_listed():
    many = {f"s{i}": {"w": np.ones((2, 2), np.float32)} for i in range(MOST + 5)}
    found = inspect(many)
    assert len(found.tensors) == MOST and len(found.state_dicts) == MOST + 5
    assert "key='s19' and 5 more, which are not listed" in str(found)
