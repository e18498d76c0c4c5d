"""Agents: tools over the protocol with the client of its package; nothing outside the folders."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import close, need

anyio, mcp, mx, torch, yaml = need("anyio", "mcp", "mlx.core", "torch", "yaml")
need("libcst")

from mcp.client.stdio import StdioServerParameters, stdio_client

from torch2mlx.cli import main
from torch2mlx.cli.agent_tools import TOOLS, CallError, line_of, schema
from torch2mlx.cli.granted import Granted
from torch2mlx.errors import NotGrantedError
from torch2mlx.op_mapping import known_ops

SCRIPT = """\
import torch


def tiled(x, times):
    return x.repeat(times, 3)
"""
FACTORY = """\
import torch
from torch import nn


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval(), (torch.ones(2, 3),)
"""


@pytest.fixture
def root(tmp_path):
    """A granted folder, with things outside that lie beside it."""
    inside, outside = tmp_path / "granted", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "script.py").write_text(SCRIPT)
    (inside / "nets.py").write_text(FACTORY)
    (outside / "secret.py").write_text(SCRIPT)
    torch.save({"w": torch.ones(2)}, outside / "secret.pt")
    return inside


def talk(root, conversation, *options):
    """Runs a conversation with a server, and what it answers."""

    async def whole():
        args = ["-m", "torch2mlx", "mcp", "--root", str(root), *options]
        env = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        server = StdioServerParameters(command=sys.executable, args=args, env=env)
        with open(os.devnull, "w") as log:
            async with mcp.Client(stdio_client(server, log)) as client:
                return await conversation(client)

    return anyio.run(whole)


def calls(*several):
    """A conversation of calls: the envelope of each."""

    async def conversation(client):
        found = []
        for name, arguments in several:
            answer = await client.call_tool(name, arguments)
            assert answer.is_error is not answer.structured_content["ok"]
            assert json.loads(answer.content[0].text) == answer.structured_content
            found.append(answer.structured_content)
        return found

    return conversation


def test_a_script_is_ported_with_a_question_and_its_answer(root):
    async def conversation(client):
        asked = (await client.call_tool("port", {"source": "script.py"})).structured_content
        (file,) = asked["result"]["files"]
        (question,) = file["questions"]
        answer = f"{question['id']}={question['choices'][0]}"
        told = {"source": "script.py", "out": "script_mlx.py", "answer": [answer]}
        return question, (await client.call_tool("port", told)).structured_content

    question, answered = talk(root, conversation)
    assert question["choices"] == ["tensor", "numpy", "other"] and question["line"] == 5
    (file,) = answered["result"]["files"]
    assert answered["ok"] and not file["questions"] and not file["unsupported"]
    ours, theirs = {}, {}
    exec((root / "script_mlx.py").read_text(), ours)
    exec(SCRIPT, theirs)
    for shape in ((2, 2), (3, 1)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        close(ours["tiled"](mx.array(x), 2), theirs["tiled"](torch.from_numpy(x), 2))


def test_the_conversation_of_the_docs_is_what_is_said(root):
    page = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
    page = page.split("\n## A conversation\n")[1]
    script, port = re.findall(r"```python\n(.*?)```", page, re.S)
    said = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.S)]
    asked = [(call["name"], call["arguments"]) for call in said[::2]]
    (root / "script.py").write_text(script)
    for told, found in zip(said[1::2], talk(root, calls(*asked)), strict=True):
        (found["result"] or {}).pop("advice", None)
        shown = json.dumps(found).replace(str(root.resolve()), "/Users/me/project")
        assert json.loads(shown) == told
    assert (root / "script_mlx.py").read_text() == port


def test_tools_and_resources_are_made_from_verbs_and_the_catalogue(root):
    async def conversation(client):
        tools = (await client.list_tools()).tools
        listed = (await client.list_resources()).resources
        texts = {r.uri: (await client.read_resource(r.uri)).contents[0].text for r in listed}
        with pytest.raises(mcp.MCPError, match=r"there is no resource torch2mlx://nothing"):
            await client.read_resource("torch2mlx://nothing")
        return tools, texts

    tools, texts = talk(root, conversation)
    names = ["analyze", "convert", "translate", "port", "verify", "verify_training"]
    assert [tool.name for tool in tools] == names
    assert [tool.input_schema for tool in tools] == [schema(tool.verb) for tool in TOOLS]
    rows = json.loads(texts["torch2mlx://functions"])
    assert [row["torch"] for row in rows] == [row.torch for row in known_ops()]
    assert (
        "| `torch.sum(input, dim, keepdim, dtype)` | `mx.sum(input[, axis=dim]"
        in (texts["torch2mlx://mapping-guide"])
    )
    layers = json.loads(texts["torch2mlx://layers"])["layers"]
    assert {"torch.nn.Conv2d", "torch.nn.LSTM"} <= {row["torch"] for row in layers}
    assert any(row["rule"] == "T2M001" for row in json.loads(texts["torch2mlx://rules"]))


@pytest.mark.slow
def test_a_model_is_analyzed_translated_and_verified(root):
    analyzed, made, verified = talk(
        root,
        calls(
            ("analyze", {"source": "nets.py:small"}),
            ("translate", {"source": "nets.py:small", "out": "out"}),
            ("verify", {"source": "nets.py:small", "folder": "out"}),
        ),
        "--allow-running",
    )
    assert analyzed["result"]["coverage"] == 1.0
    assert made["result"]["compared"] == "agrees with torch on the example inputs"
    assert verified["ok"] and verified["result"]["verdict"] == "equal"
    assert sorted(p.name for p in (root / "out").iterdir())[:2] == ["config.json", "model.py"]


TRAINING = """\
import torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    x = torch.randn(4, 3)
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.slow
def test_a_training_script_is_ported_and_run_beside_its_port(root):
    (root / "train.py").write_text(TRAINING)
    ported, verified = talk(
        root,
        calls(
            ("port", {"source": "train.py", "out": "train_mlx.py"}),
            (
                "verify_training",
                {"torch_script": "train.py", "mlx_script": "train_mlx.py", "steps": 3},
            ),
        ),
        "--allow-running",
    )
    assert ported["ok"] and verified["ok"], verified


#: A refusal, or a reader that was refused.
CODES = ("not-granted", "checkpoint")
PROGRAM = "is a program, and running programs was not granted"
OUTSIDE = "leads outside the folders that were granted"
REFUSED = [
    ("port", {"source": "../outside/secret.py"}, OUTSIDE),
    ("port", {"source": "{outside}/secret.py"}, OUTSIDE),
    ("port", {"source": "link.py"}, OUTSIDE),
    ("port", {"source": "folder/../../outside"}, OUTSIDE),
    ("port", {"source": "script.py", "out": "../outside/new.py"}, OUTSIDE),
    ("port", {"source": "script.py", "out": "lost.py"}, OUTSIDE),
    ("port", {"source": "project", "out": "ported"}, OUTSIDE),
    ("port", {"source": "script.py\0"}, "a path has no NUL in it"),
    ("convert", {"source": "weights.pt", "out": "w.safetensors"}, OUTSIDE),
    ("convert", {"source": "shards", "out": "w.safetensors"}, OUTSIDE),
    ("convert", {"source": "own.pt", "out": "w.safetensors", "base": "../outside"}, OUTSIDE),
    ("analyze", {"source": "own.pt", "html": "{outside}/page.html"}, OUTSIDE),
    ("analyze", {"source": "nets.py:small"}, PROGRAM),
    ("analyze", {"source": "nets.py"}, PROGRAM),
    ("translate", {"source": "nets:small", "out": "out"}, PROGRAM),
    ("translate", {"source": "shards", "out": "out"}, OUTSIDE),
    ("verify", {"source": "own", "folder": "own", "trust_remote_code": True}, "trust_remote_code"),
    ("port", {"source": "script.py", "verify": True}, "port with verify runs both scripts"),
    ("port", {"source": "script.py", "run": ""}, "port with run runs the script"),
    (
        "verify_training",
        {"torch_script": "script.py", "mlx_script": "script.py"},
        "was not granted",
    ),
]


def test_nothing_outside_the_folder_is_read_or_written_and_no_program_runs(root):
    outside = root.parent / "outside"
    (root / "link.py").symlink_to(outside / "secret.py")
    (root / "lost.py").symlink_to(outside / "new.py")
    (root / "weights.pt").symlink_to(outside / "secret.pt")
    for name in ("folder", "project", "shards", "own"):
        (root / name).mkdir()
    (root / "project" / "net.py").symlink_to(outside / "secret.py")
    (root / "shards" / "model.pt").symlink_to(outside / "secret.pt")
    torch.save({"w": torch.ones(2)}, root / "own.pt")
    before = {p.name: p.stat().st_mtime_ns for p in outside.iterdir()}
    listed = sorted(p.name for p in root.iterdir())
    asked = [
        (name, {k: v.format(outside=outside) if isinstance(v, str) else v for k, v in a.items()})
        for name, a, _ in REFUSED
    ]
    for (name, arguments, why), found in zip(REFUSED, talk(root, calls(*asked)), strict=True):
        assert found["error"] and found["error"]["code"] in CODES, (name, arguments, found)
        assert why in found["error"]["message"]
    assert {p.name: p.stat().st_mtime_ns for p in outside.iterdir()} == before
    assert sorted(p.name for p in root.iterdir()) == listed


CALLS = {
    ("ported", ""): "there is no tool 'ported'; did you mean port?",
    ("port", "sorce"): "port takes no argument 'sorce'; did you mean source?",
    ("verify", "xyz"): "verify takes no argument 'xyz'; there are source, folder, tolerance",
}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_calls_with_words_that_are_not_there_say_what_was_meant(call, tmp_path):
    name, argument = call
    with pytest.raises(CallError) as caught:
        line_of(name, {argument: "x"} if argument else {}, Granted((tmp_path,)))
    assert str(caught.value).startswith(CALLS[call])
    assert caught.value.code == "usage"


def test_what_is_missing_and_what_is_no_choice_is_wrong_usage(root):
    bad = ({}, {"source": "script.py", "layout": "nhwc"}, {"source": ["script.py"]})
    for found in talk(root, calls(*(("port", arguments) for arguments in bad))):
        assert found["error"]["code"] == "usage"


def test_arguments_become_a_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"source": "-a.pt", "out": "b", "rule": ["c*=Conv2d", "pos=identity"], "force": True}
    found = line_of("convert", {**given, "threads": 2}, Granted((tmp_path.resolve(),)))
    rules = ["--rule=c*=Conv2d", "--rule=pos=identity"]
    assert found == ["convert", *rules, "--threads=2", "--force", "--", "-a.pt", "b"]


def test_a_folder_is_granted_with_what_its_links_lead_to(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "same").symlink_to(inside)
    granted = Granted((inside.resolve(),))
    granted.check(inside / "same" / "new.py")
    granted.check_whole(inside)
    (inside / "out").symlink_to(tmp_path)
    with pytest.raises(NotGrantedError, match="out: leads outside"):
        granted.check_whole(inside)


def _fields(text):
    """The front matter of a file, and what follows."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_files_for_agents_name_the_tools_that_there_are(tmp_path, capsys):
    assert main(["agent-files", str(tmp_path / "conf")]) == 0
    agent, body = _fields((tmp_path / "conf/agents/pytorch-to-mlx.md").read_text())
    names = [tool.verb.name.replace("-", "_") for tool in TOOLS]
    assert agent["name"] == "pytorch-to-mlx" and agent["description"]
    assert agent["tools"].split(", ") == [f"mcp__torch2mlx__{name}" for name in names]
    assert set(re.findall(r"\*\*(\w+)\.\*\*", body)) == {
        *("Analyze", "Ask", "Convert", "Validate", "Document")
    }
    skill, body = _fields((tmp_path / "conf/skills/pytorch-to-mlx/SKILL.md").read_text())
    assert set(skill) == {"name", "description"}
    assert re.findall(r"^\| `(\w+)` \|", body, re.M) == names


def test_files_for_agents_replace_nothing_that_was_changed(tmp_path, capsys):
    line = ["agent-files", str(tmp_path)]
    assert main([*line, "--dry-run"]) == 0 and not list(tmp_path.iterdir())
    assert main(line) == 0 and main(line) == 0
    changed = tmp_path / "agents" / "pytorch-to-mlx.md"
    changed.write_text("mine")
    assert main(line) == 1
    assert "was not written by torch2mlx and would be replaced" in capsys.readouterr().err
    assert changed.read_text() == "mine"
    assert main([*line, "--force"]) == 0 and changed.read_text().startswith("---\nname: ")


def test_the_server_wants_a_folder_and_its_library(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="2"):
        main(["mcp"])
    assert main(["mcp", "--root", str(tmp_path / "absent")]) == 1
    assert "absent: is no folder, so nothing in it can be granted" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp", "--root", str(tmp_path)]) == 1
    told = "torch2mlx: mcp needs mcp: pip install 'torch2mlx[mcp]'\n"
    assert capsys.readouterr().err.endswith(told)
