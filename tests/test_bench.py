"""The comparisons of bench/ run, and write what they measured."""

import json
from pathlib import Path

import pytest

from tests.support import need

need("torch", "mlx.core", "safetensors", "transformers")

from bench import __main__ as command
from bench.cases import key_trees
from bench.programs.scoring import graded, headline, programs, scored, table
from bench.translation import after_export, llama
from torch2mlx.lockstep.result import Agreement, Cause, TrainingVerification


def two_blocks(folder: Path):
    return key_trees(folder, blocks=2, rounds=1)


def test_a_comparison_writes_its_ratios(tmp_path, monkeypatch):
    file = tmp_path / "ratios.json"
    monkeypatch.setattr(command, "CASES", (two_blocks,))
    monkeypatch.setattr("sys.argv", ["bench", "two_blocks", "--json", str(file)])
    assert command.main() == 0
    rows = json.loads(file.read_text())
    assert [row["case"] for row in rows] == ["nest 2,000 keys", "flatten 2,000 keys"]
    assert {"case", "peer", "ratio", "goal"} == set(rows[0]) and rows[0]["ratio"] > 0


def _verified(*causes):
    agreed = Agreement(1, "SGD", 1.0, 1.0, {})
    return TrainingVerification(tuple(Cause(*c, "x", "differs") for c in causes), (agreed,))


def test_a_port_is_graded_by_where_it_first_differs():
    assert graded(_verified()) == 3
    assert graded(_verified(("update", 7))) == 2
    assert graded(_verified(("gradient", 1))) == graded(_verified(("initialisation", 0))) == 1
    assert graded(_verified(("parameters", 0))) == graded(_verified(("steps", 1))) == 0


def test_there_are_forty_programs_and_what_no_tool_ports_has_no_grade(tmp_path):
    texts = programs()
    assert len(texts) == 40
    for name, text in texts.items():
        compile(text, name, "exec")
    for tool, why in (
        ("false {source}", "the tool failed: without a word"),
        ("true {source} {target}", "the tool wrote nothing"),
        ("no-such-tool", "the tool did not end"),
    ):
        score = scored("gan_plain", texts["gan_plain"], tool, tmp_path)
        assert score.grade == 0 and score.why.startswith(why)
    assert headline([score]) == "1 programs: 0 reach grade 1, 0 grade 2, 0 grade 3"
    assert "| `gan_plain` | A generative" in table([score])


@pytest.mark.slow
def test_what_comes_after_the_export_is_measured_alone():
    assert "class" in after_export(*llama(2, 64))()
