"""The comparisons of bench/ run, and write what they measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import need

need("torch", "mlx.core", "safetensors", "transformers")

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_comparison_writes_its_ratios(tmp_path):
    file = tmp_path / "ratios.json"
    command = [sys.executable, "-m", "bench", "key_trees", "--json", str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(file.read_text())
    assert {"case", "peer", "ratio", "goal"} == set(rows[0]) and rows[0]["ratio"] > 0
