"""Two programs side by side: every line once, in order, the likest beside each other."""

import pytest

from torch2mlx.common.side_by_side import folded, rows_of

OLD = """class Net(nn.Module):
    '''A net.'''

    def __init__(self, width):
        super().__init__()
        self.one = nn.Linear(width, 3)

    def forward(self, x):
        return F.relu(self.one(x))
"""
NEW = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 3)

    def __call__(self, x):
        return nn.relu(self.one(x))
"""


def text(rows, side):
    """A side's lines, put together again."""
    number = f"{side}_number"
    shown = [row for row in rows if getattr(row, number)]
    assert [getattr(row, number) for row in shown] == list(range(1, len(shown) + 1))
    return ["".join(piece for piece, _ in getattr(row, side)) for row in shown]


@pytest.mark.parametrize(
    "old, new",
    [
        (OLD, NEW),
        (NEW, OLD),
        ("", NEW),
        (OLD, ""),
        ("", ""),
        ("\n\n", "\n"),
        ("a\n\nb\n", "c\n\nd\n"),
        ("\n".join(map(str, range(90))), "\n".join(map(str, range(400, 480)))),
    ],
)
def test_each_line_of_both_stands_there_once_and_in_order(old, new):
    rows = rows_of(old, new)
    assert text(rows, "old") == old.splitlines() and text(rows, "new") == new.splitlines()
    for row in rows:
        same = (
            row.old_number
            and row.new_number
            and text([row_at(row)], "old") == text([row_at(row)], "new")
        )
        assert (row.kind == "equal") == bool(same)


def row_at(row):
    """The row as if it were the first of both."""
    from dataclasses import replace

    return replace(row, old_number=1, new_number=1)


def test_lines_that_are_alike_stand_beside_each_other():
    beside = {row.old_number: row.new_number for row in rows_of(OLD, NEW)}
    assert beside == {1: 1, 2: 0, 3: 0, 4: 2, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7}


def test_what_differs_within_a_line_is_marked():
    (row,) = rows_of("x = F.relu(x)", "x = nn.relu(x)")
    assert row.old == (("x = ", False), ("F", True), (".relu(x)", False))
    assert row.new == (("x = ", False), ("nn", True), (".relu(x)", False))


def test_equal_lines_fold_away_but_those_around_a_difference_and_those_kept():
    old = "\n".join("abcdefghijklmnopqrst")
    rows = rows_of(old, old.replace("j", "J"))
    shown = [len(part.rows) if part.shown else 0 for part in folded(rows, 2)]
    assert shown == [0, 6, 0]  # the line is another, not one that changed
    parts = list(folded(rows, 2, frozenset({1})))
    assert [part.shown for part in parts] == [True, False, True, False]
    assert sum(len(part.rows) for part in parts) == 21
