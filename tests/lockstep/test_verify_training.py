"""Two training scripts run in lock-step: clean pairs agree, planted faults are named."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "safetensors")

import torch2mlx
from tests.lockstep.faults import FAULTS
from tests.lockstep.judges import PROGRAMS, Judge
from tests.lockstep.planted import judge_fault, named
from torch2mlx.cli.entry import main
from torch2mlx.errors import VerificationError

#: A slice; `python -m tests.lockstep.planted` judges all.
PLANTED = (
    "two updates",
    "step after each batch",
    "not shuffled",
    "no eval()",
    "flatten of channels last",
    "one noise for both",
    "eps of batch norm",
)
CLEAN = ("mlp", "cnn", "gan")


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return Judge(tmp_path_factory.mktemp("judged"))


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_pair_agrees_at_every_step(name, judge):
    found = judge.verdict(PROGRAMS / f"{name}_torch.py", PROGRAMS / f"{name}_mlx.py")
    assert found.ok, str(found)
    assert len(found.steps) == 5
    for step in found.steps:
        assert np.isclose(step.torch_loss, step.mlx_loss, rtol=2e-5)
        assert step.differences["gradients"] < 2e-4


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.what in PLANTED], ids=lambda f: f.what)
def test_a_planted_fault_is_the_first_cause(fault, judge, tmp_path):
    found = judge_fault(judge, fault, tmp_path)
    assert named(fault, found), str(found)
    assert not found.ok


def test_the_judged_scripts_need_mlx_alone():
    scripts = list(PROGRAMS.glob("*_mlx.py"))
    assert len(scripts) >= 10
    assert not any("torch2mlx" in path.read_text() for path in scripts)


TORCH = """
import sys
import torch

torch.manual_seed(0)
x, model = torch.randn(8, 3), torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[1]))
for _ in range(3):
    optimizer.zero_grad()
    model(x).pow(2).mean().backward()
    optimizer.step()
"""
MLX = """
import sys
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

x, model, optimizer = mx.random.normal((8, 3)), nn.Linear(3, 2), optim.SGD(float(sys.argv[1]))
for _ in range(3):
    loss, grads = nn.value_and_grad(model, lambda: mx.square(model(x)).mean())()
    optimizer.update(model, grads)
"""


@pytest.fixture
def scripts(tmp_path):
    for name, text in (("a.py", TORCH), ("b.py", MLX)):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_command_names_the_cause_in_json_and_on_the_screen(scripts, capsys):
    line = ["verify-training", str(scripts / "a.py"), str(scripts / "b.py"), "--args", "0.1"]
    assert main([*line, "--mlx-args", "0.2", "--steps", "2", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["code"] == VerificationError.code
    first = answer["result"]["causes"][0]
    assert (first["kind"], first["step"]) == ("optimizer option", 1)
    assert first["detail"] == "torch's learning rate is 0.1, MLX's 0.2"
    assert first["lines"] == ["a.py:11", "b.py:10"]


def test_scripts_that_are_not_there_or_make_no_step_are_refused(scripts):
    a, b, empty = scripts / "a.py", scripts / "b.py", scripts / "c.py"
    empty.write_text("x = 1\n")
    for pair, message in (
        ((scripts / "none.py", b), "none.py: is no Python script; give the path of a .py file"),
        ((empty, b), "c.py: no step was seen: no optimizer of torch.optim took a step"),
    ):
        with pytest.raises(VerificationError, match=message):
            torch2mlx.verify_training(*pair, args=["0.1"])
    with pytest.raises(VerificationError, match="steps is a whole number of at least 1, not 0"):
        torch2mlx.verify_training(a, b, steps=0)
    assert not Path("unwritten.safetensors").exists()
