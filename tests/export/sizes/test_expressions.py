"""Numbers as expressions of fields: the simplest that fit at all sizes, several where they tie."""

import pytest

from torch2mlx.export.sizes.expressions import Expression, Expressions
from torch2mlx.export.sizes.fields import Field
from torch2mlx.export.sizes.fitting import _by_chance

WIDTH, HEADS, DEPTH = (Field((name,), 1) for name in ("width", "heads", "depth"))
RATE, THETA = Field(("rate",), 0.1), Field(("args", "theta"), 1.0, True)
SIZES = [
    {("width",): 24, ("heads",): 4, ("depth",): 2, ("rate",): 0.2, ("args", "theta"): 10000.0},
    {("width",): 84, ("heads",): 3, ("depth",): 5, ("rate",): 0.35, ("args", "theta"): 5000.0},
    {("width",): 60, ("heads",): 5, ("depth",): 3, ("rate",): 0.15, ("args", "theta"): 777.0},
]
ALL = (WIDTH, HEADS, DEPTH, RATE, THETA)


def found(*texts):
    made = Expressions(ALL, SIZES).of([str(t) for t in texts])
    return [e.text({f: f.text for f in e.fields}) for e in made]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((24, 84, 60), "width"),
        ((72, 252, 180), "3 * width"),
        ((26, 86, 62), "width + 2"),
        ((12, 42, 30), "width // 2"),
        ((6, 28, 12), "width // heads"),
        ((96, 252, 300), "width * heads"),
        ((3, 14, 6), "width // heads // 2"),
        ((5, 7, 7), "heads + depth - 1"),
        ((32, 99, 75), "heads * depth + width"),
        ((0.2, 0.35, 0.15), "rate"),
        ((24**-0.5, 84**-0.5, 60**-0.5), "width ** -0.5"),
        ((6**-0.5, 28**-0.5, 12**-0.5), "(width // heads) ** -0.5"),
        ((4.8989797, 9.1651516, 7.7459669), "width ** 0.5"),
    ],
)
def test_the_simplest_expression_is_found(numbers, text):
    assert found(*numbers) == [text]


def test_what_no_expression_gives_has_none():
    assert found(17, 1001, 5) == []
    assert found(0.123, 0.456, 0.789) == []


def test_two_that_fit_are_both_told():
    twin = Field(("other",), 1)
    sizes = [{**s, ("other",): s["width",]} for s in SIZES]
    made = Expressions((WIDTH, twin), sizes).of(["24", "84", "60"])
    assert [e.fields for e in made] == [(WIDTH,), (twin,)]


def test_frequencies_of_rotary_positions_are_powers_of_their_base():
    tables = [
        str([float(f"{b ** (-i / w):.8g}") for i in range(0, w, 2)])
        for b, w in ((10000.0, 6), (5000.0, 28), (777.0, 12))
    ]
    assert found(*tables) == [
        "[args.theta ** (-i / (width // heads)) for i in range(0, width // heads, 2)]"
    ]


def test_a_number_is_told_at_a_size_that_was_not_used():
    made = Expressions(ALL, SIZES).of(["6", "28", "12"])[0]
    assert made.gives("9", {("width",): 36, ("heads",): 4})
    assert not made.gives("10", {("width",): 36, ("heads",): 4})
    assert not made.gives("9.0", {("width",): 36, ("heads",): 4})


def test_a_quotient_with_a_rest_is_simpler_than_one_by_a_part_of_another_field():
    limit = Field(("limit",), 1)
    sizes = [
        {("width",): 120, ("heads",): 12, ("limit",): 48},
        {("width",): 180, ("heads",): 26, ("limit",): 120},  # both 180 // 26 and 180 // 30 are 6
    ]
    made = Expressions((WIDTH, HEADS, limit), sizes).of(["10", "6"])
    assert [e.text({f: f.text for f in e.fields}) for e in made] == ["width // heads"]


@pytest.mark.parametrize(
    ("texts", "sure"),
    [
        (("width // heads", "width // heads // 2"), True),
        (("width // heads", "width // (depth // 2)"), False),
        (("width", "2 * depth"), True),
        (("width * heads + depth",), False),
    ],
)
def test_numbers_of_many_parts_need_more_sizes_unless_a_part_is_known(texts, sure):
    def made(text):
        fields = [f for f in (WIDTH, HEADS, DEPTH) if f.text in text]
        for i, one in enumerate(fields):
            text = text.replace(one.text, f"{{{i}}}")
        return Expression(text, tuple(fields), ())

    assert _by_chance([made(text) for text in texts]) is not sure
