"""What --format json answers is what the verb schema says."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import need

torch, jsonschema = need("torch", "jsonschema")
need("safetensors", "libcst")

from safetensors.numpy import save_file

from torch2mlx.cli import main
from torch2mlx.cli.parser import VERBS

NET = """import torch


def net():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    return model, torch.randn(2, 3)
"""
TRAIN = """import torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    x = torch.randn(4, 3)
    loss = model(x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"conv.weight": np.ones((4, 3, 2, 2), "float32")}, "a.safetensors")
    Path("script.py").write_text("import torch\n\n\ndef f(x):\n    return x.repeat(2, 1)\n")
    Path("net.py").write_text(NET)
    Path("train.py").write_text(TRAIN)
    return tmp_path


def answer(capsys, *line):
    main([*line, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def fits(found, told, verb):
    jsonschema.validate(found, told["envelope"])
    assert found["ok"], found
    jsonschema.validate(found["result"], told["results"][verb])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, told["results"][verb])


LINES = {
    "convert": ("a.safetensors", "b.safetensors", "--rule", "conv=Conv2d"),
    "inspect": ("a.safetensors",),
    "revert": ("b.safetensors", "c.safetensors"),
    "analyze": ("a.safetensors", "--fail-on", "none"),
    "port": ("script.py",),
    "doctor": (),
}


def test_answers_fit_the_schemas(here, capsys):
    told = answer(capsys, "schema")["result"]
    for verb, line in LINES.items():
        fits(answer(capsys, verb, *line), told, verb)
    planned = answer(capsys, "port", "script.py", "out.py", "--dry-run")
    jsonschema.validate(planned["result"], told["dry_run"])
    jsonschema.validate(answer(capsys, "inspect", "absent"), told["envelope"])


def test_answers_of_verbs_that_run_models_fit_the_schemas(here, capsys):
    need("mlx")
    told = answer(capsys, "schema")["result"]
    fits(answer(capsys, "translate", "net.py:net", "out"), told, "translate")
    fits(answer(capsys, "verify", "net.py:net", "out", "--layers", "--gradients"), told, "verify")
    Path("other.py").write_text(NET.replace("manual_seed(0)", "manual_seed(1)"))
    found = answer(capsys, "verify", "other.py:net", "out")
    jsonschema.validate(found["result"], told["results"]["verify"])
    assert found["result"]["verdict"] == "differs"
    ported = answer(capsys, "port", "train.py", "train_mlx.py", "--verify", "--steps", "2")
    fits(ported, told, "port")
    (file,) = ported["result"]["files"]
    assert file["verified"]["ok"] and len(file["verified"]["steps"]) == 2
    jsonschema.validate(file["verified"], told["results"]["verify-training"])


def test_every_verb_with_a_result_has_its_schemas(capsys):
    told = answer(capsys, "schema")["result"]
    other = {"completion", "mcp", "agent-files", "schema"}
    assert set(told["results"]) == {verb.name for verb in VERBS} - other
    assert set(told["arguments"]) == set(told["results"])
    for one in (told["envelope"], *told["arguments"].values(), *told["results"].values()):
        jsonschema.Draft202012Validator.check_schema(one)
