"""Emitted source as statements: each on one line, with its numbers."""

from torch2mlx.export.sizes.lines import statements

FILE = '''"""A file."""

import mlx.nn as nn


class Block(nn.Module):
    def __init__(self, x_2):
        super().__init__()
        self.layers = [
            nn.Linear(32, 1e-05, 0.5),
            nn.Norm(x_2),
        ]

    def __call__(self, x):
        if x.shape[1] > 64:
            raise ValueError(
                f"x.shape[1] is {x.shape[1]}, "
                "translated where x.shape[1] <= 64"
            )
        return (x[:, 5:],)
'''


def test_a_broken_statement_is_one_line_without_the_comma_before_the_bracket():
    made = statements(FILE)[5]
    assert made.written({}) == "self.layers = [nn.Linear(32, 1e-05, 0.5), nn.Norm(x_2)]"
    assert [number.text for number in made.numbers] == ["32", "1e-05", "0.5"]
    assert made.place == ("Block", "__init__")


def test_a_tuple_of_one_keeps_its_comma():
    assert statements(FILE)[-1].written({}) == "return (x[:, 5:],)"


def test_numbers_within_strings_are_found_and_those_of_names_are_not():
    made = statements(FILE)[8]
    assert [n.text for n in made.numbers if n.quoted] == ["1", "1", "1", "64"]
    assert "x_2" in statements(FILE)[5].texts[-1]


def test_other_numbers_are_written_in_their_places():
    made = statements(FILE)[5]
    assert made.written({0: "width", 2: "rate"}) == (
        "self.layers = [nn.Linear(width, 1e-05, rate), nn.Norm(x_2)]"
    )


def test_empty_lines_before_a_statement_are_counted():
    assert [made.blank for made in statements(FILE)] == [0, 1, 2, 0, 0, 0, 1, 0, 0, 0]
