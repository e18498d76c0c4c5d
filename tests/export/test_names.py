"""Names of locals: those that the model's own source gives, as it stands."""

import linecache
import types

import pytest

from torch2mlx.export.ir.source_names import Names


def named(file, line):
    return Names().of(
        types.SimpleNamespace(meta={"stack_trace": f'  File "{file}", line {line}, in forward'})
    )


@pytest.mark.parametrize(
    ("line", "name"), [(1, "one"), (2, "two"), (3, "two"), (4, ""), (5, "more"), (6, ""), (9, "")]
)
def test_a_value_has_the_one_name_of_its_statement(tmp_path, line, name):
    file = tmp_path / "net.py"
    file.write_text("one = f()\ntwo = (\n    f())\na, b = f()\nmore += 1\nf()\n")
    assert named(file, line) == name


def test_what_was_written_anew_is_read_anew(tmp_path):
    file = tmp_path / "net.py"
    for name in ("before", "after"):
        file.write_text(f"{name} = f()\n")
        linecache.clearcache()
        assert named(file, 1) == name


def test_a_file_that_is_no_python_has_no_names(tmp_path):
    (tmp_path / "net.py").write_text("one = = f()\n")
    assert named(tmp_path / "net.py", 1) == ""
