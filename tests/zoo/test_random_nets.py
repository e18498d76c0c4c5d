"""Random networks: the same seed gives the same text, which torch runs and translate takes."""

from __future__ import annotations

import ast

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

from tests.zoo import random_nets, random_source


def test_a_seed_gives_one_text_and_seeds_differ() -> None:
    texts = [random_source.source(seed)[0] for seed in range(40)]
    assert texts == [random_source.source(seed)[0] for seed in range(40)]
    assert len(set(texts)) == 40
    for text in texts:
        ast.parse(text)


def test_every_form_is_written() -> None:
    """No form stands in the tables that no network of some hundred has."""
    texts = "\n".join(random_source.source(seed)[0] for seed in range(400))
    heads = [head.split("{row}")[0] for head, _ in random_source._HEADS]
    assert all(head in texts for head in heads)
    for words in ("= self.row", "Block1(", "kept", ".permute(", "ConvTranspose2d", "einsum"):
        assert words in texts


@pytest.mark.parametrize("seed", [1, 3])
def test_networks_are_judged(seed: int) -> None:
    assert random_nets._verdict(seed) == (random_nets.RIGHT, "")
