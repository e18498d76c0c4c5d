"""The comparisons of bench/ run, and write what they measured."""

import json
from pathlib import Path

import pytest

from tests.support import need

need("torch", "mlx.core", "safetensors", "transformers")

from bench import __main__ as command
from bench.cases import key_trees
from bench.translation import after_export, llama


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


@pytest.mark.slow
def test_what_comes_after_the_export_is_measured_alone():
    assert "class" in after_export(*llama(2, 64))()
