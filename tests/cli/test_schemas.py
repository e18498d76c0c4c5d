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


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"conv.weight": np.ones((4, 3, 2, 2), "float32")}, "a.safetensors")
    Path("script.py").write_text("import torch\n\n\ndef f(x):\n    return x.repeat(2, 1)\n")
    return tmp_path


def answer(capsys, *line):
    main([*line, "--format", "json"])
    return json.loads(capsys.readouterr().out)


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
        found = answer(capsys, verb, *line)
        jsonschema.validate(found, told["envelope"])
        assert found["ok"], found
        jsonschema.validate(found["result"], told["results"][verb])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({}, told["results"][verb])
    planned = answer(capsys, "port", "script.py", "out.py", "--dry-run")
    jsonschema.validate(planned["result"], told["dry_run"])
    jsonschema.validate(answer(capsys, "inspect", "absent"), told["envelope"])


def test_every_verb_with_a_result_has_its_schemas(capsys):
    told = answer(capsys, "schema")["result"]
    other = {"completion", "mcp", "agent-files", "schema"}
    assert set(told["results"]) == {verb.name for verb in VERBS} - other
    assert set(told["arguments"]) == set(told["results"])
    for one in (told["envelope"], *told["arguments"].values(), *told["results"].values()):
        jsonschema.Draft202012Validator.check_schema(one)
