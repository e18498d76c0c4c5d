"""Values that a forward reads are told, each at its line, and nothing else is."""

import inspect
import re

import pytest

from tests.support import need

need("torch")

from tests.analysis import branches
from torch2mlx import analyze

_TOLD = ("T2M103", "T2M104", "T2M110", "T2M101", "T2M102", "T2M114")
_LINES = inspect.getsource(branches).splitlines()


def marked(*classes):
    """(line, rule) of the comments within classes and functions."""
    found = set()
    for one in classes:
        lines, start = inspect.getsourcelines(one)
        for number, line in enumerate(lines, start):
            comment = line.partition("#")[2]
            found |= {(number, rule) for rule in re.findall(r"T2M\d+", comment)}
    return found


@pytest.mark.parametrize("cls", branches.READS, ids=lambda cls: cls.__name__)
def test_each_value_that_is_read_is_told_at_its_line(cls):
    parts = {branches.Given: [branches.Inner], branches.Super: [branches.Parent]}
    parts[branches.HelperFunction] = [branches.halved]
    expected = marked(cls, *parts.get(cls, ()))
    found = [f for f in analyze(cls()).findings if f.rule in _TOLD]
    assert expected and {(f.line, f.rule) for f in found} == expected
    assert all(f.file == branches.__file__ and f.what for f in found)


@pytest.mark.parametrize("cls", branches.QUIET, ids=lambda cls: cls.__name__)
def test_what_is_known_without_values_is_no_finding(cls):
    assert [(f.rule, f.line, f.what) for f in analyze(cls()).findings if f.rule in _TOLD] == []


@pytest.mark.slow
def test_a_translation_is_refused_where_a_branch_is_told():
    torch, _ = need("torch", "mlx")
    import torch2mlx
    from torch2mlx.errors import TranslationError

    for cls in (branches.Greater, branches.Counted, branches.HelperMethod, branches.NotLowered):
        with pytest.raises(TranslationError):
            torch2mlx.translate(cls(), (torch.randn(3, 4),))
    for cls in (branches.Shapes, branches.Flags, branches.Configured):
        assert torch2mlx.translate(cls(), (torch.randn(2, 4),)).source
