"""README: its figures are the ledger's, its picture what translate writes, its blocks run."""

import re
import warnings
from pathlib import Path

import pytest

from tests.support import need
from tools import make_readme
from tools.ledger import Row, kept

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_figures_are_those_of_the_ledger():
    assert make_readme.updated(TEXT, kept()) == TEXT, "run: python -m tools.make_readme"
    assert TEXT.count("within 1e-4 |") == 1


def test_a_new_run_of_a_step_makes_them_stale():
    row = Row("2030-01-02", "abc", 1, 0, "200 of 256 agree within 0.0001")
    made = make_readme.updated(TEXT, {**kept(), "zoo": row})
    assert "| 200 of 256 within 1e-4 | 2030-01-02 |" in made and made != TEXT


def test_what_failed_or_never_ran_has_no_row():
    row = Row("2030-01-02", "abc", 1, 1, "nothing")
    assert make_readme.table({"zoo": row}).count("\n") == 2


@pytest.mark.parametrize("name", make_readme.FIGURES)
def test_what_a_step_gave_in_another_form_is_an_error(name):
    row = Row("2030-01-02", "abc", 1, 0, "all fine")
    with pytest.raises(ValueError, match="all fine"):
        make_readme.table({name: row})


def test_the_picture_is_what_translate_writes():
    need("torch", "mlx.core")
    from tools.make_picture import PICTURE, picture, sources

    assert picture(*sources()) == PICTURE.read_text(), "run: python -m tools.make_picture"


def test_its_blocks_of_python_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    need("torch", "mlx.core")
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
            exec(compile(block, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "class Sequential" in shown and "output" in shown


def test_its_commands_are_those_of_the_command_line(tmp_path, monkeypatch):
    import shlex

    from torch2mlx.cli.parser import parsed

    lines = re.findall(r"^torch2mlx (.*)$", TEXT, re.M)
    assert len(lines) >= 4
    for line in lines:
        assert parsed(shlex.split(line, comments=True)).verb
