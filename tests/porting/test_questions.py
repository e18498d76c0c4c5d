"""What a port asks where the source does not tell, and what it makes of answers."""

import json

import numpy as np
import pytest

from tests.support import close, need

mx, torch = need("mlx.core", "torch", "libcst")[:2]

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import PortError

SOURCE = """\
import torch


def tiled(x):
    return x.repeat(2, 3)


def parts(x):
    return x.split(2)


class Held:
    def __init__(self, mask):
        self.mask = mask

    def twice(self):
        return self.mask.repeat(2, 1)


def moved(part):
    return part.to("cpu")


later = lambda v: v.std()
"""
ARRAYS = ("tensor", "numpy", "other")
QUESTIONS = {
    "tiled.x": (5, ARRAYS),
    "parts.x": (9, ARRAYS),
    "Held.mask": (17, ARRAYS),
    "v": (24, ARRAYS),
}


def run(source):
    """The names of a source, run."""
    names = {}
    exec(source, names)
    return names


def test_names_that_may_be_no_tensors_are_asked_about():
    found = torch2mlx.port(SOURCE).questions
    assert {q.id: (q.line, q.choices) for q in found} == QUESTIONS
    assert str(found[0]) == (
        "What does 'x' in 'tiled' hold, on which .repeat() is called? Choose tensor, numpy or "
        "other: answers={'tiled.x': 'tensor'}"
    )


def test_a_device_is_asked_about_where_a_module_may_move():
    source = "import torch\n\n\ndef moved(part, where):\n    return part.to(where)\n"
    (found,) = torch2mlx.port(source).questions
    assert (found.id, found.choices) == ("moved.part", ("tensor", "module", "other"))
    answered = torch2mlx.port(source, answers={"moved.part": "module"})
    assert answered.ok and "return part\n" in answered.source


@pytest.mark.parametrize("shape", [(2, 2), (4, 3)])
def test_what_is_a_tensor_by_an_answer_computes_as_in_torch(shape):
    answered = torch2mlx.port(SOURCE, answers=dict.fromkeys(QUESTIONS, "tensor"))
    assert answered.ok and not answered.questions
    ours, theirs = run(answered.source), run(SOURCE)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a, b = mx.array(x), torch.from_numpy(x)
    close(ours["tiled"](a), theirs["tiled"](b))
    close(ours["Held"](a).twice(), theirs["Held"](b).twice())
    close(ours["later"](a), theirs["later"](b))
    for one, two in zip(ours["parts"](a), theirs["parts"](b), strict=True):
        close(one, two)


@pytest.mark.parametrize("choice", ["numpy", "other"])
def test_what_is_no_tensor_stays_as_it_is_and_is_not_asked_again(choice):
    answered = torch2mlx.port(SOURCE, answers={"tiled.x": choice})
    assert "return x.repeat(2, 3)" in answered.source
    assert "tiled.x" not in {q.id for q in answered.questions}
    assert 5 not in {u.line for u in answered.unsupported}


def test_an_answer_is_for_one_function_alone():
    answered = torch2mlx.port(SOURCE, answers={"tiled.x": "tensor"})
    assert {q.id for q in answered.questions} == {"parts.x", "Held.mask", "v"}


BAD = {
    ("tiled.x", "tensr"): "the answer tiled.x=tensr is none of tensor, numpy, module, other; did "
    "you mean tensor?",
    ("tiled.y", "tensor"): "the answer about tiled.y is to no question: the source has no such "
    "name; ids of questions are in the result of a port without answers",
    ("said.n", "tensor"): "the answer about said.n contradicts the source, by which it is of type "
    "int: leave the answer out",
}


@pytest.mark.parametrize("answer", BAD, ids=lambda a: "=".join(a))
def test_answers_that_fit_nothing_are_refused(answer):
    source = SOURCE + "\n\ndef said(n: int):\n    return n\n"
    with pytest.raises(PortError) as caught:
        torch2mlx.port(source, answers=dict([answer]))
    assert str(caught.value) == BAD[answer]


def test_text_is_split_by_separators_without_a_question():
    source = "import torch\n\n\ndef words(line):\n    return line.split(), line.split(',')\n"
    assert torch2mlx.port(source).ok


def test_questions_of_a_folder_name_their_files(tmp_path):
    source = tmp_path / "src"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "net.py").write_text(SOURCE)
    (made,) = torch2mlx.port_folder(source, tmp_path / "one")
    assert [q.id for q in made.questions][:1] == ["deep/net.py:tiled.x"]
    answers = {q.id: "tensor" for q in made.questions}
    (made,) = torch2mlx.port_folder(source, tmp_path / "two", answers=answers)
    assert made.ok and not made.questions
    with pytest.raises(PortError, match=r"about tiled\.x is about no file of the folder"):
        torch2mlx.port_folder(source, tmp_path / "three", answers={"tiled.x": "tensor"})
    assert not (tmp_path / "three").exists()


def test_the_command_line_asks_and_takes_answers(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text(SOURCE)
    assert main(["port", str(script), "--format", "json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["result"]["files"]
    assert [q["id"] for q in file["questions"]] == list(QUESTIONS)
    line = ["port", str(script)]
    for name in QUESTIONS:
        line += ["--answer", f"{name}=tensor"]
    assert main(line) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and "mx.tile(x, (2, 3))" in shown.out
    assert main(["port", str(script)]) == 0
    assert "script.py:5: question: What does 'x' in 'tiled' hold" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["port", str(script), "--answer", "tensor"])
