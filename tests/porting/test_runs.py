"""`port --run`: what a run of the script shows of its names answers what the source leaves open."""

import json

import pytest

from tests.support import need

need("torch", "libcst")

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import PortError

SCRIPT = """\
import sys
import numpy as np
import torch
import torch.nn as nn

KINDS = {"line": nn.Linear, "loss": nn.MSELoss}


def made(kind, *sizes):
    return KINDS[kind](*sizes)


def doubled(value):
    return value.repeat(2)


def both(value):
    return value.repeat(2)


def train(net, measure, rows, optimizer):
    for row in rows:
        x = row["x"]
        optimizer.zero_grad()
        loss = measure(net(x.repeat(2, 1)), row["y"])
        loss.backward()
        optimizer.step()
        with open("losses.txt", "a") as file:
            file.write(f"{loss.item()}\\n")
    raise ValueError("this is never reached")


if __name__ == "__main__":
    count = int(sys.argv[1])
    mine = globals()
    print(mine["doubled"](np.arange(3)), mine["both"](np.arange(3)), mine["both"](torch.arange(3)))
    rows = eval("[{'x': torch.randn(2, 3), 'y': torch.zeros(4, 1)}] * count")
    net = made("line", 3, 1)
    mine["train"](net, made("loss"), rows, torch.optim.SGD(net.parameters(), lr=0.1))
"""


@pytest.fixture
def script(tmp_path):
    place = tmp_path / "train.py"
    place.write_text(SCRIPT)
    return place


def test_without_a_run_it_is_asked(script):
    result = torch2mlx.port(script)
    asked = {q.id: q.choices for q in result.questions}
    arrays = ("tensor", "numpy", "other")
    assert asked == {
        "doubled.value": arrays,
        "both.value": arrays,
        "train.x": arrays,
        "train.net": ("module", "other"),
        "train.measure": ("module", "other"),
    }
    assert result.seen == () and not list(script.parent.glob("losses*"))
    told = {"train.x": "tensor", "train.net": "module", "train.measure": "other"}
    answered = torch2mlx.port(script, answers=told)
    assert [q.id for q in answered.questions] == ["doubled.value", "both.value"]
    assert "nn.value_and_grad(net, loss_fn)()" in answered.source
    assert "mx.tile(x, (2, 1))" in answered.source


@pytest.mark.slow
def test_a_run_answers_what_it_saw_and_leaves_what_was_several_things(script, capsys, tmp_path):
    out = tmp_path / "out.py"
    assert main(["port", str(script), str(out), "--run", "9", "--format", "json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["result"]["files"]
    assert {seen["id"]: seen["kind"] for seen in file["seen"]} == {
        "doubled.value": "numpy",
        "train.x": "tensor",
        "train.net": "module",
        "train.measure": "other",
    }
    assert [question["id"] for question in file["questions"]] == ["both.value"]
    text = out.read_text()
    assert "return value.repeat(2)" in text and "nn.value_and_grad(net, loss_fn)()" in text
    assert not list(tmp_path.glob("losses*"))  # it ran in a copy


@pytest.mark.slow
def test_a_run_that_fails_at_once_is_an_error(script):
    with pytest.raises(PortError, match="its run failed: IndexError"):
        torch2mlx.port(script, run=[])


def test_the_report_says_what_rests_on_a_run(script):
    from dataclasses import replace

    from torch2mlx.porting.questions import Seen

    result = replace(torch2mlx.port(script), seen=(Seen("train.x", 24, "tensor"),))
    told = "- line 24: train.x is taken for tensor, which it was in the run\n"
    assert f"## Resting on a run\n\n{told}" in result.report


def test_folders_and_text_are_not_run(script, tmp_path):
    with pytest.raises(PortError, match=r"is no \.py file"):
        torch2mlx.port(SCRIPT, run=[])
    assert main(["port", str(tmp_path), str(tmp_path.parent / "o"), "--run", "3"]) != 0
