"""--sizes of translate and verify: how sizes are written, and what is said of each."""

import json
from pathlib import Path

import pytest

from tests.support import need
from torch2mlx.cli import main, sizing
from torch2mlx.errors import TranslationError

NETS = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, ids, mask):
        return self.head(self.embedding(ids)) * mask[..., None]


class Short(torch.nn.Module):
    def forward(self, x):
        return x + 1 if x.shape[1] <= 8 else x * 2


def net():
    torch.manual_seed(0)
    return Net().eval(), (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8))


def short():
    return Short(), (torch.ones(2, 4, 3),)


def empty():
    with torch.device("meta"):
        model = Net().eval()
    return model, (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2x16", [{"": (2, 16)}]),
        ("2x16, 3x_", [{"": (2, 16)}, {"": (3, None)}]),
        ("5", [{"": (5,)}]),
        ("ids=2x16,batch.mask=2x_", [{"ids": (2, 16), "batch.mask": (2, None)}]),
    ],
)
def test_sizes_are_written_as_lengths_between_x(text, expected):
    assert sizing.asked(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2xa", "'2xa' is no size: write 2x16, or NAME=2x16, _ for a length that stays"),
        ("", "'' is no size"),
        ("-1x2", "'-1x2' is no size"),
        ("ids=2x16,3x40", "name all inputs, or none; several sizes by names are several --sizes"),
        ("ids=2x16,ids=3x40", "'ids' has two shapes; several sizes by names are several --sizes"),
    ],
)
def test_sizes_that_are_none_are_wrong_usage(text, told, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["verify", "x.py:f", "out", f"--sizes={text}"])
    assert caught.value.code == 2 and told in capsys.readouterr().err


def test_all_sizes_are_compared_and_inputs_with_a_length_in_common_follow(here, capsys):
    need("torch", "mlx.core")
    assert main(["translate", "nets.py:net", "out", "--sizes", "3x5,1x_"]) == 0
    told = capsys.readouterr().out
    assert "free: ids=_x_, mask=_x_\n" in told
    assert "note: at ids (3, 5), mask (3, 5): agrees with torch\n" in told
    assert "note: at ids (1, 8), mask (1, 8): agrees with torch\n" in told
    line = ["verify", "nets.py:net", "out", "--sizes", "mask=4x3", "--sizes", "ids=4x4,mask=2x4"]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert [o["case"] for o in found["outputs"]] == ["", "at ids (4, 3), mask (4, 3)"]
    assert found["notes"][0].startswith(
        "at ids (4, 4), mask (2, 4): not compared, torch raises RuntimeE"
    )


def test_a_size_that_the_file_refuses_is_told(here, capsys):
    need("torch", "mlx.core")
    for line in (["translate", "nets.py:short", "out"], ["verify", "nets.py:short", "out"]):
        assert main([*line, "--sizes", "2x9x3"]) == 0
        assert "at x (2, 9, 3): refused, x.shape[1]" in capsys.readouterr().out
    assert main(["translate", "nets.py:short", "out", "--sizes", "5x7x3"]) == 0
    assert "at x (5, 7, 3): agrees with torch" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["translate", "verify"])
@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ("idz=3x5", "--sizes: 'idz' is no argument: they are ids, mask"),
        ("3", "--sizes: ids has 2 axes, (3,) 1"),
    ],
)
def test_sizes_of_other_inputs_are_refused(verb, sizes, told, here, capsys):
    need("torch", "mlx.core")
    assert main(["translate", "nets.py:net", "out"]) == 0
    before = Path("out/model.py").stat().st_mtime_ns
    assert main([verb, "nets.py:net", "out", "--sizes", sizes]) == 1
    assert capsys.readouterr().err == f"torch2mlx: {told}\n"
    assert Path("out/model.py").stat().st_mtime_ns == before


def test_sizes_of_a_model_without_values_cannot_be_compared(here, capsys):
    need("torch", "mlx.core")
    assert main(["translate", "nets.py:empty", "out", "--sizes", "3x5"]) == 1
    assert capsys.readouterr().err == (
        "torch2mlx: --sizes: a model without values has none to compare\n"
    )
    assert not Path("out").exists()


def test_a_size_at_which_the_answers_differ_is_an_error(monkeypatch):
    torch, _ = need("torch", "mlx.core")
    from torch2mlx import translate
    from torch2mlx.export.verify import other_sizes
    from torch2mlx.export.verify.comparing import Compared
    from torch2mlx.export.verify.judging import Judgement

    model, x = torch.nn.Linear(3, 2).eval(), torch.randn(2, 3)
    assert "at input (7, 3): agrees" in str(translate(model, x, sizes=[{"input": (7, None)}]).notes)
    found = Judgement((Compared("", 0.5, 1e-4, "differs"),))
    plain = other_sizes.judged_at
    odd = lambda pair, case, *rest: found if "7" in case.label else plain(pair, case, *rest)
    monkeypatch.setattr(other_sizes, "judged_at", odd)
    with pytest.raises(TranslationError, match=r"at input \(7, 3\) MLX answers otherwise"):
        translate(model, x, sizes=[{"input": (7, None)}])
    with pytest.raises(TranslationError, match=r"sizes: 'x' is no argument: they are input"):
        translate(model, x, sizes=[{"x": (7, None)}])
    with pytest.raises(TranslationError, match=r"sizes: input \(-1, 3\): a length is not negati"):
        translate(model, x, sizes=[{"input": (-1, None)}])
