"""Lists of a file that a list of the settings tells: one item for each layer."""

from torch2mlx.export.sizes.fields import Field
from torch2mlx.export.sizes.lines import statements
from torch2mlx.export.sizes.series import with_series, with_tables

WAY = ("args", "kinds")


def test_a_field_with_a_list_is_found_in_a_mapping():
    one = Field(WAY, ["near", "far"], True)
    assert {one: one.text}[Field(WAY, ["near", "far"], True)] == "args.kinds"


def told(text, *kinds):
    (made,) = with_series(statements(text + "\n"), [WAY], {WAY: list(kinds)})
    return made.written({})


def test_items_that_the_kind_of_a_layer_tells_are_written_by_kind():
    by_kind = '[{"far": mask, "near": mask_2}[kind] for kind in __told_by_0__]'
    assert told("x = zip([mask_2, mask], c)", "near", "far") == f"x = zip({by_kind}, c)"
    three = told("x = zip([mask_2, mask, mask_2], c)", "near", "far", "near")
    assert three == f"x = zip({by_kind}, c)"


def test_places_of_an_array_are_no_list():
    for text in ("y = x[:, None]", "y = f(x)[:, None]", "y = x[0][None, :]"):
        assert told(text, "near", "far") == text


def test_tables_of_any_length_are_one_number():
    for table in ("[1.0]", "[1.0, 0.5]", "[1.0, 0.1, 0.01]"):
        (made,) = with_tables(statements(f"x = mx.array({table})\n"))
        assert [number.text for number in made.numbers] == [table]
