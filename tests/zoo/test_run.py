"""What a run over all architectures says of what became longer or slower."""

from tests.zoo.run import DOCS, agreed, figures, grown, page, renewed

ROW = {"name": "a", "outputs": 1, "difference": 1e-7, "transposes": 0, "note": ""}


def rows(lines, seconds):
    return [{**ROW, "lines": lines, "seconds": seconds}]


def test_what_grew_is_told_and_what_stayed_is_not():
    before = figures(page(rows(200, 30.0)))
    assert before == {"a": (200, 30.0)}
    assert not grown(rows(230, 69.0), before) and not grown(rows(20, 3.0), before)
    assert grown(rows(231, 30.0), before) == ["a: 231 lines, 200 before"]
    assert grown(rows(200, 71.0), before) == ["a: 71 s, 30 before"]
    assert not grown([{"name": "a", "note": "took too long"}], before)
    assert not grown(rows(999, 99.0), {})


def test_the_page_of_the_last_run_is_read():
    text = DOCS.read_text()
    assert agreed(text) <= set(figures(text)) and len(figures(text)) > 240


def test_rows_of_some_are_written_anew():
    both = [{**rows(9, 1.0)[0], "agree": 2}, {**rows(7, 1.0)[0], "name": "b"}]
    wrong = {**both[1], "agree": 1, "wrong": ["at x (3, 4)"]}
    text = renewed(page(both), [wrong])
    assert text == page([both[0], wrong]) and agreed(text) == {"a"}
    assert "1 of 2 agree within" in text and "2 of 2 agree at another size" in text
    assert renewed(DOCS.read_text(), []) == DOCS.read_text()
