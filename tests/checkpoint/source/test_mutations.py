"""Checkpoints with parts changed, on every verb; and that the test of them sees what it should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import need
from torch2mlx.errors import CheckpointError

ROOT = Path(__file__).parents[3]
SANITIZED = bool(os.environ.get("TORCH2MLX_SANITIZED"))


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED, reason="the sanitizer reserves all of the address space")
def test_changed_checkpoints_are_answered_or_refused_soon_and_in_little_memory(tmp_path):
    need("torch", "safetensors")
    command = [sys.executable, "-W", "ignore", "-m", "tests.checkpoint.source.mutations"]
    options = ["--files", "5000", "--seed", "0", "--keep", str(tmp_path)]
    found = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    counts = dict(re.findall(r"(\w[\w ]*?) (\d+)[,)]", found.stdout))
    for verb in ("inspect", "convert", "convert with rules", "load_converted", "revert", "analyze"):
        assert int(counts[f"{verb} answered"]) > 50, found.stdout


def raises(error):
    raise error


def spin():
    while True:
        pass


@pytest.mark.skipif(SANITIZED, reason="the sanitizer reserves all of the address space")
def test_what_is_no_answer_is_found():
    need("torch", "safetensors")
    code = """
import signal
from tests.checkpoint.source.mutations import attempt, expire
from tests.checkpoint.source.test_mutations import raises, spin
from torch2mlx.errors import CheckpointError
signal.signal(signal.SIGPROF, expire)
for call in (
    lambda: 1,
    lambda: raises(CheckpointError("a.pt: no")),
    lambda: raises(CheckpointError("")),
    lambda: raises(ValueError("raw")),
    lambda: raises(SystemExit("out")),
    lambda: bytearray(100 << 20),
    spin,
):
    print(attempt(call, 32 << 20, 0.2).split(" at ")[0])
bytearray(100 << 20)  # and the limits are gone afterwards
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.splitlines() == [
        "answered",
        "refused",
        "CheckpointError without a word",
        "ValueError: raw",
        "SystemExit: out",
        "MemoryError: ",
        "TooLong: ",
    ], found.stderr
    assert found.returncode == 0


def test_every_seed_is_a_good_checkpoint(tmp_path):
    need("torch", "safetensors")
    from tests.checkpoint.source.mutation_seeds import seeds
    from torch2mlx import inspect

    for number, seed in enumerate(seeds(tmp_path)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in seed.files.items():
            (folder / name).write_bytes(data)
        try:
            assert inspect(folder / seed.opened).tensors, seed.name
        except CheckpointError as error:
            pytest.fail(f"{seed.name}: {error}")
