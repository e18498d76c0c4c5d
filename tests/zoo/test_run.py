"""What a run over all architectures says of what became longer or slower."""

from tests.zoo.run import DOCS, agreed, figures, grown, page

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
