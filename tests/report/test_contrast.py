"""The stylesheet alone: every colour has a name, and every text enough contrast on its ground."""

import re

import pytest

from torch2mlx.common.cards import style

LEAST = 4.5
#: Grounds on which any text stands, and which tones stand on the plain two.
TONES = ("text", "muted", "accent", "good", "warn", "bad")
PLAIN = ("page", "raised")
CELLS = ("mapped", "kit", "own", "custom", "refused")
MARKED = ("removed", "removed-mark", "added", "added-mark")
#: What is no text: lines between rows.
DRAWN = ("line",)

CSS = re.sub(r"/\*.*?\*/", "", style(), flags=re.DOTALL)
TOKENS = re.compile(r"--([\w-]+):\s*(#[0-9a-f]{6});")


def schemes():
    """The named colours of the light scheme and of the dark one."""
    light, dark = [
        dict(TOKENS.findall(block)) for block in re.findall(r"\{([^{}]*--page:[^{}]*)\}", CSS)
    ]
    return {"light": light, "dark": dark}


def luminance(colour):
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_contrast_is_computed_as_it_is_defined():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast_on_every_ground_it_may_stand_on(scheme):
    colours = schemes()[scheme]
    assert set(colours) == {*TONES, *PLAIN, *CELLS, *MARKED, *DRAWN}
    pairs = [(tone, ground) for tone in TONES for ground in PLAIN]
    pairs += [("text", ground) for ground in (*CELLS, *MARKED)]
    low = {
        pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2)
        for pair in pairs
        if contrast(colours[pair[0]], colours[pair[1]]) < LEAST
    }
    assert not low


def rules():
    """(selector, declarations) of every rule."""
    for selector, body in re.findall(r"([^{};]+)\{([^{}]*)\}", CSS):
        yield selector.strip(), body


def test_colours_are_named_in_one_place_and_used_as_what_they_are_for():
    for selector, body in rules():
        if "--page:" in body:
            continue
        assert not re.search(r"#[0-9a-f]{3,8}\b|(rgb|hsl)a?\(", body), selector
        for tone in re.findall(r"(?<![-\w])color:\s*var\(--([\w-]+)\)", body):
            assert tone in TONES, selector
        for ground in re.findall(r"background:\s*var\(--([\w-]+)\)", body):
            assert ground in (*PLAIN, *CELLS, *MARKED), selector


def test_only_plain_text_stands_on_coloured_grounds():
    """Rules that give a coloured ground leave the text as it is, or make it plain."""
    for selector, body in rules():
        ground = re.search(r"background:\s*var\(--([\w-]+)\)", body)
        tone = re.search(r"(?<![-\w])color:\s*var\(--([\w-]+)\)", body)
        if ground and tone and ground[1] not in PLAIN:
            assert tone[1] == "text", selector
