"""`port --verify`: the script and its port are run, compared step by step, and shown as a table."""

import json
from dataclasses import replace

import pytest

from tests.support import need

need("torch", "mlx.core", "safetensors", "libcst")

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import PortError
from torch2mlx.port_verifier import verified

NET = """\
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.fc(x))
"""
TRAIN = """\
import sys

import torch
import torch.nn.functional as F

from net import Net

open("ran.txt", "a").write(" ".join(sys.argv[1:]) + "\\n")
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(4):
    x, y = torch.randn(8, 5), torch.randint(0, 3, (8,))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
"""
#: The gradient is taken where no optimizer is seen: its step is refused.
REFUSED = """\
import torch


def learn(loss):
    loss.backward()


model = torch.nn.Linear(2, 1)
for _ in range(3):
    learn(model(torch.ones(1, 2)).sum())
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "net.py").write_text(NET)
    (tmp_path / "src" / "train.py").write_text(TRAIN)
    return tmp_path


def test_a_port_is_run_among_ports_of_what_it_imports_and_shown_as_a_table(here, capsys):
    line = ["port", "src/train.py", "out.py", "--verify", "--steps", "3", "--args=--a 'b c'"]
    assert main(line) == 0
    written, head, *rows, note, verdict = capsys.readouterr().out.splitlines()
    assert written == "written: out.py"
    kinds = ["batch", "outputs", "losses", "gradients", "slots", "updates", "buffers"]
    assert head.split() == ["step", "optimizer", "torch", "loss", "MLX", "loss", *kinds]
    assert [row.split()[:2] for row in rows] == [["1", "SGD"], ["2", "SGD"], ["3", "SGD"]]
    for row in rows:
        _, _, theirs, ours, *apart = row.split()
        assert float(theirs) == pytest.approx(float(ours), rel=1e-5)
        assert all(float(number) < 1e-3 for number in apart)
    assert note == "note: compared among ports of net.py: port the folder"
    assert verdict == "the two scripts train alike"
    assert set((here / "ran.txt").read_text().splitlines()) == {"--a b c"}
    assert torch2mlx.port("src/train.py").source == (here / "out.py").read_text()


def test_a_folder_runs_the_script_that_is_named_and_answers_as_json(here, capsys):
    line = ["port", "src", "out", "--verify", "--script", "train.py", "--steps=2", "--json"]
    assert main(line) == 0
    files = json.loads(capsys.readouterr().out)["result"]["files"]
    found = {file["path"]: file["verified"] for file in files}
    assert found["src/net.py"] is None
    assert found["src/train.py"]["ok"] and len(found["src/train.py"]["steps"]) == 2


def test_a_port_that_trains_otherwise_fails_and_says_where(here, monkeypatch, capsys):
    made = torch2mlx.port(here / "src" / "train.py")
    wrong = replace(made, source=made.source.replace("momentum=0.9", "momentum=0.8"))
    assert wrong != made
    found = verified(wrong, {"steps": 2})
    assert found.first.kind == "optimizer option"
    monkeypatch.setattr("torch2mlx.port_verifier.verified", lambda *_: found)
    assert main(["port", "src/train.py", "out.py", "--verify"]) == 1
    told = capsys.readouterr()
    assert "the two part: before the first step: optimizer option" in told.out
    assert "the port trains otherwise: before the first step: optimizer option" in told.err


def test_in_python_the_result_holds_the_comparison(here):
    result = torch2mlx.port("src/train.py", verify={"steps": 2})
    assert result.verified.ok and len(result.verified.steps) == 2
    assert torch2mlx.port("src/train.py").verified is None


def test_what_cannot_be_followed_is_refused_before_it_runs(here):
    (here / "left.py").write_text(REFUSED)
    with pytest.raises(PortError, match=r"^left.py:5: the training step was not ported: "):
        torch2mlx.port("left.py", verify=True)
    with pytest.raises(PortError, match=r"^src/net.py: trains nothing: neither it nor a file"):
        torch2mlx.port("src/net.py", verify=True)
    with pytest.raises(PortError, match=r"^<source>: is run to verify its port, and is no .py"):
        torch2mlx.port(TRAIN, verify=True)
    assert not (here / "ran.txt").exists()


BAD = [
    (["src/train.py", "--steps", "3"], "--steps: says how to verify; give --verify too"),
    (["src/train.py", "o.py", "--verify", "--dry-run"], "--verify: runs the script, which"),
    (["src", "o", "--verify"], "src: is a folder; say what to run: --script FILE"),
    (["src", "o", "--verify", "--script", "../t.py"], "--script ../t.py: is no .py file in src"),
    (["src/train.py", "--verify", "--script", "a.py"], "--script: names a file of a folder"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_options_that_do_not_go_together_are_refused(here, line, message, capsys):
    assert main(["port", *line]) == 1
    assert message in capsys.readouterr().err
    assert not (here / "ran.txt").exists()
