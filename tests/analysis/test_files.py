"""Sources that are Python: file.py, file.py:function, module:function."""

import pytest

from tests.support import need

need("torch")

from torch2mlx import analyze
from torch2mlx.analysis.files import named
from torch2mlx.cli import main
from torch2mlx.errors import TranslationError

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x

"""
ONE = NET + "def make(width=2):\n    return Block(width)\n"
PAIR = NET + "def make():\n    return Block(2), (torch.randn(1, 2),)\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", [ONE, PAIR], ids=["alone", "with inputs"])
def test_a_function_answers_the_model(here, text):
    (here / "nets.py").write_text(text)
    for source in ("nets.py", "nets.py:make", here / "nets.py"):
        report = analyze(source)
        assert report.model == "Block" and report.total_layers == 1
        (finding,) = report.findings
        assert (finding.rule, finding.line) == ("T2M104", 11)
        assert finding.file.endswith("nets.py")


def test_a_module_that_takes_nothing_stands_for_the_file(here):
    plain = NET + "class Net(Block):\n    def __init__(self, width=2, *, deep=True):\n"
    (here / "net.py").write_text(plain + "        super().__init__(width)\n")
    assert named("net.py") == "net.py:Net"
    assert analyze("net.py").model == "Net"


def test_a_file_without_one_source_says_what_to_name(here):
    (here / "two.py").write_text(ONE + "def other():\n    return Block(3)\n")
    with pytest.raises(TranslationError) as raised:
        analyze("two.py")
    assert str(raised.value) == (
        "two.py: has make, other: name the one that makes the model, as in two.py:make"
    )
    (here / "none.py").write_text(NET + "def main():\n    pass\n")
    with pytest.raises(TranslationError, match=r"^none\.py: has no function, and no nn\.Module"):
        analyze("none.py")
    (here / "broken.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(TranslationError, match=r"^broken\.py:2: cannot be parsed"):
        analyze("broken.py")


def test_exit_codes_follow_what_is_asked(here, capsys):
    (here / "nets.py").write_text(ONE)
    assert main(["analyze", "nets.py"]) == 0
    assert main(["analyze", "nets.py", "--fail-on", "blocker"]) == 0
    assert main(["analyze", "nets.py", "--fail-on", "warning"]) == 1
    assert "Block: 1 blockers or warnings, first T2M104 nets.py:11" in capsys.readouterr().err
    (safetensors,) = need("safetensors.numpy")
    import numpy as np

    safetensors.save_file({"a.weight": np.ones(3, np.float32)}, "x.safetensors")
    assert main(["analyze", "x.safetensors"]) == 1
    assert "the types of its layers are not known" in capsys.readouterr().err
    assert main(["analyze", "x.safetensors", "--fail-on", "none"]) == 0
