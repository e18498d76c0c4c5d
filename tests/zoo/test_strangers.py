import hashlib
import json
import subprocess
import sys
from pathlib import Path

from tests.support import need

torch = need("torch")
mx = need("mlx.core")

from tests.zoo import strangers

ROOT = Path(__file__).parent.parent.parent
FILE = """
import packages_that_nobody_has
from packages_that_nobody_has.deep import Thing
import torch
from torch import nn
from _paritybench_helpers import _mock_config, _mock_layer, _paritybench_base, patch_functional
patch_functional()


class Right(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = _mock_layer(width, 3)

    def forward(self, x):
        return self.layer(x).relu()


class Refused(nn.Module):
    def forward(self, x):
        return torch.igamma(x.abs(), x.abs())


class Branch(nn.Module):
    def forward(self, x):
        return x if bool(x.sum() > 0) else -x


class Faulty(nn.Module):
    def forward(self, x):
        return x @ torch.ones(7)


ONE = lambda: ([torch.rand([4, 4])], {})
TESTCASES = [
    (Right, lambda: ([4], {}), ONE, True),
    (Refused, lambda: ([], {}), ONE, True),
    (Branch, lambda: ([], {}), ONE, True),
    (Faulty, lambda: ([], {}), ONE, True),
]
"""


def test_each_module_gets_its_verdict(tmp_path):
    """In a process of its own: where MLX has run, its threads are not there after a fork."""
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "test_one.py").write_text(FILE)
    out = tmp_path / "rows"
    command = [sys.executable, "-m", "tests.zoo.strangers", str(tmp_path), "--first", "0-f"]
    ended = subprocess.run([*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    rows = map(json.loads, out.read_text().splitlines())
    assert {row[1]: row[2] for row in rows} == {
        "Right": strangers.RIGHT,
        "Refused": strangers.REFUSED,
        "Branch": strangers.UNEXPORTED,
        "Faulty": strangers.UNRUN,
    }
    assert "right 1" in ended.stdout and "takes: 50.0%" in ended.stdout


def test_files_are_chosen_by_the_hashes_of_their_names(tmp_path):
    (tmp_path / "generated").mkdir()
    names = [f"test_{i}.py" for i in range(60)]
    for name in names:
        (tmp_path / "generated" / name).write_text("")
    half = [n for n in names if hashlib.sha256(n.encode()).hexdigest()[0] in "01234567"]
    chosen = strangers.chosen(tmp_path, 100, 0, "0-7")
    assert sorted(p.name for p in chosen) == sorted(half)
    some = strangers.chosen(tmp_path, 5, 0, "0-7")
    assert len(set(some)) == 5 and set(some) <= set(chosen)
    assert some == strangers.chosen(tmp_path, 5, 0, "0-7")
