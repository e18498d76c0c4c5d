"""What the processes of a comparison of trainings see of the machine."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from torch2mlx.errors import VerificationError
from torch2mlx.lockstep import children


@pytest.mark.parametrize(("side", "card"), [("torch", ""), ("mlx", "3")])
def test_nvidias_cards_are_hidden_from_torch_alone(side, card, monkeypatch, tmp_path):
    """MLX's CUDA build makes no array where it sees no card, whatever its default device."""
    seen = []

    def ran(command, **options):
        assert json.loads(command[-1])["script"] == "train.py" and command[-2] == side
        seen.append(options["env"])
        return SimpleNamespace(stderr="")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(children.subprocess, "run", ran)
    with pytest.raises(VerificationError):  # nothing was recorded
        if side == "torch":
            children.recorded_torch(Path("train.py"), [], tmp_path, 2, 9.0)
        else:
            children.recorded_mlx(Path("train.py"), [], tmp_path, {"steps": [1]}, 9.0)
    (env,) = seen
    assert env["CUDA_VISIBLE_DEVICES"] == card and env["MLX_ENABLE_TF32"] == "0"
