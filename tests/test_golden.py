"""The golden record says the same twice, and shows what differs."""

from tests.support import need

need("torch", "mlx.core", "libcst")

from tools import golden

SECTIONS = {name: golden.SECTIONS[name] for name in ("names", "help")}


def test_two_records_of_one_tree_are_equal(tmp_path, capsys):
    for folder in ("a", "b"):
        assert golden.write(tmp_path / folder, SECTIONS) > len(golden.PUBLIC)
    assert golden.compare(tmp_path / "a", tmp_path / "b") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 of ")


def test_what_differs_is_shown_and_counted(tmp_path, capsys):
    for folder, text in (("a", "mx.add(x, y)\n"), ("b", "x + y\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "both.txt").write_text(text)
    (tmp_path / "b" / "new.txt").write_text("new\n")
    assert golden.compare(tmp_path / "a", tmp_path / "b") == 2
    shown = capsys.readouterr().out.splitlines()
    assert {"-mx.add(x, y)", "+x + y", "+new", "2 of 2 differ"} <= set(shown)


def test_a_refusal_is_what_is_said(tmp_path):
    def refused():
        from torch2mlx.errors import PortError

        raise PortError("line 3: no Python")

    golden.write(tmp_path, {"said": lambda: iter([("one", refused)])})
    assert (tmp_path / "said" / "one.txt").read_text() == "PortError: line 3: no Python\n"
